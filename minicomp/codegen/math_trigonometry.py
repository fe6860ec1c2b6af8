"""sin and cos, for arguments of any size.

In: a handle of float32 or float64. Out: a handle of the same dtype; NaN for infinities.

    |x| = n*(pi/2) + r, |r| <= pi/4
    sin(|x|) is sin(r), cos(r), -sin(r) or -cos(r) for n mod 4 = 0, 1, 2, 3; cos(x) is one further
    sin(r) = r + r**3 * SIN(r**2)
    cos(r) = 1 - r**2/2 + r**4 * COS(r**2)
"""

from __future__ import annotations

from math import pi

from minicomp.codegen.emitter import Handle
from minicomp.codegen.math_large_angles import LargeAngles

# Fitted by tests/benchmarks/fit_polynomials.py for |r| <= pi/4 + 0.006. Errors in ulp of the
# function's value, before rounding errors.

#: (sin(r) - r) / r**3 in r**2. Errors 0.070 ulp (float32) and 0.037 ulp (float64).
SIN = {
    "float32": (-0.166666538, 0.00833210628, -0.000195078974),
    "float64": (
        -0.16666666666666627,
        0.0083333333333211277,
        -0.00019841269828771576,
        2.7557313329933671e-6,
        -2.5050701044257344e-8,
        1.5893465046906584e-10,
    ),
}

#: (cos(r) - 1 + r**2/2) / r**4 in r**2. Errors 0.002 ulp and 0.001 ulp.
COS = {
    "float32": (0.0416666456, -0.00138873013, 2.44307503e-5),
    "float64": (
        0.041666666666666588,
        -0.0013888888888872099,
        2.4801587288204652e-5,
        -2.7557313981234687e-7,
        2.0875672681046692e-9,
        -1.1357024193248018e-11,
    ),
}

#: pi/2 as the sum of three numbers of the format, so that |x| - n*(pi/2) keeps its digits for |x|
#: up to LIMIT, near multiples of pi/2 too (Cody and Waite's reduction).
HALF_PI = {
    "float32": (1.57079637, -4.37113883e-8, -1.71512451e-15),
    "float64": (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33),
}
LIMIT = {"float32": 2.0**17, "float64": 2.0**30}


class Trigonometry(LargeAngles):
    """sin, cos."""

    def sin(self, x: Handle) -> Handle:
        result = self.sin_of_magnitude(self.abs(x), 0)
        return self.flip(result, self.bitcast(x, self.format(x).integer))

    def cos(self, x: Handle) -> Handle:
        return self.sin_of_magnitude(self.abs(x), 1)

    def sin_of_magnitude(self, a: Handle, quarters: int) -> Handle:
        """sin(a + quarters * pi/2) for a >= 0."""
        usual = self.sin_of_parts(*self.angle(a, quarters))
        large = self.gt(a, self.like(a, LIMIT[self.dtype(a)]))
        return self.rare(large, usual, lambda: self.sin_of_parts(*self.large_angle(a, quarters)))

    def angle(self, a: Handle, quarters: int) -> tuple[Handle, Handle]:
        """(n + quarters, r) with a = n*(pi/2) + r, for 0 <= a <= LIMIT; n is an integer."""
        # The number added for rounding brings the quarters into the integer's low bits.
        magic = self.like(a, self.format(a).round_magic + quarters)
        rounded = self.fma(a, self.like(a, 2 / pi), magic)
        n, r = self.sub(rounded, magic), a
        for part in HALF_PI[self.dtype(a)]:
            r = self.fma(n, self.like(a, -part), r)
        return self.bitcast(rounded, self.format(a).integer), r

    def sin_of_parts(self, n: Handle, r: Handle) -> Handle:
        """sin(n * pi/2 + r) for |r| <= pi/4, n an integer."""
        dtype = self.dtype(r)
        square = self.mul(r, r)
        cube = self.mul(square, r)
        sine = self.fma(cube, self.polynomial(square, SIN[dtype]), r)
        cosine = self.polynomial(square, (1.0, -0.5, *COS[dtype]))
        odd = self.ne(self.bit_and(n, self.like(n, 1)), self.like(n, 0))
        # Bit 1 of n is the sign.
        return self.flip(
            self.where(odd, cosine, sine), self.shift_left(n, self.format(r).width - 2)
        )
