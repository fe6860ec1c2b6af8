"""Convolutions: products whose left operand is laid-out windows of images read these in place.

In: an optimised graph, in which a convolution is a product with rows of windows ("im2col"). Out:
the same with `patches`, one op for all that lies between the images and the product, padding
included, so that one kernel can do it all (see `kernels.convolution`).

    %0 = pad(%x) {low=[0,0,1,1], high=[0,0,1,1], value=0.0} : f32[1,64,58,58]
    %1 = windows(%0) {axes=[2,3], sizes=[3,3], strides=[1,1], dilations=[1,1]} : f32[1,64,56,56,3,3]
    %2 = transpose(%1) {permutation=[0,2,3,1,4,5]} : f32[1,56,56,64,3,3]
    %3 = reshape(%2) {shape=[3136,576]} : f32[3136,576]
    %4 = matmul(%3, %w) : f32[3136,64]
becomes
    %0 = patches(%x) {sizes=[3,3], strides=[1,1], dilations=[1,1], low=[1,1], high=[1,1]} : ...
    %1 = matmul(%0, %w) : f32[3136,64]

It runs for back ends whose kernels can read windows. What is left out for want of gain: outputs
with short lines or few filters (vectors would be mostly empty), and wide windows (code would be
long).
"""

from __future__ import annotations

from minicomp.ir import Graph, Value, rewrite
from minicomp.kernels.indexing import Index, LoopVariable, ravel
from minicomp.kernels.lowering import movement_index
from minicomp.passes.build import build
from minicomp.passes.dead_code import dead_code

#: Kernels of smaller outputs would do too little for each entry that they load.
LEAST_COLUMNS, LEAST_FILTERS = 4, 8

#: Taps along x are unrolled.
MOST_TAPS = 16


def read_windows(graph: Graph) -> Graph:
    """`graph` with `patches` where they pay; see the module's docstring."""
    return dead_code(rewrite(graph, _convolution))


def _convolution(value: Value) -> Value | None:
    """The product with `patches` as its left operand; None where it is no such product."""
    if value.op != "matmul" or 0 in value.shape or value.shape[-1] < LEAST_FILTERS:
        return None
    windows = _laid_out_windows(value.operands[0])
    if windows is None:
        return None
    if windows.shape[3] < LEAST_COLUMNS or windows.shape[5] > MOST_TAPS or 0 in windows.shape:
        return None
    (x,), sizes = windows.operands, dict(windows.attributes)
    low = high = (0, 0)
    if x.op == "pad" and _is_border_of_zeros(x):
        low, high = (x.attributes[name][2:] for name in ("low", "high"))
        (x,) = x.operands
    del sizes["axes"]
    patches = build(value, "patches", x, **sizes, low=low, high=high)
    return build(value, "matmul", patches, value.operands[1])


def _laid_out_windows(operand: Value) -> Value | None:
    """The `windows` of images (n, c, rows, columns, height, width) of which `operand` has one for
    each (n, row, column) as a row; None where it is something else."""
    found = operand
    while found.op in ("reshape", "transpose"):
        (found,) = found.operands
    if found.op != "windows" or found.attributes["axes"] != (2, 3) or len(found.shape) != 6:
        return None
    loops = [LoopVariable(f"i{axis}", extent) for axis, extent in enumerate(found.shape)]
    place = tuple(map(Index.of, loops))
    positions = [
        ravel([place[axis] for axis in axes], [found.shape[axis] for axis in axes])
        for axes in ((0, 2, 3), (1, 4, 5))
    ]
    index = tuple(positions)
    while operand is not found:
        index = movement_index(operand, index)
        (operand,) = operand.operands
    return found if index == place else None


def _is_border_of_zeros(pad: Value) -> bool:
    """Whether a padding puts zeros around each image, and nothing else."""
    attributes = pad.attributes
    return attributes["value"] == 0 and not any((*attributes["low"][:2], *attributes["high"][:2]))
