"""The loop down the depth: copies run ahead of the multiplications through a ring of stages.

In: the two operands' `TileCopy`s, the family's `Fragments`, and how many tiles of the depth are
the block's. Out: the loop. With three stages, at tile t:

    shared memory:   [t: being read] [t + 1: arriving or there] [t + 2: copies start now]

and within the tile the fragments of the next step are loaded while those at hand are multiplied.
One barrier a tile does it all: after it tile t + 1 is there for every thread to read, and no thread
reads tile t any more (the last fragments are in registers), so that its stage may be filled anew.
"""

from __future__ import annotations

from collections.abc import Sequence

from minicomp.codegen.ptx_builder import PTXBuilder
from minicomp.codegen.ptx_matmul_copies import TileCopy
from minicomp.codegen.ptx_matmul_fragments import Fragments
from minicomp.codegen.ptx_matmul_parts import DepthTiles
from minicomp.codegen.ptx_matmul_plan import GpuMatmulPlan
from minicomp.codegen.ptx_types import Register


class Pipeline:
    """See the module's docstring; `run` emits it all. `ring` is the address of the first stage."""

    def __init__(
        self,
        builder: PTXBuilder,
        plan: GpuMatmulPlan,
        ring: Register,
        copies: Sequence[TileCopy],
        fragments: Fragments,
        tiles: DepthTiles,
    ):
        self.builder, self.plan, self.ring = builder, plan, ring
        self.copies, self.fragments = copies, fragments
        self.stages, self.tiles = plan.schedule.stages, tiles

    def run(self) -> None:
        if not self.tiles.most:
            return
        self._fill()
        self.builder.comment("fragments of the first step")
        self.fragments.enter(self.read)
        self.fragments.load(0, 0)
        self._loop()

    def _fill(self) -> None:
        """All stages but one begin to be filled."""
        builder, nbytes = self.builder, self.plan.stage_bytes
        for number in range(self.stages - 1):
            if number < self.tiles.most:
                builder.comment(f"copy tile {number}")
                stage = builder.add(self.ring, number * nbytes)
                more = None
                if number >= self.tiles.least:  # other blocks have one more tile than this one
                    more = builder.setp("gt", self.tiles.count, number)
                self._start(stage, more, is_first=number == 0)
                self._finish(stage, more)
            builder.cp_async_commit()
        self.end = builder.add(self.ring, self.stages * nbytes, "ring_end")
        self.read, self.write = builder.register("u32", "read"), builder.register("u32", "write")
        builder.assign(self.read, self.ring)
        builder.assign(self.write, builder.add(self.ring, (self.stages - 1) * nbytes))
        self._await_tile()

    def _loop(self) -> None:
        """A tile a round. Copies are started in parts, one a step: together they would hold up the
        loads of fragments."""
        builder, steps = self.builder, self.plan.steps
        parts = min(steps - 1, self.plan.schedule.copy_parts)
        left = builder.register("s32", "tiles_left")
        builder.assign(left, self.tiles.count)
        head = builder.new_label("tile")
        builder.place(head)
        is_followed = builder.setp("gt", left, 1)
        more = builder.setp("ge", left, self.stages)
        for step in range(steps - 1):
            self.fragments.load(step + 1, (step + 1) % 2)
            if self.tiles.most >= self.stages and step < parts:
                builder.comment(f"copy part {step + 1} of {parts} of a tile further on")
                for copy in self.copies:
                    copy.start(self.write, more, part=step, parts=parts)
            builder.comment(f"step {step}")
            self.fragments.multiply(step % 2)
        self._next_tile(more)
        with builder.when(is_followed):
            self.fragments.load(0, 0)
        builder.comment(f"step {steps - 1}")
        self.fragments.multiply((steps - 1) % 2)
        builder.emit(f"sub.s32 {left}, {left}, 1")
        builder.bra(head, is_followed)

    def _next_tile(self, more: Register) -> None:
        builder = self.builder
        self._finish(self.write, more)
        builder.cp_async_commit()
        self._await_tile()
        builder.comment("the stage that was read is free; read the next one of the ring")
        builder.assign(self.write, self.read)
        builder.emit(f"add.u32 {self.read}, {self.read}, {self.plan.stage_bytes}")
        with builder.when(builder.setp("eq", self.read, self.end)):
            builder.assign(self.read, self.ring)
        self.fragments.enter(self.read)

    def _await_tile(self) -> None:
        """Wait for the oldest copies under way, those of other threads too."""
        self.builder.cp_async_wait(self.stages - 2)
        self.builder.barrier()

    def _start(self, stage: Register, more: Register | None, *, is_first: bool = False) -> None:
        for copy in self.copies:
            copy.start(stage, more, is_first=is_first)

    def _finish(self, stage: Register, more: Register | None) -> None:
        for copy in self.copies:
            copy.finish(stage, more)
