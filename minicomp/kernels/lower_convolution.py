"""From a cluster whose matmul reads `patches` to a `ConvolutionKernel`.

In: such a cluster. Out: the kernel, and for each of its arguments the program's buffer. The loops
are (image, filter, y, x), in which order layers keep their results, or (image, y, x, filter), that
of the product itself: whichever is the row-major order of the value that the epilogue stores.
"""

from __future__ import annotations

from dataclasses import replace

from minicomp.ir import Value
from minicomp.kernels.convolution import ConvolutionKernel, ImageView, WindowAxis
from minicomp.kernels.indexing import Index, LoopVariable, ravel
from minicomp.kernels.kernel import View
from minicomp.kernels.lowering import Cluster, Lowering, NotFusable, Place


def lower_convolution(
    cluster: Cluster, name: str, place: Place
) -> tuple[ConvolutionKernel, tuple[int, ...]]:
    """See the module's docstring. NotFusable where the result is stored in neither order."""
    try:
        lowering = _ConvolutionLowering(cluster, name, place)
        return lowering.convolution(by_filter=True), tuple(lowering.buffers)
    except NotFusable:
        lowering = _ConvolutionLowering(cluster, name, place)
        return lowering.convolution(by_filter=False), tuple(lowering.buffers)


class _ConvolutionLowering(Lowering):
    """The lowering of one cluster; `image`, `y`, `x` and `filter` are its loops."""

    @property
    def product_index(self) -> tuple[Index, ...]:
        """The windows are the product's rows."""
        loops = (self.image, self.y, self.x)
        window = ravel([Index.of(loop) for loop in loops], [loop.extent for loop in loops])
        return window, Index.of(self.filter)

    def convolution(self, by_filter: bool) -> ConvolutionKernel:
        product, stored = self.product_and_stored()
        patches, filters = product.operands
        axes = _window_axes(patches)
        self.image = LoopVariable("image", patches.operands[0].shape[0])
        self.y, self.x = (
            LoopVariable(name, count) for name, (_, count) in zip("yx", axes, strict=True)
        )
        self.filter = LoopVariable("filter", product.shape[-1])
        window = (self.y, self.x)
        order = (self.filter, *window) if by_filter else (*window, self.filter)
        self.space = (self.image, *order)
        images = self._images(patches.operands[0], axes[0][0], axes[1][0])
        k = LoopVariable("k", filters.shape[0])
        number, offset, strides = self.strided(filters, [k, self.filter])
        view = View(number, offset, (), *strides)
        store = self.store_of(stored)
        return ConvolutionKernel(
            self.name, tuple(self.arguments), self.image, self.y, self.x, self.filter, images, view,
            product.dtype, store, self.operations(), self.locations(),
        )  # fmt: skip

    def _images(self, x: Value, y_axis: WindowAxis, x_axis: WindowAxis) -> ImageView:
        loops = [LoopVariable(f"x{axis}", extent) for axis, extent in enumerate(x.shape)]
        number, offset, (image, channel, row, column) = self.strided(x, loops)
        return ImageView(
            number, offset, image, channel, x.shape[1],
            replace(y_axis, stride=row), replace(x_axis, stride=column),
        )  # fmt: skip


def _window_axes(patches: Value) -> list[tuple[WindowAxis, int]]:
    """Of height and of width: how windows move, in memory that is yet to be found, and how many
    there are."""
    attributes, (*_, height, width) = patches.attributes, patches.operands[0].shape
    found = []
    for axis, size in enumerate((height, width)):
        taps, step, dilation, low, high = (
            attributes[name][axis] for name in ("sizes", "strides", "dilations", "low", "high")
        )
        reach = (taps - 1) * dilation + 1
        count = (low + size + high - reach) // step + 1
        found.append((WindowAxis(size, 1, taps, step, dilation, low), count))
    return found
