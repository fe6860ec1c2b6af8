"""LLVM's intrinsic functions: declared in a module where they are first called.

In: a builder, and what is to be done. Out: a call, of a function that LLVM knows by its name.
"""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from minicomp.codegen.llvm_types import i32, literal, void

#: What a line is fetched for: to be used at once, or to wait in the L2 cache.
NEAREST, SECOND_LEVEL = 3, 2


def call_intrinsic(
    builder: ir.IRBuilder,
    name: str,
    result: ir.Type,
    arguments: Sequence[ir.Value],
    fastmath: Sequence[str] = (),
) -> ir.Value:
    """Call the intrinsic of that name."""
    function = builder.module.globals.get(name)
    if function is None:
        types = [argument.type for argument in arguments]
        function = ir.Function(builder.module, ir.FunctionType(result, types), name)
    return builder.call(function, arguments, fastmath=fastmath)


def fetch(builder: ir.IRBuilder, address: ir.Value, level: int, is_written: bool) -> None:
    """Ask for the cache line at `address`, which may lie outside every buffer: it is a hint."""
    numbers = (int(is_written), level, 1)  # 1: it is data, not code
    arguments = [address, *(literal(i32, number) for number in numbers)]
    call_intrinsic(builder, "llvm.prefetch.p0", void, arguments)
