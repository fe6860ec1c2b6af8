"""A whole program as one function: its kernels called in order, on buffers from a table.

In: steps, each a kernel's symbol, the numbers of its buffers, and how its units may be shared.
Out: the text of a module defining `void @main(ptr buffers, i64 threads)`, where `buffers` points
to an array of pointers. The kernels are declared only; linking finds them in libraries of their
own, so that programs share the kernels they have in common.

    >>> print(emit_program([Step("relu", (0, 2), units=1, grain=1)]))
    ...
    entry:
      %"args" = alloca [2 x ptr]
      ; step 0: relu(buffers 0, 2)
      ...
      call void @"relu"(ptr %"args", i64 0, i64 1)
      ret void

A kernel of more than `grain` units is called through `minicomp_parallel_for`.
"""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from minicomp.codegen.llvm_types import i64, literal, pointer, void
from minicomp.codegen.native_plan import Step

kernel_type = ir.FunctionType(void, [pointer, i64, i64])
parallel_for_type = ir.FunctionType(void, [pointer, pointer, i64, i64, i64])


def emit_program(steps: Sequence[Step], name: str = "main") -> str:
    """The text of `void @name(ptr buffers, i64 threads)`, which does the steps in order."""
    module = ir.Module(name=name, context=ir.Context())
    function = ir.Function(module, ir.FunctionType(void, [pointer, i64]), name)
    buffers, threads = function.args
    buffers.name, threads.name = "buffers", "threads"
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    longest = max((len(step.arguments) for step in steps), default=0)
    # One array for all steps: a call has returned before the next one's pointers are written.
    args = builder.alloca(ir.ArrayType(pointer, max(longest, 1)), name="args")
    args.type = pointer
    for number, step in enumerate(steps):
        builder.comment(f"step {number}: {step}")
        if step.units:
            _pass_buffers(builder, buffers, args, step)
            _call(builder, args, threads, step)
        else:
            builder.comment("nothing to do: no units")
    builder.ret_void()
    return str(module)


def _pass_buffers(builder: ir.IRBuilder, buffers: ir.Value, args: ir.Value, step: Step) -> None:
    """Copy the kernel's pointers from the table to the array it is called with."""
    for position, number in enumerate(step.arguments):
        source = _slot(builder, buffers, number)
        loaded = builder.load(source, name=f"buffer{number}", typ=pointer)
        builder.store(loaded, _slot(builder, args, position))


def _slot(builder: ir.IRBuilder, array: ir.Value, position: int) -> ir.Value:
    return builder.gep(array, [literal(i64, position)], source_etype=pointer)


def _call(builder: ir.IRBuilder, args: ir.Value, threads: ir.Value, step: Step) -> None:
    kernel = _declared(builder.module, step.kernel, kernel_type)
    units = literal(i64, step.units)
    if step.shared:
        parallel_for = _declared(builder.module, "minicomp_parallel_for", parallel_for_type)
        builder.call(parallel_for, [kernel, args, units, literal(i64, step.grain), threads])
    else:
        builder.call(kernel, [args, literal(i64, 0), units])


def _declared(module: ir.Module, name: str, kind: ir.FunctionType) -> ir.Function:
    function = module.globals.get(name)
    return function if function is not None else ir.Function(module, kind, name)
