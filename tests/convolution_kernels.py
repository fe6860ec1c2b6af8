"""Convolution kernels for tests, of any sizes.

In: sizes, and how windows move. Out: a `ConvolutionKernel` on contiguous images (n, c, height,
width) and filters (filters, depth), which stores (n, filters, y, x).
"""

from __future__ import annotations

from hypothesis import strategies as st

from minicomp.kernels import Argument, ConvolutionKernel, Product, Store, View
from minicomp.kernels.convolution import ImageView, WindowAxis
from minicomp.kernels.indexing import Index, LoopVariable, offset_of, row_major_strides


def convolution(n, c, sizes, filters, axes, counts, dtype="float64"):
    """See the module's docstring. `sizes` and `counts` are (height, width) of images and output."""
    image, filter = LoopVariable("image", n), LoopVariable("filter", filters)
    y, x = LoopVariable("y", counts[0]), LoopVariable("x", counts[1])
    depth = c * axes[0].taps * axes[1].taps
    shape = (n, filters, *counts)
    index = offset_of([Index.of(v) for v in (image, filter, y, x)], row_major_strides(shape))
    arguments = (
        Argument("x", dtype, n * c * sizes[0] * sizes[1]),
        Argument("w", dtype, filters * depth),
        Argument("out", dtype, n * filters * counts[0] * counts[1], written=True),
    )
    images = ImageView(0, 0, c * sizes[0] * sizes[1], sizes[0] * sizes[1], c, *axes)
    return ConvolutionKernel(
        "conv", arguments, image, y, x, filter, images, View(1, 0, (), 1, depth), dtype,
        Store(2, index, Product(dtype)),
    )  # fmt: skip


@st.composite
def convolutions(draw, most_filters=3):
    sizes = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    axes = tuple(
        WindowAxis(
            size, stride, draw(st.integers(1, 3)), draw(st.integers(1, 3)),
            draw(st.integers(1, 2)), draw(st.integers(0, 3)),
        )
        for size, stride in zip(sizes, (sizes[1], 1), strict=True)
    )  # fmt: skip
    counts = draw(st.tuples(st.integers(1, 4), st.integers(1, 5)))
    n, c, filters = (draw(st.integers(1, most)) for most in (3, 3, most_filters))
    return convolution(n, c, sizes, filters, axes, counts)
