"""Addresses in a tile in shared memory.

In: a `SharedLayout` and a thread's place in it. Out: registers and immediates for places at fixed
distances from there. Without swizzling all are an immediate away from one register. With it, those
are that lie a whole period of the pattern away; the others get registers of their own.
"""

from __future__ import annotations

from minicomp.codegen.ptx_builder import PTXBuilder
from minicomp.codegen.ptx_index import IndexRegisters
from minicomp.codegen.ptx_matmul_tiles import CHUNK, SharedLayout
from minicomp.codegen.ptx_types import Register
from minicomp.kernels.indexing import Index


class SharedPlace:
    """The thread's place is row `outer`, element `inner`, in terms of the launch's variables."""

    def __init__(
        self,
        builder: PTXBuilder,
        indices: IndexRegisters,
        layout: SharedLayout,
        outer: Index,
        inner: Index,
    ):
        self.builder, self.indices, self.layout = builder, indices, layout
        self.outer, self.inner = outer, inner
        self.offsets: dict[tuple[int, int], Register] = {}

    def offset(self, outer: int, inner: int) -> tuple[Register, int]:
        """The place `outer` rows and `inner` elements on: a register of bytes from the tile's
        start, and an immediate."""
        layout = self.layout
        rest = outer % layout.outer_period, inner % layout.inner_period
        if rest not in self.offsets:
            self.offsets[rest] = self._emit(self.outer + rest[0], self.inner + rest[1])
        whole = outer - rest[0], inner - rest[1]
        return self.offsets[rest], whole[0] * layout.pitch + whole[1] * layout.itemsize

    def _emit(self, outer: Index, inner: Index) -> Register:
        layout, value = self.layout, self.indices.value
        if not layout.swizzled:
            return value(outer * layout.pitch + inner * layout.itemsize)
        pattern = value(outer // layout.rows_per_line % (layout.swizzle_mask + 1) * CHUNK)
        within = self.builder.xor(value(inner * layout.itemsize), pattern)
        return self.builder.add(within, value(outer * layout.pitch))
