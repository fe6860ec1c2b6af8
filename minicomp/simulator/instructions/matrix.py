"""Tensor cores: ldmatrix and mma.sync.

A fragment is a small matrix spread over the registers of a warp. The maps below say, for each
element of a matrix, in which lane and register it is, as the ISA's figures do: with `g = lane / 4`
and `t = lane % 4`, register r of a 16x8 accumulator in lane (g, t) has row `g + 8 (r / 2)` and
column `2 t + r % 2`.

Products are exact and summed in float64, then rounded once to float32: better than hardware,
which truncates as it adds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minicomp.simulator.batch import Batch
from minicomp.simulator.decode import Converge, Form, instruction
from minicomp.simulator.formats import decode
from minicomp.simulator.instructions.floating import canonical
from minicomp.simulator.instructions.memory import faulty
from minicomp.simulator.threads import Threads
from minicomp.simulator.types import B32, F32

Array = np.ndarray


@dataclass(frozen=True)
class Shape:
    """Of `d = a @ b + c` with a: 16 x k, b: k x 8. Maps give for each element of a matrix its
    place in the fragment, laid out as lane, register, element within the register."""

    k: int
    a_registers: int
    b_registers: int
    a: Array
    b: Array


def _shape(k: int, per_register: int) -> Shape:
    """Registers of a go down the rows first, then along k, in steps of 8 rows and of 4 groups."""
    row, column = np.meshgrid(np.arange(16), np.arange(k), indexing="ij")
    a_registers, b_registers = 16 * k // 32 // per_register, 8 * k // 32 // per_register
    a = _place(
        lane=4 * (row % 8) + column // per_register % 4,
        register=row // 8 + 2 * (column // (4 * per_register)),
        element=column % per_register,
        registers=a_registers,
        per_register=per_register,
    )
    row, column = np.meshgrid(np.arange(k), np.arange(8), indexing="ij")
    b = _place(
        lane=4 * column + row // per_register % 4,
        register=row // (4 * per_register),
        element=row % per_register,
        registers=b_registers,
        per_register=per_register,
    )
    return Shape(k, a_registers, b_registers, a, b)


def _place(
    lane: Array, register: Array, element: Array, registers: int, per_register: int
) -> Array:
    return (lane * registers + register) * per_register + element


def _accumulator() -> Array:
    row, column = np.meshgrid(np.arange(16), np.arange(8), indexing="ij")
    return _place(
        lane=4 * (row % 8) + column // 2,
        register=2 * (row // 8) + column % 2,
        element=0 * row,
        registers=4,
        per_register=1,
    )


ACCUMULATOR = _accumulator()
SHAPES = {
    ("m16n8k4", "tf32"): _shape(4, 1),
    ("m16n8k8", "tf32"): _shape(8, 1),
    ("m16n8k8", "f16"): _shape(8, 2),
    ("m16n8k8", "bf16"): _shape(8, 2),
    ("m16n8k16", "f16"): _shape(16, 2),
    ("m16n8k16", "bf16"): _shape(16, 2),
}


@instruction("mma")
def multiply_accumulate(form: Form) -> Converge:
    form.require("sync")
    form.require("aligned")
    size = form.require("m16n8k4", "m16n8k8", "m16n8k16")
    form.require("row")
    form.require("col")
    d_type, a_type, b_type, c_type = form.types(4)
    shape = SHAPES.get((size, a_type.name))
    if shape is None or b_type is not a_type or d_type is not F32 or c_type is not F32:
        form.fail("wanted tf32, f16 or bf16 factors of a supported shape, and f32 sums")
    form.arity(4)
    d = [form.destination(element, F32) for element in form.vector(0, 4)]
    a = [form.source(element, B32) for element in form.vector(1, shape.a_registers)]
    b = [form.source(element, B32) for element in form.vector(2, shape.b_registers)]
    c = [form.source(element, F32) for element in form.vector(3, 4)]

    def action(batch: Batch, threads: Threads) -> None:
        left = _elements(_fragment(batch, threads, a), a_type.name)[:, shape.a]
        right = _elements(_fragment(batch, threads, b), a_type.name)[:, shape.b]
        fragment = _fragment(batch, threads, c)
        total = np.empty(fragment.shape, np.float64)
        total[:, ACCUMULATOR] = left @ right + fragment[:, ACCUMULATOR]
        rounded = canonical(total.astype(np.float32)).reshape(-1, 4)
        for register, target in enumerate(d):
            batch.registers[target][threads.index] = rounded[:, register]

    return Converge(action, None)


def _fragment(batch: Batch, threads: Threads, slots: list[int]) -> Array:
    """The registers of each warp, (warps, 32 * registers), lane by lane."""
    registers = np.stack([batch.registers[slot][threads.index] for slot in slots], axis=1)
    return registers.reshape(-1, 32 * len(slots))


def _elements(fragment: Array, type: str) -> Array:
    """The numbers in a fragment's registers, as float64; tf32 ignores the low 13 bits."""
    if type == "tf32":
        return (fragment & np.uint32(0xFFFFE000)).view(np.float32).astype(np.float64)
    return decode(fragment.view(np.uint16), type)


@instruction("ldmatrix")
def load_matrix(form: Form) -> Converge:
    """Matrix i of 8x8 16-bit elements has its rows at the addresses of lanes 8i to 8i + 7."""
    form.require("sync")
    form.require("aligned")
    form.require("m8n8")
    count = int(form.require("x1", "x2", "x4")[1:])
    transpose = bool(form.option("trans"))
    form.require("shared", "shared::cta")
    form.type("b16")
    form.arity(2)
    targets = [form.destination(element, B32) for element in form.vector(0, count)]
    address, number = form.shared_address(1), form.number
    form.shared_bytes = 16

    def access(batch: Batch, rows: Threads) -> Array:
        offsets = address(batch, rows)
        words = batch.shared.load(offsets, 8, 2)
        batch.counters.shared_access(number, rows, offsets, 16)
        batch.check_race(batch.races.record("read", number, rows, offsets, 16))
        return words.view(np.uint16).reshape(-1, count, 8, 8)

    load_rows = faulty(form, "shared", access)

    def action(batch: Batch, threads: Threads) -> None:
        matrices = load_rows(batch, threads.where((threads.numbers & 31) < 8 * count))
        if transpose:
            matrices = matrices.swapaxes(2, 3)
        pairs = np.ascontiguousarray(matrices).view(np.uint32)
        for place, target in enumerate(targets):
            batch.registers[target][threads.index] = pairs[:, place].ravel()

    return Converge(action, None)
