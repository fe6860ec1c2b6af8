"""mov and cvta: data between registers, and addresses."""

from __future__ import annotations

import numpy as np

from minicomp.simulator.batch import Batch
from minicomp.simulator.decode import Action, Form, apply, elementwise, instruction
from minicomp.simulator.shared_memory import WINDOW
from minicomp.simulator.special import CLOCKS, SPECIALS
from minicomp.simulator.syntax import Special, Vector
from minicomp.simulator.threads import Threads
from minicomp.simulator.types import TYPES, U32, U64, Type

Array = np.ndarray

_MOVED = ("pred", "f32", "f64", *(f"{kind}{width}" for kind in "bus" for width in (16, 32, 64)))


@instruction("mov")
def move(form: Form) -> Action:
    type = form.type(*_MOVED)
    form.arity(2)
    target, source = form.operands
    if isinstance(target, Vector):
        return _unpack(form, type, target)
    if isinstance(source, Vector):
        return _pack(form, type, source)
    if isinstance(source, Special) and source.name in CLOCKS:
        return _clock(form, type, source.name)
    return elementwise(form, np.asarray, type, type)


def _elements(form: Form, type: Type, vector: Vector) -> Type:
    count = len(vector.elements)
    width = type.width // max(count, 1)
    if type.kind != "bits" or count not in (2, 4) or width < 16:
        form.fail(f"{count} elements do not make up type {type}")
    return TYPES[f"b{width}"]


def _pack(form: Form, type: Type, vector: Vector) -> Action:
    """The first element becomes the low end."""
    part = _elements(form, type, vector)
    sources = [form.source(element, part) for element in vector.elements]

    def compute(*parts: Array) -> Array:
        return np.stack(parts, axis=1).view(type.dtype)[:, 0]

    return apply(compute, form.destination(0, type), *sources)


def _unpack(form: Form, type: Type, vector: Vector) -> Action:
    part = _elements(form, type, vector)
    targets = [form.destination(element, part) for element in vector.elements]
    source = form.source(1, type)

    def action(batch: Batch, threads: Threads) -> None:
        registers, index = batch.registers, threads.index
        whole = np.array(registers[source][index])  # a copy: a target may be the source's half
        parts = whole[:, None].view(part.dtype)
        for place, target in enumerate(targets):
            registers[target][index] = parts[:, place]

    return action


def _clock(form: Form, type: Type, name: str) -> Action:
    """The instructions that have run stand for cycles."""
    form.source(1, SPECIALS[name])
    target = form.destination(0, type)
    modulus = 1 << SPECIALS[name].width

    def action(batch: Batch, threads: Threads) -> None:
        batch.registers[target][threads.index] = batch.steps % modulus

    return action


@instruction("cvta")
def convert_address(form: Form) -> Action:
    """Global addresses are the generic ones; shared memory's window starts at `WINDOW`."""
    back = form.option("to")
    space = form.require("global", "shared", "shared::cta")
    type = form.type("u64", "u32")
    if type is U32:
        form.fail("addresses have 64 bits")
    form.arity(2)
    if space == "global":
        return elementwise(form, np.asarray, U64, U64)
    window = np.uint64(WINDOW)
    if back:
        return elementwise(form, lambda a: a - window, U64, U64)
    return elementwise(form, lambda a: a + window, U64, U64)
