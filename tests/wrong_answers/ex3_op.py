"""Overflows, and loses the digits of small results."""

import numpy as np


def softplus_meaning(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(np.zeros_like(x), x)


def softplus_code(emitter, x):
    one = emitter.constant(emitter.dtype(x), 1.0)
    return emitter.log(emitter.add(one, emitter.exp(x)))
