"""A matmul call site: what selection knows about one product, and the arrays it is tried on.

In: a matmul kernel with its operands' shapes and strides, from the compiler. Out: `CallSite`, the
description that keys every memory of a choice, and `Operands`, the arrays of the call at hand.

>>> site = CallSite("matmul", shapes=((8, 16), (16, 4)), strides=((16, 1), (1, 16)),
...                 dtypes=("float32", "float32"), location=Location("model.py", 12))
>>> print(site)
matmul at model.py:12, float32 [8, 16] @ [16, 4]
>>> site.key
'matmul f32[8,16]{16,1} @ f32[16,4]{1,16} on cpu'
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from minicomp.ir import Location, short_dtype

Shape = tuple[int, ...]


@dataclass(frozen=True)
class CallSite:
    """One product `a @ b`; a pair in `shapes`, `strides` (in elements) and `dtypes` is (a, b).

    `epilogue` is the text of what follows the product in the same step (bias, activation, ...),
    empty if nothing does. `windows` says of which windows of which images the rows of a are, where
    minicomp's own candidates read these in place: a convolution. Two sites are equal if all but
    their location is.
    """

    op: str
    shapes: tuple[Shape, Shape]
    strides: tuple[Shape, Shape]
    dtypes: tuple[str, str]
    device: str = "cpu"
    epilogue: str = ""
    windows: str = ""
    location: Location | None = field(default=None, compare=False)

    @property
    def key(self) -> str:
        """Everything but the location, as one line: equal sites have equal keys."""
        operands = " @ ".join(
            f"{short_dtype(dtype)}[{_commas(shape)}]{{{_commas(strides)}}}"
            for dtype, shape, strides in zip(self.dtypes, self.shapes, self.strides, strict=True)
        )
        epilogue = f", then {self.epilogue}" if self.epilogue else ""
        windows = f", a of {self.windows}" if self.windows else ""
        return f"{self.op} {operands} on {self.device}{windows}{epilogue}"

    @property
    def depth(self) -> int:
        """k: how many products are summed for one element."""
        return self.shapes[0][-1]

    @property
    def product_shape(self) -> Shape:
        """The shape of the bare product, before the epilogue."""
        a, b = self.shapes
        return (*np.broadcast_shapes(a[:-2], b[:-2]), a[-2], b[-1])

    @property
    def product_dtype(self) -> str:
        return self.dtypes[0]

    @property
    def is_batched(self) -> bool:
        return len(self.product_shape) > 2

    @property
    def is_empty(self) -> bool:
        """Whether the product has no elements at all."""
        return prod(self.product_shape) == 0

    @property
    def where(self) -> str:
        """`matmul at model.py:12`, for messages."""
        return f"{self.op} at {self.location}" if self.location is not None else self.op

    def __str__(self) -> str:
        a, b = self.shapes
        return f"{self.where}, {self.dtypes[0]} {list(a)} @ {list(b)}"


@dataclass(frozen=True, eq=False)
class Operands:
    """The arrays of the call that is being tuned.

    `a` and `b` are the operands as an external gets them: views, with the site's shapes and
    strides. `output` is the array in which a candidate's `run` leaves the final result, the same
    one for all candidates; its shape may be another than the product's, with the elements in the
    same order. `epilogue` maps a product (a NumPy array of the product's shape and dtype) to what
    `output` must then hold; None is the identity. Without `output`, what candidates leave behind
    after the epilogue is not checked.
    """

    a: Any
    b: Any
    output: Any = None
    epilogue: Callable[[np.ndarray], np.ndarray] | None = None


def _commas(numbers: Shape) -> str:
    return ",".join(map(str, numbers))
