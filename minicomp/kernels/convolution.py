"""Convolutions: matrix products whose left operand is read in place, from windows of images.

In: from `lower_convolution`. Out: for the back end that can, the kernel as it is; for a matmul that
wants a real matrix, `laid_out`: kernels that copy the windows into the rows of one ("im2col"), and
the product of that.

    kernel matmul(x: f32[50176], weight: f32[36864], out: f32[200704] written)
      for image in 1, y in 28, x in 28, filter in 64:  # parallel
        a = x from 0: windows of 64 channels, images 50176 and channels 784 apart
          y 28 by 28: 3 taps, step 1, dilation 1, padding 1
          x 28 by 1: 3 taps, step 1, dilation 1, padding 1
        b = weight from 0, strides (1, 576)
        product = sum over k in 576 of a[.., k] * b[k, ..]  # f32
        out[50176*image + 784*filter + 28*y + x] = product
"""

from __future__ import annotations

from dataclasses import dataclass

from minicomp.ir import Location
from minicomp.kernels.indexing import LoopVariable
from minicomp.kernels.kernel import Argument, Product, Store, View


@dataclass(frozen=True)
class WindowAxis:
    """An axis of images, and how windows move along it: tap t of output o reads the entry at
    `step * o + dilation * t - padding`, and 0 where the axis has no such entry.

    `size` is the axis's extent, `stride` the way to the next entry, in elements.
    """

    size: int
    stride: int
    taps: int
    step: int
    dilation: int
    padding: int

    def __str__(self) -> str:
        text = f"{self.size} by {self.stride}: {self.taps} taps, step {self.step}"
        return f"{text}, dilation {self.dilation}, padding {self.padding}"

    def reach(self, outputs: int) -> int:
        """How many neighbouring entries, padding included, the windows of all outputs span."""
        return self.step * (outputs - 1) + self.dilation * (self.taps - 1) + 1

    def is_within(self, outputs: int) -> bool:
        """Whether no window reads padding."""
        return self.padding == 0 and self.reach(outputs) <= self.size

    def taps_within(self, output: int) -> range:
        """The taps of one output that read entries of the image. They are neighbours."""
        start = self.step * output - self.padding
        first = min(max(0, -(start // self.dilation)), self.taps)
        end = min(-((start - self.size) // self.dilation), self.taps)
        return range(first, max(first, end))


@dataclass(frozen=True)
class ImageView:
    """Images in argument number `buffer`; offset and strides in elements. Their windows, one for
    each (image, output y, output x), are rows of k = (channel, tap of y, tap of x)."""

    buffer: int
    offset: int
    image_stride: int
    channel_stride: int
    channels: int
    y: WindowAxis
    x: WindowAxis

    def __str__(self) -> str:
        strides = f"images {self.image_stride} and channels {self.channel_stride} apart"
        return f"windows of {self.channels} channels, {strides}; y {self.y}; x {self.x}"

    @property
    def depth(self) -> int:
        return self.channels * self.y.taps * self.x.taps


@dataclass(frozen=True, eq=False)
class ConvolutionKernel:
    """store(sum over k of windows[image, y, x][k] * filters[k, filter]), for all four loops.

    The store and its epilogue are written in the loop variables. The product is accumulated in
    `accumulate`, which is also the dtype of both operands.
    """

    name: str
    arguments: tuple[Argument, ...]
    image: LoopVariable
    y: LoopVariable
    x: LoopVariable
    filter: LoopVariable
    images: ImageView
    filters: View
    accumulate: str
    store: Store
    operations: tuple[str, ...] = ()
    locations: tuple[Location, ...] = ()

    @property
    def depth(self) -> int:
        return self.images.depth

    @property
    def loops(self) -> tuple[LoopVariable, ...]:
        """In the order of the matrix product: windows, filters."""
        return self.image, self.y, self.x, self.filter

    @property
    def has_epilogue(self) -> bool:
        return not isinstance(self.store.scalar, Product)

    @property
    def flops(self) -> int:
        """Multiplications and additions of the product, those with padding too."""
        outputs = self.image.extent * self.y.extent * self.x.extent * self.filter.extent
        return 2 * outputs * self.depth

    def __str__(self) -> str:
        from minicomp.kernels.text import convolution_kernel_text

        return convolution_kernel_text(self)
