"""Pointwise kernels that read along one loop and write along another, done in square tiles.

In: a kernel such as `out[40*o0 + o1] = x[30*o1 + o0] + z[40*o0 + o1]`, and a schedule whose `tile`
is `o0`, along which x lies. Out: the instructions of a unit, a column of tiles:

    for each of the tile's columns:      a vector of x, along o0
    transpose them in registers          now each has the lanes of one row
    for each of the tile's rows:         out, a vector along o1, with z as it lies

So every line of x is read once and as a whole, and so is every line of `out` written, where a
gather along o1 would fetch a line of x for each element. From tile to tile `o0` advances, along
which the lines that are read follow each other: those are what the hardware fetches ahead.
"""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from minicomp.codegen.llvm_control import (
    Size,
    add,
    minimum,
    multiply,
    quotient,
    remainder,
    unravelled,
    value,
)
from minicomp.codegen.llvm_function import KernelFunction, counted_loop
from minicomp.codegen.llvm_loop_body import LoopBody
from minicomp.codegen.llvm_types import MEMORY, i32, i64, lanes_of, literal, poison, widen
from minicomp.codegen.llvm_vectors import lane_range, register_lanes, shuffle, transpose
from minicomp.codegen.loop_schedule import TILE_ROWS
from minicomp.kernels import Load, LoopKernel, LoopSchedule
from minicomp.kernels.indexing import LoopVariable
from minicomp.kernels.walk import loads_across

Values = dict[LoopVariable, ir.Value]


class LoopTiles:
    """See the module's docstring."""

    def __init__(
        self, kernel: LoopKernel, schedule: LoopSchedule, function: KernelFunction, body: LoopBody
    ):
        self.size, self.function, self.body = schedule.vector_width, function, body
        self.builder, self.emitter = function.builder, body.emitter
        *rest, self.last = kernel.outer
        (self.across,) = (variable for variable in rest if variable.name == schedule.tile)
        self.rest = [variable for variable in rest if variable != self.across]
        self.loads = loads_across(kernel, self.across)

    def unit(self, unit: ir.Value) -> None:
        """All tiles of one unit. Neighbours among units lie beside each other."""
        builder, size = self.builder, self.size
        columns = -(-self.last.extent // size)
        blocks = -(-self.across.extent // TILE_ROWS)
        column, row = remainder(builder, unit, columns), quotient(builder, unit, columns)
        block, others = remainder(builder, row, blocks), quotient(builder, row, blocks)
        values = unravelled(builder, self.rest, value(others))
        values[self.last] = value(multiply(builder, column, size, "column"))
        begin = multiply(builder, block, TILE_ROWS, "begin")
        ragged = self.last.extent % size
        if not ragged or columns == 1:
            self._column(values, begin, ragged or size)
            return
        is_whole = builder.icmp_signed("<", value(column), literal(i64, columns - 1))
        with builder.if_else(is_whole) as (whole, narrow):
            with whole:
                self._column(values, begin, size)
            with narrow:
                builder.comment(f"the last {ragged} columns")
                self._column(values, begin, ragged)

    def _column(self, values: Values, begin: Size, lanes: int) -> None:
        """The tiles below each other from row `begin` on, `lanes` lanes wide."""
        builder, extent = self.builder, self.across.extent
        ragged = extent % self.size
        end = add(builder, begin, TILE_ROWS)
        stop = minimum(builder, end, extent - ragged, "stop")
        with counted_loop(builder, value(begin), value(stop), self.size, "tile") as row:
            self._tile(values, row, self.size, lanes)
        if ragged:
            is_last = builder.icmp_signed(">=", value(end), literal(i64, extent))
            with builder.if_then(is_last):
                builder.comment(f"the last {ragged} rows")
                self._tile(values, literal(i64, extent - ragged), ragged, lanes)

    def _tile(self, values: Values, first: ir.Value, rows: int, lanes: int) -> None:
        turned = [self._turned(load, values, first, rows, lanes) for load in self.loads]
        with counted_loop(self.builder, literal(i64, 0), literal(i64, rows), 1, "row") as row:
            place = {**values, self.across: self.builder.add(first, row)}
            self.emitter.at(place, self.last, lanes)
            known = {}
            for load, rows_of_it in zip(self.loads, turned, strict=True):
                kind = widen(MEMORY[load.dtype], lanes)
                address = self.builder.gep(rows_of_it, [row], source_etype=kind)
                loaded = self.builder.load(address, typ=kind)
                known[id(load)] = self.emitter.from_memory(loaded, load.dtype)
            self.body.store_row({}, known)

    def _turned(
        self, load: Load, values: Values, first: ir.Value, rows: int, lanes: int
    ) -> ir.Value:
        """Where the rows of what is loaded lie, one after the other, on the stack."""
        vectors = []
        for lane in range(lanes):
            column = add(self.builder, values[self.last], lane)
            place = {**values, self.across: first, self.last: value(column)}
            self.emitter.at(place, self.across, rows)
            loaded = self.emitter.splat(self.body.evaluated(load), rows)
            vectors.append(self.emitter.to_memory(loaded))
        kind = widen(MEMORY[load.dtype], lanes)
        memory = self.function.entry_alloca(ir.ArrayType(kind, rows), "turned")
        for row, vector in enumerate(self._transposed(vectors, rows)):
            address = self.builder.gep(memory, [literal(i64, row)], source_etype=kind)
            self.builder.store(vector, address)
        return memory

    def _transposed(self, vectors: Sequence[ir.Value], rows: int) -> list[ir.Value]:
        """Vectors of `rows` lanes as that many vectors, of a lane for each of them."""
        size = register_lanes(max(rows, len(vectors)))
        square = [self._widened(vector, size) for vector in vectors]
        square += [poison(square[0].type)] * (size - len(square))
        turned = transpose(self.builder, square)[:rows]
        return [lane_range(self.builder, vector, 0, len(vectors)) for vector in turned]

    def _widened(self, vector: ir.Value, size: int) -> ir.Value:
        """With further lanes, which are not used."""
        lanes = lanes_of(vector)
        if lanes == size:
            return vector
        if lanes == 1:
            wide = poison(ir.VectorType(vector.type, size))
            return self.builder.insert_element(wide, vector, ir.Constant(i32, 0))
        return shuffle(self.builder, vector, vector, [min(lane, lanes - 1) for lane in range(size)])
