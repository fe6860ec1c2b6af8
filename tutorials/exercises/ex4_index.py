"""Exercise 4: where does an element come from?

`np.roll(x, 3)` moves every element three places on; those pushed off the end come in at the start.
minicomp makes it of two slices and a concatenation. It could be a *movement* op, which costs
nothing: the kernel that needs the rolled tensor just reads `x` elsewhere.

All that a movement op has to say is at which index of its operand its element at `index` is found.
`index` has one `Index` per axis: an expression in the loops' variables, with `+`, `-`, `*`, `//`
and `%` by integers (minicomp/kernels/indexing.py). `movement_index` in
minicomp/kernels/lowering.py has the ops that there are.
"""

from minicomp.kernels.indexing import Index


def roll_index(
    index: tuple[Index, ...], shape: tuple[int, ...], shifts: tuple[int, ...]
) -> tuple[Index, ...]:
    """The index of x at which roll(x)'s element at `index` is found.

    `shape` is that of both; `shifts` says, per axis, how many places elements have moved on. A
    shift may be negative, or larger than the axis.
    """
    # TODO: one Index per axis, each from 0 to the axis's size, exclusively.
    raise NotImplementedError


HINTS = (
    "Ask backwards. After a shift by 3, the element at place 3 is the one that was at place 0.",
    "So the source is `i - shift`, on each axis. That leaves the axis at one end.",
    "`% size` brings it back in, from either side: it is never negative.",
)
