"""The micro-kernel: one tile of the output, its sums in registers from the first k to the last.

In: a `Plan` and the size of the tile. Out: an internal LLVM function, to which the loops in
`llvm_matmul` pass a pointer to the tile's first row of `a`, one to its first column of `b`, and
where the tile lies. For a tile of 2 x 16 over a depth of 512:

    define internal void @tile_2x16(ptr %a, ptr %b, ptr %out, i64 %row, i64 %column) {
      for k in 512:                        ; sums are <16 x float> phis
        sums[0] = fma(splat(a[0, k]), b[k, 0:16], sums[0])
        sums[1] = fma(splat(a[1, k]), b[k, 0:16], sums[1])
      out[row, column:column+16] = epilogue(sums[0]) ...
    }

Every sum takes its products in the order of k, each with one rounding (a fused multiply-add).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from llvmlite import ir

from minicomp.codegen.llvm_control import Size, carried_loop, element, quotient, remainder
from minicomp.codegen.llvm_dot import dot_products
from minicomp.codegen.llvm_emitter import LLVMEmitter
from minicomp.codegen.llvm_epilogue import Epilogue
from minicomp.codegen.llvm_function import symbol
from minicomp.codegen.llvm_types import MEMORY, REGISTER, i1, i64, lanes_of, literal, pointer, void
from minicomp.codegen.llvm_vectors import (
    broadcast_element,
    lane_range,
    load_lanes,
    prefetch,
    register_lanes,
)
from minicomp.codegen.matmul_plan import Plan

Sums = Sequence[ir.Value]


@dataclass(frozen=True)
class Tile:
    """A tile's function, and the names of what it takes, in order."""

    function: ir.Function
    parameters: tuple[str, ...]

    def call(self, builder: ir.IRBuilder, given: dict[str, ir.Value]) -> None:
        """Call it with what it takes of `given`."""
        builder.call(self.function, [given[name] for name in self.parameters])


def emit_tile(module: ir.Module, plan: Plan, rows: int, columns: int, target: Any) -> Tile:
    """Define the function for tiles of this size."""
    return _TileEmission(module, plan, rows, columns, target).emit()


class _TileEmission:
    """The emission of one tile's function. Sums are listed row by row, a row's vectors in turn."""

    def __init__(self, module: ir.Module, plan: Plan, rows: int, columns: int, target: Any):
        self.plan, self.rows, self.target = plan, rows, target
        self.a, self.b = plan.operand_a(rows), plan.operand_b(columns)
        self.lanes = plan.vector_lanes(columns)
        whole = plan.schedule.vector_width
        self.widths = [whole if self.b.padded else register_lanes(lanes) for lanes in self.lanes]
        self.number = REGISTER[plan.kernel.accumulate]
        # Where tiles are cut short little work is done: compact code is worth more there.
        full = (rows, columns) == (plan.schedule.tile_rows, plan.schedule.tile_columns)
        self.ahead = 0 if plan.reads_panels else plan.schedule.ahead
        self.unroll = plan.schedule.unroll if full else 1

        kinds = self._parameters()
        function_type = ir.FunctionType(void, list(kinds.values()))
        self.function = ir.Function(module, function_type, f"tile_{rows}x{columns}")
        self.function.linkage = "internal"
        self.given: dict[str, ir.Value] = dict(zip(kinds, self.function.args, strict=True))
        names = {f"buffer{n}": symbol(a.name) for n, a in enumerate(plan.kernel.arguments)}
        for name, argument in self.given.items():
            argument.name = names.get(name, name)
        self.builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        self.builder.comment(f"{rows} x {columns} of the output; a and b point to the tile's first")
        self.builder.comment(f"row and column; k goes on by {self.unroll}")
        self.emitter = self._emitter()

    def _parameters(self) -> dict[str, ir.Type]:
        """Names and types of what the function takes."""
        kernel = self.plan.kernel
        kinds: dict[str, ir.Type] = {"a": pointer, "b": pointer}
        if self.plan.depth_blocks > 1:
            kinds |= {"depth": i64, "sums": pointer, "is_first": i1, "is_last": i1}
        kinds |= {f"buffer{number}": pointer for number in range(len(kernel.arguments))}
        kinds |= {f"batch{number}": i64 for number in range(len(kernel.batch))}
        return kinds | {"row": i64, "column": i64}

    def _emitter(self) -> LLVMEmitter:
        buffers, status = [], None
        for number, argument in enumerate(self.plan.kernel.arguments):
            buffers.append((self.given[f"buffer{number}"], argument.dtype))
            if argument.name == "status":
                status = buffers[-1][0]
        return LLVMEmitter(self.builder, buffers, status, self.target)

    def emit(self) -> Tile:
        if self.plan.depth_blocks == 1:
            self._epilogue(self._products(self.plan.depth, self._zeros()))
        else:
            sums = self._products(self.given["depth"], self._sums_so_far())
            with self.builder.if_else(self.given["is_last"]) as (last, more):
                with last:
                    self._epilogue(sums)
                with more:
                    self._keep(sums)
        self.builder.ret_void()
        return Tile(self.function, tuple(self.given))

    # --- sums between depth blocks ---

    def _zeros(self) -> Sums:
        return [literal(self.number, 0.0, width) for _ in range(self.rows) for width in self.widths]

    def _places(self) -> list[ir.Value]:
        """Where in the workspace each vector of sums is kept."""
        width, count = self.plan.schedule.vector_width, self.rows * len(self.lanes)
        return [
            element(self.builder, self.given["sums"], position * width, self.number)
            for position in range(count)
        ]

    def _sums_so_far(self) -> Sums:
        """Zeros in the first depth block, then what the block before has kept."""
        builder, zeros, entry = self.builder, self._zeros(), self.builder.block
        with builder.if_then(builder.not_(self.given["is_first"])):
            alignment = self.plan.vector_alignment
            kept = [
                builder.load(place, align=alignment, typ=zero.type)
                for zero, place in zip(zeros, self._places(), strict=True)
            ]
            loaded = builder.block
        sums = []
        for zero, value in zip(zeros, kept, strict=True):
            sums.append(builder.phi(zero.type, "sum"))
            sums[-1].add_incoming(zero, entry)
            sums[-1].add_incoming(value, loaded)
        return sums

    def _keep(self, sums: Sums) -> None:
        for total, place in zip(sums, self._places(), strict=True):
            self.builder.store(total, place, align=self.plan.vector_alignment)

    # --- the product ---

    def _products(self, depth: Size, sums: Sums) -> Sums:
        """The sums with `depth` products added to each."""
        a, b = self.given["a"], self.given["b"]
        if self.plan.schedule.family == "dot":
            columns = sum(self.lanes)
            return dot_products(self.emitter, self.plan, a, b, self.rows, columns)
        unroll = self.unroll
        trips = quotient(self.builder, depth, unroll, "trips")
        state = self._loop(trips, [a, b, *sums], unroll, "k")
        # Depth blocks are multiples of the unroll factor: only the last one can leave a rest.
        if self.plan.depth % unroll:
            rest = remainder(self.builder, depth, unroll, "rest")
            state = self._loop(rest, state, 1, "rest")
        return state[2:]

    def _loop(self, trips: Size, state: Sums, count: int, name: str) -> Sums:
        names, body = ["a", "b", "sum"], partial(self._outer_products, count=count)
        return carried_loop(self.builder, trips, state, body, name, names)

    def _outer_products(self, state: Sums, count: int) -> Sums:
        """Add `count` outer products, of a column of the a panel and a row of the b panel."""
        builder, a, b = self.builder, self.a, self.b
        a_start, b_start, *sums = state
        widest = max(self.widths)
        for step in range(count):
            b_row = element(builder, b_start, step * b.depth_stride, MEMORY[b.dtype])
            b_vectors = self._row_of_b(b_row)
            for row in range(self.rows):
                offset = row * a.lane_stride + step * a.depth_stride
                address = element(builder, a_start, offset, MEMORY[a.dtype])
                spread = broadcast_element(self.emitter, a, address, widest)
                for number, b_vector in enumerate(b_vectors, row * len(b_vectors)):
                    factor = lane_range(builder, spread, 0, lanes_of(b_vector))
                    sums[number] = self.emitter.fma(factor, b_vector, sums[number])
        a_next = element(builder, a_start, count * a.depth_stride, MEMORY[a.dtype], "a.next")
        b_next = element(builder, b_start, count * b.depth_stride, MEMORY[b.dtype], "b.next")
        return [a_next, b_next, *sums]

    def _row_of_b(self, start: ir.Value) -> list[ir.Value]:
        """The vectors of one row of the b panel."""
        vectors = []
        for number, (lanes, width) in enumerate(zip(self.lanes, self.widths, strict=True)):
            offset = number * self.plan.schedule.vector_width
            address = element(self.builder, start, offset, MEMORY[self.b.dtype])
            if self.ahead:
                distance = self.ahead * self.b.depth_stride
                further = element(self.builder, address, distance, MEMORY[self.b.dtype])
                prefetch(self.builder, further)
            lanes = width if self.b.padded else lanes
            vectors.append(load_lanes(self.emitter, self.b, address, lanes, width))
        return vectors

    # --- the epilogue ---

    def _epilogue(self, sums: Sums) -> None:
        kernel = self.plan.kernel
        point = {variable: self.given[f"batch{n}"] for n, variable in enumerate(kernel.batch)}
        point |= {self.plan.rows: self.given["row"], self.plan.columns: self.given["column"]}
        Epilogue(self.emitter, self.plan, point, self.lanes).store_tile(self.rows, sums)
