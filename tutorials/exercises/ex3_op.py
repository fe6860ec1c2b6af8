"""Exercise 3: an op.

softplus(x) = log(1 + exp(x)) is a relu with a soft corner. minicomp has no such op. An op of the
table is a meaning, in NumPy, and code, for every back end. The meaning below is given; you write
the code.

Code is written through the emitter: `emitter.exp(x)` emits the instructions of an exponential and
gives a handle to the result, `emitter.add(a, b)` an addition, and so on for each op of the table.
Whether a handle is one number or a vector of sixteen is not your concern. Constants are made by
`emitter.constant(emitter.dtype(x), 1.0)`. The methods are listed in minicomp/codegen/emitter.py
and minicomp/codegen/math.py.
"""

import numpy as np


def softplus_meaning(x: np.ndarray) -> np.ndarray:
    """log(exp(0) + exp(x)), as the interpreter has it."""
    return np.logaddexp(np.zeros_like(x), x)


def softplus_code(emitter, x):
    """The same through an emitter, right for every x: exp(x) must not overflow."""
    # TODO: emit softplus and return the handle of the result.
    raise NotImplementedError


HINTS = (
    "The formula as it stands overflows: exp(100) is more than float32 can hold. For large x the "
    "result is x itself, nearly.",
    "log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|)), where nothing can overflow.",
    "log(1 + y) for a small y loses y's digits; `emitter.log1p(y)` does not.",
)
