"""The special registers: read-only values that tell a thread where it is.

`SPECIALS` has their types; `values` computes them for all threads of a batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from minicomp.simulator.types import U32, U64, Type

if TYPE_CHECKING:
    from minicomp.simulator.batch import Batch

Array = np.ndarray

_AXES = ("x", "y", "z")

SPECIALS: dict[str, Type] = {
    f"%{name}.{axis}": U32 for name in ("tid", "ntid", "ctaid", "nctaid") for axis in _AXES
}
_PLAIN = ("%laneid", "%warpid", "%nwarpid", "%dynamic_smem_size", "%total_smem_size", "%clock")
_MASKS = tuple(f"%lanemask_{relation}" for relation in ("eq", "lt", "le", "gt", "ge"))
SPECIALS |= dict.fromkeys(_PLAIN + _MASKS, U32)
SPECIALS["%clock64"] = U64

#: these change while a kernel runs: read at each use
CLOCKS = ("%clock", "%clock64")


def values(name: str, batch: Batch) -> Array:
    """The value in each thread of the batch, or one value for all."""
    launch = batch.launch
    family, _, axis = name.partition(".")
    if axis:
        place = _AXES.index(axis)
        if family == "%tid":
            return _coordinate(batch.thread_in_block, launch.block, place)
        if family == "%ctaid":
            return _coordinate(batch.block_of_thread, launch.grid, place)
        return np.array([(launch.block if family == "%ntid" else launch.grid)[place]])
    if name.startswith("%lanemask"):
        return _lane_mask(name[-2:], np.arange(batch.total, dtype=np.uint64) % 32)
    if name == "%laneid":
        return np.arange(batch.total) % 32
    if name == "%warpid":
        return batch.thread_in_block // 32
    if name == "%nwarpid":
        return np.array([batch.warps_per_block])
    layout = batch.program.shared_layout
    dynamic = launch.shared_bytes
    return np.array([dynamic + (layout.static_bytes if name == "%total_smem_size" else 0)])


def _coordinate(linear: Array, sizes: tuple[int, int, int], place: int) -> Array:
    x, y, _ = sizes
    return (linear % x, linear // x % y, linear // (x * y))[place]


def _lane_mask(relation: str, lane: Array) -> Array:
    one = np.uint64(1)
    mask = {
        "eq": one << lane,
        "lt": (one << lane) - one,
        "le": (one << (lane + one)) - one,
        "gt": ~((one << (lane + one)) - one),
        "ge": ~((one << lane) - one),
    }[relation]
    return mask & np.uint64(0xFFFFFFFF)
