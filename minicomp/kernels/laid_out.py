"""A convolution split in two, for a product that wants its windows as the rows of a matrix.

In: a `ConvolutionKernel`. Out: kernels that copy the windows out ("im2col"), by way of padded
images where there is padding, and the matrix product that is left.

    out = relu(windows(x) @ b)   ->   padded = 0; padded[.., 1:, 1:] = x; rows = windows(padded);
                                      out = relu(rows @ b)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod

from minicomp.kernels.collapse import collapse
from minicomp.kernels.convolution import ConvolutionKernel
from minicomp.kernels.indexing import Index, LoopVariable, offset_of, ravel, row_major_strides
from minicomp.kernels.kernel import (
    Argument,
    Literal,
    Load,
    LoopKernel,
    MatmulKernel,
    Store,
    View,
)


@dataclass(frozen=True, eq=False)
class LaidOut:
    """`copies` are run in order, then `product`. Arguments of each are the convolution's, and
    after them `added`: the rows of windows and, where there is padding, the padded images."""

    copies: tuple[LoopKernel, ...]
    product: MatmulKernel
    added: tuple[Argument, ...]


def laid_out(kernel: ConvolutionKernel) -> LaidOut:
    """The convolution as copies and a product; see the module's docstring."""
    images, dtype = kernel.images, kernel.accumulate
    alignment = kernel.arguments[kernel.store.buffer].alignment  # it is the runtime's memory too
    lines = (kernel.image, kernel.y, kernel.x)
    windows = prod(loop.extent for loop in lines)
    rows = Argument("rows", dtype, windows * kernel.depth, alignment=alignment)
    shape = (
        kernel.image.extent, images.channels,
        images.y.reach(kernel.y.extent), images.x.reach(kernel.x.extent),
    )  # fmt: skip
    padded = Argument("padded", dtype, prod(shape), alignment=alignment)
    pairs = ((images.y, kernel.y), (images.x, kernel.x))
    needs_padding = not all(axis.is_within(outputs.extent) for axis, outputs in pairs)
    added = (rows, padded) if needs_padding else (rows,)
    copying = _Copying(kernel, (*kernel.arguments, *added))
    copies = list(copying.padding(shape)) if needs_padding else []
    copies.append(copying.windows(shape if needs_padding else None))
    strides = row_major_strides([*(loop.extent for loop in lines), kernel.depth])
    product = MatmulKernel(
        kernel.name, copying.arguments, (kernel.image, kernel.y), kernel.x, kernel.filter,
        kernel.depth, View(copying.rows, 0, strides[:2], strides[2], 1),
        View(kernel.filters.buffer, kernel.filters.offset, (0, 0),
             kernel.filters.row_stride, kernel.filters.column_stride),
        kernel.accumulate, kernel.store, kernel.operations, kernel.locations,
    )  # fmt: skip
    return LaidOut(tuple(copies), product, added)


class _Copying:
    """The kernels that copy, over `arguments`: the convolution's, the rows, the padded images."""

    def __init__(self, kernel: ConvolutionKernel, arguments: tuple[Argument, ...]):
        self.kernel, self.arguments, self.images = kernel, arguments, kernel.images
        self.rows = len(kernel.arguments)
        self.dtype = kernel.accumulate

    def padding(self, shape: tuple[int, ...]) -> Iterator[LoopKernel]:
        """Zeros everywhere, and then the images over them."""
        images, zero = self.images, Literal(self.dtype, 0.0)
        everywhere = LoopVariable("i", prod(shape))
        yield self._loops("fill", (everywhere,), self.rows + 1, Index.of(everywhere), zero)
        y, x = images.y, images.x
        # Rows and columns that no window reaches are left out.
        height, width = (
            max(0, min(axis.size, extent - axis.padding))
            for axis, extent in ((y, shape[2]), (x, shape[3]))
        )
        extents = (shape[0], shape[1], height, width)
        loops = tuple(LoopVariable(f"i{axis}", extent) for axis, extent in enumerate(extents))
        if not prod(extents):
            return
        at = [Index.of(loop) for loop in loops]
        strides = (images.image_stride, images.channel_stride, y.stride, x.stride)
        inside = [at[0], at[1], at[2] + y.padding, at[3] + x.padding]
        loaded = self._load(images.buffer, offset_of(at, strides, images.offset))
        yield self._loops("pad", loops, self.rows + 1, ravel(inside, shape), loaded)

    def windows(self, padded: tuple[int, ...] | None) -> LoopKernel:
        """The windows, of the padded images if they have this shape, else of the images."""
        kernel, images = self.kernel, self.images
        taps = (
            LoopVariable("channel", images.channels),
            LoopVariable("tap_y", images.y.taps),
            LoopVariable("tap_x", images.x.taps),
        )
        loops = (kernel.image, kernel.y, kernel.x, *taps)
        image, y, x, channel, tap_y, tap_x = map(Index.of, loops)
        place = [
            image,
            channel,
            y * images.y.step + tap_y * images.y.dilation,
            x * images.x.step + tap_x * images.x.dilation,
        ]
        if padded is None:
            strides = (images.image_stride, images.channel_stride, images.y.stride, images.x.stride)
            loaded = self._load(images.buffer, offset_of(place, strides, images.offset))
        else:
            loaded = self._load(self.rows + 1, ravel(place, padded))
        index = ravel([image, y, x, channel, tap_y, tap_x], [loop.extent for loop in loops])
        return self._loops("windows", loops, self.rows, index, loaded)

    def _load(self, buffer: int, index: Index) -> Load:
        return Load(self.dtype, buffer, index, self.arguments[buffer].name)

    def _loops(
        self,
        name: str,
        loops: tuple[LoopVariable, ...],
        buffer: int,
        index: Index,
        scalar: Literal | Load,
    ) -> LoopKernel:
        """scalar, stored at `index` in each iteration."""
        arguments = list(self.arguments)
        arguments[buffer] = replace(arguments[buffer], written=True)
        store = Store(buffer, index, scalar)
        return collapse(LoopKernel(
            f"{self.kernel.name}_{name}", tuple(arguments), loops, (), (), (store,),
            operations=("patches",), locations=self.kernel.locations,
        ))  # fmt: skip
