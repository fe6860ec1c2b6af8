"""The frame every CPU kernel shares: its signature, its named buffers, and counted loops.

A kernel is `void @name(ptr args, i64 begin, i64 end)`: it does the parallel units [begin, end).
`args` points to an array of pointers, one per kernel argument. The exported function only unpacks
them and calls an internal one whose parameters are named after the tensors and marked `noalias`,
which is what lets LLVM keep values in registers across stores.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from llvmlite import ir

from minicomp.codegen.llvm_types import i64, literal, pointer, void
from minicomp.kernels import Argument


@dataclass
class KernelFunction:
    """A kernel under construction: `builder` stands at the start of the body."""

    module: ir.Module
    builder: ir.IRBuilder
    pointers: list[ir.Value]  # one per argument, in order, then the extra ones
    begin: ir.Value
    end: ir.Value

    def entry_alloca(self, kind: ir.Type, name: str, align: int | None = None) -> ir.Value:
        """A stack slot in the entry block, where LLVM's passes can turn it into a register."""
        with self.builder.goto_entry_block():
            slot = self.builder.alloca(kind, name=name)
        slot.align = align
        slot.type = pointer  # llvmlite still types it by its pointee, which LLVM no longer reads
        return slot


def symbol(name: str) -> str:
    """A name LLVM and linkers take unquoted."""
    return re.sub(r"[^A-Za-z0-9_]", "_", name)


def kernel_function(
    name: str,
    arguments: Sequence[Argument],
    target: object,
    comment: str,
    extra: Sequence[str] = (),
) -> KernelFunction:
    """The module of one kernel, with its unpacking wrapper done and its body begun.

    `extra` names further pointers that follow the arguments in `args` (a workspace, say).
    `comment` is put at the head of the body, line by line.
    """
    module = ir.Module(name=name)
    module.triple = getattr(target, "triple", "")
    names = [symbol(argument.name) for argument in arguments] + list(extra)
    body_type = ir.FunctionType(void, [*[pointer] * len(names), i64, i64])
    body = ir.Function(module, body_type, f"{name}_body")
    body.linkage = "internal"
    for parameter, parameter_name in zip(body.args, names):
        parameter.name = parameter_name
        parameter.add_attribute("noalias")
    begin, end = body.args[-2:]
    begin.name, end.name = "begin", "end"
    _unpacking_wrapper(module, name, body, names)
    builder = ir.IRBuilder(body.append_basic_block("entry"))
    for line in comment.splitlines():
        builder.comment(line)
    start = builder.append_basic_block("start")
    builder.branch(start)
    builder.position_at_end(start)
    return KernelFunction(module, builder, list(body.args[:-2]), begin, end)


def _unpacking_wrapper(
    module: ir.Module, name: str, body: ir.Function, names: Sequence[str]
) -> None:
    wrapper = ir.Function(module, ir.FunctionType(void, [pointer, i64, i64]), name)
    arguments, begin, end = wrapper.args
    arguments.name, begin.name, end.name = "args", "begin", "end"
    builder = ir.IRBuilder(wrapper.append_basic_block("entry"))
    loaded = []
    for position, argument_name in enumerate(names):
        slot = builder.gep(arguments, [literal(i64, position)], source_etype=pointer)
        loaded.append(builder.load(slot, name=argument_name, typ=pointer))
    builder.call(body, [*loaded, begin, end])
    builder.ret_void()


@contextmanager
def counted_loop(
    builder: ir.IRBuilder, start: ir.Value, stop: ir.Value, step: int, name: str
) -> Iterator[ir.Value]:
    """for name = start; name < stop; name += step. Yields the counter; tests before each round."""
    head = builder.append_basic_block(f"{name}.head")
    body = builder.append_basic_block(f"{name}.body")
    # Appended after the body, so that the text reads in the order of execution.
    done = ir.Block(builder.function, name=f"{name}.done")
    before = builder.block
    builder.branch(head)
    builder.position_at_end(head)
    counter = builder.phi(i64, name=name)
    counter.add_incoming(start, before)
    builder.cbranch(builder.icmp_signed("<", counter, stop), body, done)
    builder.position_at_end(body)
    yield counter
    following = builder.add(counter, literal(i64, step), name=f"{name}.next", flags=["nsw"])
    counter.add_incoming(following, builder.block)
    builder.branch(head)
    builder.function.blocks.append(done)
    builder.position_at_end(done)
