"""Layers on images (batch, channels, height, width): convolution and pooling.

>>> from minicomp import nn
>>> nn.Conv2d(3, 8, kernel_size=3, padding=1)(np.zeros((2, 3, 16, 16), np.float32)).shape
(2, 8, 16, 16)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minicomp import functional as F
from minicomp.errors import AttributeValueError
from minicomp.functional.convolution import convolution_padding, pair, pooling_windows
from minicomp.nn import initialisation
from minicomp.nn.arguments import checks_arguments, size
from minicomp.nn.module import Module

Size = int | tuple[int, int]

#: padding_mode -> NumPy's name of it
PADDING_MODES = {
    "zeros": "constant",
    "reflect": "reflect",
    "replicate": "edge",
    "circular": "wrap",
}


class Conv2d(Module):
    """Cross-correlation with learned filters, as one matrix product: see functional.conv2d."""

    @checks_arguments
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        if padding_mode not in PADDING_MODES:
            raise AttributeValueError(
                f"padding_mode is {padding_mode!r}, wanted one of {', '.join(PADDING_MODES)}"
            )
        self.in_channels = size(in_channels, "in_channels")
        self.out_channels = size(out_channels, "out_channels")
        self.groups, self.padding_mode = size(groups, "groups", 1), padding_mode
        if in_channels % groups or out_channels % groups:
            raise AttributeValueError(
                f"groups={groups} does not divide {in_channels} and {out_channels} channels"
            )
        self.kernel_size = pair(kernel_size, "kernel_size", 1)
        self.stride, self.dilation = pair(stride, "stride", 1), pair(dilation, "dilation", 1)
        self.padding = padding if isinstance(padding, str) else pair(padding, "padding", 0)
        self._widths()  # raises for padding that cannot be
        shape = (out_channels, in_channels // groups, *self.kernel_size)
        bound = initialisation.kaiming_bound(shape[1] * shape[2] * shape[3])
        self.weight = initialisation.uniform(shape, bound, dtype, device)
        self.register_parameter(
            "bias", initialisation.uniform(shape[:1], bound, dtype, device) if bias else None
        )

    def _widths(self) -> list[tuple[int, int]]:
        """The padding (before, after) of height and of width."""
        around = convolution_padding(self.padding, self.kernel_size, self.stride, self.dilation)
        return list(zip(*around, strict=True))

    def forward(self, x: Any) -> Any:
        padding: Size | str = self.padding
        if self.padding_mode != "zeros":  # elements of the image's own
            widths = [(0, 0)] * (len(np.shape(x)) - 2) + self._widths()
            x, padding = F.pad(x, widths, PADDING_MODES[self.padding_mode]), 0
        return F.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        text = (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}"
        )
        for name, usual in (("padding", (0, 0)), ("dilation", (1, 1)), ("groups", 1)):
            if getattr(self, name) != usual:
                text += f", {name}={getattr(self, name)}"
        text += "" if self.bias is not None else ", bias=False"
        return text if self.padding_mode == "zeros" else f"{text}, padding_mode={self.padding_mode}"


class MaxPool2d(Module):
    """The maximum of each window: see functional.max_pool2d."""

    @checks_arguments
    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        dilation: Size = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ):
        super().__init__()
        pooling_windows(kernel_size, stride, padding)
        pair(dilation, "dilation", 1)
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.dilation = padding, dilation
        self.return_indices, self.ceil_mode = return_indices, ceil_mode

    def forward(self, x: Any) -> Any:
        return F.max_pool2d(
            x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode,
            self.return_indices,
        )  # fmt: skip

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class AvgPool2d(Module):
    """The mean of each window: see functional.avg_pool2d."""

    @checks_arguments
    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ):
        super().__init__()
        pooling_windows(kernel_size, stride, padding)
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.ceil_mode = padding, ceil_mode
        self.count_include_pad, self.divisor_override = count_include_pad, divisor_override

    def forward(self, x: Any) -> Any:
        return F.avg_pool2d(
            x, self.kernel_size, self.stride, self.padding, self.ceil_mode,
            self.count_include_pad, self.divisor_override,
        )  # fmt: skip

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"
