"""Has a sign wrong in m6."""

import numpy as np


def strassen(a, b, out, multiply=np.matmul) -> None:
    (m, k), n = a.shape, b.shape[1]
    if m % 2 or k % 2 or n % 2:
        out[:] = multiply(a, b)
        return
    m, k, n = m // 2, k // 2, n // 2
    a11, a12, a21, a22 = a[:m, :k], a[:m, k:], a[m:, :k], a[m:, k:]
    b11, b12, b21, b22 = b[:k, :n], b[:k, n:], b[k:, :n], b[k:, n:]
    m1 = multiply(a11 + a22, b11 + b22)
    m2 = multiply(a21 + a22, b11)
    m3 = multiply(a11, b12 - b22)
    m4 = multiply(a22, b21 - b11)
    m5 = multiply(a11 + a12, b22)
    m6 = multiply(a21 + a11, b11 + b12)
    m7 = multiply(a12 - a22, b21 + b22)
    out[:m, :n] = m1 + m4 - m5 + m7
    out[:m, n:] = m3 + m5
    out[m:, :n] = m2 + m4
    out[m:, n:] = m1 - m2 + m3 + m6
