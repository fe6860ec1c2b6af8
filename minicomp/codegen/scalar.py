"""The visitor that turns a kernel's scalar expressions into a back end's instructions.

In: a `kernels.Scalar` DAG and an emitter. Out: the emitter's handle for its value. It is the only
code that walks scalar expressions for code generation, on every target.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minicomp.codegen.emitter import Handle
from minicomp.kernels import Apply, Literal, Load, Position, Product, Reduced, Scalar


class ScalarVisitor:
    """Evaluates scalars at one point of the loop nest; each shared subexpression once.

    `emitter` has the op methods plus `load(buffer, index)` and `position(index, dtype)`, which
    know the loop variables' current values. `bound` gives handles to leaves that the enclosing
    kernel has computed: reductions that are finished (by `Reduced` number) and the product.
    """

    def __init__(self, emitter: Any, bound: Mapping[int | str, Handle]):
        self.emitter = emitter
        self.bound = bound
        self.done: dict[int, Handle] = {}

    def __call__(self, scalar: Scalar) -> Handle:
        key = id(scalar)
        if key not in self.done:
            self.done[key] = self.evaluate(scalar)
        return self.done[key]

    def evaluate(self, scalar: Scalar) -> Handle:
        emitter = self.emitter
        match scalar:
            case Load():
                return emitter.load(scalar.buffer, scalar.index)
            case Literal():
                return emitter.constant(scalar.dtype, scalar.value)
            case Position():
                return emitter.position(scalar.index, scalar.dtype)
            case Reduced():
                return self.bound[scalar.number]
            case Product():
                return self.bound["product"]
            case Apply(op="cast"):
                return emitter.cast(self(scalar.operands[0]), scalar.dtype)
            case Apply():
                return getattr(emitter, scalar.op)(*map(self, scalar.operands))
        raise TypeError(f"no code generation for {type(scalar).__name__}")
