"""Branches, returns, barriers, and what else steers threads: the scheduler does what they ask."""

from __future__ import annotations

from minicomp.errors import SimulationError
from minicomp.simulator.batch import Batch
from minicomp.simulator.decode import (
    Action,
    Barrier,
    Converge,
    Form,
    Jump,
    Stop,
    instruction,
)
from minicomp.simulator.syntax import Immediate, Operand, Symbol
from minicomp.simulator.threads import Threads
from minicomp.simulator.types import U32


@instruction("bra")
def branch(form: Form) -> Jump:
    form.skip("uni")
    target = form.operands[0]
    assert isinstance(target, Symbol)  # the parser has looked the label up
    return Jump(target.name)


@instruction("ret", "exit")
def stop(form: Form) -> Stop:
    form.skip("uni")
    form.arity(0)
    return Stop()


@instruction("bar", "barrier")
def barrier(form: Form) -> Barrier | Converge:
    """bar.sync and bar.warp.sync"""
    form.skip("cta", "aligned")
    form.require("sync")
    if form.option("warp"):
        form.arity(1)
        return Converge(_warp_barrier, form.source(0, U32))
    form.arity(1, 2)
    name = _number(form, form.operands[0])
    if not 0 <= name < 16:
        form.fail(f"barrier {name}; there are 0 to 15")
    if len(form.operands) == 1:
        return Barrier(name, None)
    count = _number(form, form.operands[1])
    if count <= 0 or count % 32:
        form.fail(f"{count} threads at a barrier; wanted a multiple of 32")
    return Barrier(name, count)


def _number(form: Form, operand: Operand) -> int:
    if not isinstance(operand, Immediate) or operand.floating:
        form.fail("the simulator takes barriers' operands as numbers only")
    return int(operand.value)


def _warp_barrier(batch: Batch, threads: Threads) -> None:
    passed = None
    if threads.count < batch.total - batch.gone.sum():
        passed = batch.gone.copy()
        passed[threads.index] = True
    batch.check_race(batch.races.warp_barrier(passed))


@instruction("trap", "brkpt")
def trap(form: Form) -> Action:
    form.arity(0)
    place = form.instruction.place

    def action(batch: Batch, threads: Threads) -> None:
        raise SimulationError(batch.thread_name(int(threads.numbers[0])), what=place)

    return action


@instruction("nanosleep")
def sleep(form: Form) -> Action:
    form.source(0, form.type("u32"))
    return lambda batch, threads: None
