"""The error function, in two polynomials and no division or exponential.

In: a handle of float32 or float64. Out: a handle of the same dtype; erf(+-inf) is +-1.

    |x| <= split:  erf(x) = x + x * ERF(x**2)
    |x| >  split:  erf(x) = 1 - ERFC(|x| - middle), up to where it rounds to 1

Or in one short polynomial for each of sixteen pieces, in float32, where a CPU finds a lane's
coefficients with one instruction each: 17 instructions instead of 27.

    |x| = (piece + r) / scale, |r| <= 1/2:  erf(x) = PIECES(piece)(r)
"""

from __future__ import annotations

from minicomp.codegen.emitter import Handle
from minicomp.codegen.math_basics import Basics

# Fitted by tests/benchmarks/fit_polynomials.py. Errors in ulp of erf(x), before rounding errors.

#: Where ERFC takes over, and where erf(x) has become 1.
SPLIT = {"float32": 1.2, "float64": 1.25}
END = {"float32": 3.95, "float64": 5.93}

#: erf(x) / x - 1 in x**2 for |x| <= SPLIT. Errors 0.24 ulp (float32) and 0.10 ulp (float64).
ERF = {
    "float32": (
        0.128379151,
        -0.376125365,
        0.112826869,
        -0.026820356,
        0.00513161998,
        -0.000756465888,
        6.53353927e-5,
    ),
    "float64": (
        0.12837916709551259,
        -0.37612638903184004,
        0.11283791670963596,
        -0.026866170646256193,
        0.0052239776331988712,
        -0.00085483273404191279,
        0.00012055341222716447,
        -1.4925791607888867e-5,
        1.6463721940855158e-6,
        -1.6377649528078281e-7,
        1.48571492637286e-8,
        -1.2352930932994205e-9,
        8.9588187015434949e-11,
        -4.2568402876455026e-12,
    ),
}

#: 1 - erf(x) in x - (SPLIT + END) / 2 for SPLIT <= x <= END. Errors 0.10 ulp and 0.49 ulp.
ERFC = {
    "float32": (
        0.000270945166,
        -0.00148866314,
        0.00383363641,
        -0.00608540094,
        0.00655430462,
        -0.00492258463,
        0.00248615351,
        -0.000663165352,
        -0.000118995798,
        0.000204157448,
        -7.38204035e-5,
        -3.33234129e-6,
        8.72003056e-6,
        -1.53159942e-6,
    ),
    "float64": (
        3.8338703692492291e-7,
        -2.8524914222278119e-6,
        1.0240444199627727e-5,
        -2.3557965986368493e-5,
        3.8873067653321203e-5,
        -4.87543352544045e-5,
        4.797653573625295e-5,
        -3.7602043525599713e-5,
        2.3467150541592021e-5,
        -1.1410061299884433e-5,
        4.0204801639492258e-6,
        -7.5717876768808942e-7,
        -1.5610966509918411e-7,
        1.9300550979850873e-7,
        -7.8407171007495997e-8,
        1.3632026324334727e-8,
        3.0365455293130153e-9,
        -2.7841043182872801e-9,
        7.8956545549475886e-10,
        -2.252258163094085e-11,
        -6.5345210489758041e-11,
        2.4719825166601609e-11,
        -2.8184947269262439e-12,
        -1.2655925969519323e-12,
        6.9388028466080416e-13,
        -8.2953580702563979e-14,
        -4.3063012347866886e-14,
        1.4425479341560043e-14,
        9.6738652602129834e-16,
        -8.7970866696820204e-16,
        1.5438239877673559e-17,
        2.7808802639151208e-17,
        -9.2463435868368314e-19,
        -3.8486495237427045e-19,
    ),
}

#: erf((piece + r) / PIECE_SCALE) in r for |r| <= 1/2: for each power of r the coefficients of all
#: pieces. Errors 0.48 ulp. The first piece has no constant term, so that it is relatively exact.
PIECE_SCALE = 3.8974609375
PIECES = (
    (
        0.0, 0.28328687, 0.531983554, 0.723654389, 0.853337169, 0.930364668, 0.970529199,
        0.988914311, 0.996302068, 0.998908043, 0.999714971, 0.999934316, 0.999986649,
        0.999997616, 0.999999642, 0.99999994,
    ),
    (
        0.289516479, 0.271070898, 0.222490549, 0.160088226, 0.100977898, 0.0558357574,
        0.0270655975, 0.0115011679, 0.00428435486, 0.00139909761, 0.00040052511, 0.000100514939,
        2.21131486e-5, 4.26471206e-6, 7.21021081e-7, 1.06862501e-7,
    ),
    (
        1.3960884e-8, -0.0178448334, -0.0292937104, -0.0316171609, -0.0265905168, -0.018378878,
        -0.0106916288, -0.00530044967, -0.00225682859, -0.000828842807, -0.000263238588,
        -7.27252118e-5, -1.74698962e-5, -3.90135347e-6, -1.29863656e-6, 1.23384737e-7,
    ),
    (
        -0.00635336712, -0.00516561186, -0.00231128139, 0.000649568217, 0.00245206477,
        0.00280779018, 0.00222121854, 0.00137587695, 0.000698209915, 0.000296726212,
        0.000106930354, 3.2932774e-5, 8.71397697e-6, 1.98850694e-6, 3.92397453e-7,
        6.71021283e-8,
    ),
    (
        1.15504611e-6, 0.00055765768, 0.000790532737, 0.000629579532, 0.000262137706,
        -5.72201643e-5, -0.000199016664, -0.000198437818, -0.000132587287, -7.03504556e-5,
        -3.13296878e-5, -1.06744556e-5, -3.09444704e-6, 2.2221117e-7, 2.36585902e-6,
        -9.46908187e-7,
    ),
    (
        0.000123468752, 8.83506073e-5, 4.82393989e-6, -6.13276643e-5, -7.54291686e-5,
        -4.76707428e-5, -1.16892852e-5, 9.67210235e-6, 1.44476398e-5, 1.06537464e-5,
        5.64997072e-6, 2.35640846e-6, 8.03850696e-7, 2.27962857e-7, 5.45804753e-8, 1.1109262e-8,
    ),
)  # fmt: skip
#: Just before the end of the last piece; from 3.92 on erf(x) rounds to 1.
PIECES_END = 3.97


class ErrorFunction(Basics):
    """erf. A back end where `lookup` is cheap calls `erf_by_pieces` instead."""

    def erf(self, x: Handle) -> Handle:
        dtype = self.dtype(x)
        magnitude = self.at_most(self.abs(x), END[dtype])
        square = self.mul(magnitude, magnitude)
        small = self.fma(magnitude, self.polynomial(square, ERF[dtype]), magnitude)
        middle = self.like(x, (SPLIT[dtype] + END[dtype]) / 2)
        complement = self.polynomial(self.sub(magnitude, middle), ERFC[dtype])
        large = self.sub(self.like(x, 1.0), complement)
        near = self.le(magnitude, self.like(x, SPLIT[dtype]))
        return self.copysign(self.where(near, small, large), x)

    def erf_by_pieces(self, x: Handle) -> Handle:
        """erf(x) in float32."""
        magnitude = self.at_most(self.abs(x), PIECES_END)
        scale, magic = self.like(x, PIECE_SCALE), self.like(x, self.format(x).round_magic)
        rounded = self.fma(magnitude, scale, magic)
        piece = self.bitcast(rounded, "int32")  # its low bits are the nearest integer
        r = self.fma(magnitude, scale, self.neg(self.sub(rounded, magic)))
        total = self.lookup(PIECES[-1], piece)
        for coefficients in reversed(PIECES[:-1]):
            total = self.fma(total, r, self.lookup(coefficients, piece))
        return self.copysign(total, x)
