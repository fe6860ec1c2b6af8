"""Exercise 6: an external.

In 1969 Strassen found that two matrices, cut into halves both ways, can be multiplied with seven
products of the halves instead of eight. Written as an external, `fn(a, b, out)`, his algorithm can
be offered to minicomp at every matmul.

With a = [[a11, a12], [a21, a22]] and b cut alike:

    m1 = (a11 + a22) (b11 + b22)      m5 = (a11 + a12) b22
    m2 = (a21 + a22) b11              m6 = (a21 - a11) (b11 + b12)
    m3 = a11 (b12 - b22)              m7 = (a12 - a22) (b21 + b22)
    m4 = a22 (b21 - b11)

    a b = [[m1 + m4 - m5 + m7,  m3 + m5          ],
           [m2 + m4,            m1 - m2 + m3 + m6]]

An external writes all of `out`, changes neither `a` nor `b` (they are read-only), and takes what it
is given: operands may be views with any strides, and sizes may be odd.
"""

from collections.abc import Callable

import numpy as np


def strassen(
    a: np.ndarray,
    b: np.ndarray,
    out: np.ndarray,
    multiply: Callable[[np.ndarray, np.ndarray], np.ndarray] = np.matmul,
) -> None:
    """out = a @ b, by one step of Strassen's algorithm where all sizes are even, else by one call
    of `multiply`. The seven products are `multiply(x, y)` too, so that tests can count them."""
    # TODO: fill out; return nothing.
    raise NotImplementedError


HINTS = (
    "Start with the odd case, which is allowed to be plain: `out[:] = multiply(a, b)`. That passes "
    "the first test.",
    "Halves are slices: with m, k = a.shape, `a[: m // 2, k // 2 :]` is a12. Slices of views are "
    "views; nothing is copied.",
    "Seven calls of `multiply`, then four assignments into quarters of `out`, such as "
    "`out[: m // 2, n // 2 :] = m3 + m5`. Mind the signs: the table of candidates will tell.",
)
