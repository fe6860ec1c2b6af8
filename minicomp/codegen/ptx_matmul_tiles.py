"""Where an operand's tile lies: in global memory, and in shared memory. Numbers alone, no PTX.

In: a view of a `MatmulKernel` and the block's tile sizes. Out: an `OperandTile`, which says which
way the elements are contiguous, how many of them one access may move, and the `SharedLayout` that
they are copied to.

An operand has two axes. Its *lanes* are what the output has too: rows of `a`, columns of `b`. Its
*depth* is summed over. A copy runs along the operand's *near* axis, the one whose neighbours are
neighbours in global memory; shared memory is laid out in rows along its *inner* axis:

    a of 128 x 16 floats, contiguous along the depth, for the SIMT kernel:
    near = "depth", inner = "lanes"     # the copy transposes, one element at a time
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

from minicomp.ir import ITEMSIZE

#: A shared memory bank is 4 bytes wide and there are 32: rows of 128 bytes meet all banks once.
LINE = 128
#: The widest access of a thread, and the unit that swizzling moves.
CHUNK = 16


@dataclass(frozen=True)
class SharedLayout:
    """`outer` rows of `inner` elements in shared memory.

    `padding` bytes follow each row. With `swizzled` there is none, and the 16-byte chunks of a row
    trade places instead, by exclusive or with the number of the row: eight rows' chunks of one
    column then lie in different banks, which is what `ldmatrix` reads at a time.
    """

    outer: int
    inner: int
    itemsize: int
    padding: int = 0
    swizzled: bool = False

    @property
    def pitch(self) -> int:
        """Bytes from row to row."""
        return self.inner * self.itemsize + self.padding

    @property
    def nbytes(self) -> int:
        """Rounded up, so that what follows begins on a line."""
        return -(-self.outer * self.pitch // LINE) * LINE

    @property
    def rows_per_line(self) -> int:
        """Rows that share 128 bytes: they are swizzled alike, since they never collide."""
        return max(1, LINE // self.pitch)

    @property
    def swizzle_mask(self) -> int:
        """How many ways a row's chunks are permuted, less one."""
        return min(LINE, self.pitch) // CHUNK - 1 if self.swizzled else 0

    @property
    def outer_period(self) -> int:
        """Moving by so many rows changes an address by the same amount wherever it begins."""
        return self.rows_per_line * (self.swizzle_mask + 1) if self.swizzled else 1

    @property
    def inner_period(self) -> int:
        """The same for elements of a row."""
        return max(1, min(LINE, self.pitch) // self.itemsize) if self.swizzled else 1

    def swizzle(self, outer: int) -> int:
        """What the byte position within row `outer` is exclusive-ored with."""
        return (outer // self.rows_per_line & self.swizzle_mask) * CHUNK

    def offset(self, outer: int, inner: int) -> int:
        """Bytes from the tile's start to an element."""
        return outer * self.pitch + (inner * self.itemsize ^ self.swizzle(outer))


@dataclass(frozen=True)
class OperandTile:
    """The part of an operand that a block works on at a time, `lanes` x `depth` elements.

    Strides are in elements; `lane_count` and `depth_count` are the sizes of the whole operand.
    `vector` elements are moved by one access. `element` is the dtype in shared memory; where it is
    not the operand's, copies convert.
    """

    name: str
    buffer: int
    offset: int
    batch_strides: tuple[int, ...]
    dtype: str
    element: str
    lanes: int
    depth: int
    lane_count: int
    depth_count: int
    lane_stride: int
    depth_stride: int
    near: str
    shared: SharedLayout
    inner: str
    vector: int = 1

    @property
    def itemsize(self) -> int:
        """In global memory."""
        return ITEMSIZE[self.dtype]

    @property
    def transposes(self) -> bool:
        return self.near != self.inner

    @property
    def is_asynchronous(self) -> bool:
        """Whether `cp.async` can do it: 4, 8 or 16 bytes as they are."""
        return self.dtype == self.element and self.vector * self.itemsize in (4, 8, 16)

    @property
    def near_extent(self) -> int:
        return self.lanes if self.near == "lanes" else self.depth

    @property
    def far_extent(self) -> int:
        return self.depth if self.near == "lanes" else self.lanes

    @property
    def near_count(self) -> int:
        return self.lane_count if self.near == "lanes" else self.depth_count

    @property
    def near_stride(self) -> int:
        return self.lane_stride if self.near == "lanes" else self.depth_stride

    @property
    def far_stride(self) -> int:
        return self.depth_stride if self.near == "lanes" else self.lane_stride

    @property
    def near_threads(self) -> int:
        """Threads side by side along the near axis. Where the copy transposes, 8 of a warp: with
        4 along the other axis they write to 32 different banks."""
        accesses = self.near_extent // self.vector
        return min(8, accesses) if self.transposes else accesses

    @property
    def has_lane_tail(self) -> bool:
        """Whether the tiles at the edge reach beyond the operand."""
        return self.lane_count % self.lanes != 0

    @property
    def missing_depth(self) -> int:
        """How far the first tile begins before the operand, so that the last ends with it."""
        return -self.depth_count % self.depth


def near_axis(
    lane_stride: int, depth_stride: int, lane_count: int, depth_count: int, preferred: str
) -> str:
    """The axis along which neighbours are neighbours in memory, or nearest to it. `preferred` where
    both are."""
    lane_distance = abs(lane_stride) or 1 if lane_count > 1 else 1 << 62
    depth_distance = abs(depth_stride) or 1 if depth_count > 1 else 1 << 62
    if lane_distance == depth_distance:
        return preferred
    return "lanes" if lane_distance < depth_distance else "depth"


def widest_vector(
    most_bytes: int, itemsize: int, near_stride: int, near_count: int, others: tuple[int, ...]
) -> int:
    """How many elements one access of at most `most_bytes` may move: whole vectors, at multiples of
    their size, at every place that `others` (the offset, and the other axes' strides) lead to."""
    if near_stride != 1:
        return 1
    return gcd(max(1, most_bytes // itemsize), near_count, *others)
