"""Convolution and pooling, against loops over every output."""

import math

import numpy as np
import pytest

import minicomp as mc
from minicomp.errors import AttributeValueError, ShapeError, UnsupportedError


def sample(*shape, seed=0):
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(np.float64)


def windows(x, kernel, stride, dilation):
    """Every window of the last two axes: yields (row, column, window)."""
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    for row in range((x.shape[-2] - reach[0]) // stride[0] + 1):
        for column in range((x.shape[-1] - reach[1]) // stride[1] + 1):
            top, left = row * stride[0], column * stride[1]
            bottom, right = top + reach[0], left + reach[1]
            yield row, column, x[..., top : bottom : dilation[0], left : right : dilation[1]]


def convolved(x, weight, stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1):
    x = np.pad(x, ((0, 0), (0, 0), *padding))
    found = list(windows(x, weight.shape[2:], stride, dilation))
    out = np.zeros((x.shape[0], weight.shape[0], found[-1][0] + 1, found[-1][1] + 1))
    inputs, outputs = weight.shape[1], weight.shape[0] // groups
    for row, column, window in found:
        for channel in range(weight.shape[0]):
            group = channel // outputs
            part = window[:, group * inputs : (group + 1) * inputs]
            out[:, channel, row, column] = (part * weight[channel]).sum((1, 2, 3))
    return out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, {}),
        ({"stride": 2}, {"stride": (2, 2)}),
        ({"padding": 1}, {"padding": ((1, 1), (1, 1))}),
        ({"padding": (0, 2), "stride": (2, 1)}, {"padding": ((0, 0), (2, 2)), "stride": (2, 1)}),
        ({"dilation": (2, 1)}, {"dilation": (2, 1)}),
        ({"padding": "valid"}, {}),
        ({"padding": "same"}, {"padding": ((1, 1), (0, 1))}),
        ({"padding": "same", "dilation": 2}, {"padding": ((2, 2), (1, 1)), "dilation": (2, 2)}),
    ],
)
def test_convolution(agree, arguments, expected):
    x, weight = sample(2, 3, 7, 6), sample(4, 3, 3, 2, seed=1)
    wanted = convolved(x, weight, **expected)
    graph = agree(lambda x, w: mc.conv2d(x, w, **arguments), wanted, x, weight)
    assert [value.op for value in graph].count("matmul") == 1


@pytest.mark.parametrize("groups", [2, 4])
def test_convolution_in_groups(agree, groups):
    x, weight = sample(2, 4, 5, 5), sample(8, 4 // groups, 2, 3, seed=1)
    expected = convolved(x, weight, groups=groups)
    graph = agree(lambda x, w: mc.conv2d(x, w, groups=groups), expected, x, weight)
    assert [value.op for value in graph].count("matmul") == 1


def test_convolution_with_bias_and_without_a_batch(agree):
    x, weight, bias = sample(3, 5, 5), sample(4, 3, 2, 2, seed=1), sample(4, seed=2)
    expected = convolved(x[None], weight)[0] + bias[:, None, None]
    agree(mc.conv2d, expected, x, weight, bias)


@pytest.mark.parametrize(
    ("x", "weight", "message"),
    [
        ((2, 3, 4, 4), (4, 2, 2, 2), "the input has 3 channels, .* wants 2"),
        ((2, 3), (4, 3, 2, 2), r"wanted \(batch, channels, height, width\)"),
        ((2, 3, 4, 4), (4, 3), "weight has shape"),
        ((2, 3, 4, 4), (4, 3, 5, 2), "5 by 2 does not fit into the padded input, 4 by 4"),
    ],
)
def test_shapes_that_do_not_fit_are_named(x, weight, message):
    with pytest.raises(ShapeError, match=message):
        mc.conv2d(sample(*x), sample(*weight))
    with pytest.raises(ShapeError, match=r"bias has shape \(3,\), wanted \(4,\)"):
        mc.conv2d(sample(2, 3, 4, 4), sample(4, 3, 2, 2), sample(3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"groups": 2}, "groups=2 does not divide"),
        ({"stride": 0}, "stride is 0, wanted 1 or more"),
        ({"padding": -1}, "padding is -1, wanted 0 or more"),
        ({"padding": "full"}, "padding is 'full'"),
        ({"dilation": (1, 2, 3)}, "wanted an int or a pair of ints"),
        ({"padding": "same", "stride": 2}, "needs stride 1"),
    ],
)
def test_impossible_arguments_are_named(arguments, message):
    with pytest.raises(AttributeValueError, match=message):
        mc.conv2d(sample(2, 3, 4, 4), sample(4, 3, 2, 2), **arguments)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"),
    [(2, None, 0, 1), (3, 2, 1, 1), ((2, 3), (1, 2), (1, 0), 1), (2, 1, 0, 2)],
)
def test_max_pooling(agree, kernel, stride, padding, dilation):
    x = sample(2, 3, 7, 6)
    size = (kernel, kernel) if isinstance(kernel, int) else kernel
    pair = [(v, v) if isinstance(v, int) else v for v in (stride or size, padding, dilation)]
    edges = ((0, 0), (0, 0), *((p, p) for p in pair[1]))
    wide = np.pad(x, edges, constant_values=-math.inf)
    found = list(windows(wide, size, pair[0], pair[2]))
    expected = np.zeros((2, 3, found[-1][0] + 1, found[-1][1] + 1))
    for row, column, window in found:
        expected[..., row, column] = window.max((-1, -2))
    agree(lambda x: mc.max_pool2d(x, kernel, stride, padding, dilation), expected, x)


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, None, 0), (3, 2, 1), (2, 1, 1)])
def test_average_pooling(agree, kernel, stride, padding, counted):
    x = sample(2, 3, 6, 5)
    edges = ((0, 0), (0, 0), (padding, padding), (padding, padding))
    wide = np.pad(x, edges, constant_values=0 if counted else np.nan)
    step = stride or kernel
    found = list(windows(wide, (kernel, kernel), (step, step), (1, 1)))
    expected = np.zeros((2, 3, found[-1][0] + 1, found[-1][1] + 1))
    for row, column, window in found:
        expected[..., row, column] = np.nanmean(window, (-1, -2))
    pool = mc.avg_pool2d
    agree(lambda x: pool(x, kernel, stride, padding, count_include_pad=counted), expected, x)


def test_pooling_of_other_dtypes_and_one_image(agree):
    x = np.arange(16, dtype=np.int32).reshape(1, 4, 4)
    expected = np.array([[[-95, -93], [-87, -85]]], np.int32)
    agree(lambda x: mc.max_pool2d(x, 3, padding=1), expected, x - np.int32(100))
    agree(lambda x: mc.avg_pool2d(x, 4), np.array([[[7.5]]]), x)
    agree(lambda x: mc.avg_pool2d(x, 4, divisor_override=2), np.array([[[60.0]]]), x)
    agree(lambda x: mc.max_pool2d(x, 2), np.ones((1, 1, 1), bool), np.eye(2, dtype=bool)[None])


def pooled_with_ceil(x, kernel, stride, padding, reduce, counted=False):
    """Windows as PyTorch's documentation has them: each that begins within the image or the
    padding before it, cut off at the image's end, or (`counted`) at the padding's."""
    margin = padding if counted else 0
    wide = np.pad(x, ((0, 0), (0, 0), (margin, margin), (margin, margin)))
    starts = [
        [at for at in range(-padding, size + padding, stride) if at < size
         and (at == -padding or at - stride + kernel < size + padding)]
        for size in x.shape[2:]
    ]  # fmt: skip
    out = np.zeros((*x.shape[:2], len(starts[0]), len(starts[1])))
    for i, top in enumerate(starts[0]):
        for j, left in enumerate(starts[1]):
            rows = slice(max(top + margin, 0), top + margin + kernel)
            columns = slice(max(left + margin, 0), left + margin + kernel)
            out[..., i, j] = reduce(wide[:, :, rows, columns], (2, 3))
    return out


@pytest.mark.parametrize("size", [(7, 6), (5, 8), (3, 3)])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(2, 2, 0), (3, 2, 1), (2, 3, 0), (3, 3, 1), (3, 1, 1)]
)
def test_pooling_with_ceil_mode_takes_the_windows_that_reach_beyond(
    agree, size, kernel, stride, padding
):
    x = sample(2, 3, *size)
    place = (kernel, stride, padding)
    expected = pooled_with_ceil(x, *place, np.max)
    agree(lambda x: mc.max_pool2d(x, *place, ceil_mode=True), expected, x)
    for counted in (True, False):
        expected = pooled_with_ceil(x, *place, np.mean, counted)
        agree(lambda x, c=counted: mc.avg_pool2d(x, *place, True, c), expected, x)


def test_ceil_mode_leaves_out_a_window_that_begins_in_the_padding_behind():
    x = np.ones((1, 1, 2, 2))
    assert mc.max_pool2d(x, 2, 3, 1, ceil_mode=True).shape == (1, 1, 1, 1)
    assert mc.max_pool2d(x, 1, 2, ceil_mode=True).shape == (1, 1, 1, 1)
    assert mc.max_pool2d(np.ones((1, 1, 1, 1)), 2, ceil_mode=True).shape == (1, 1, 1, 1)


def test_pooling_that_cannot_be_is_named():
    x = sample(1, 1, 4, 4)
    with pytest.raises(AttributeValueError, match="divisor_override is 0"):
        mc.avg_pool2d(x, 2, divisor_override=0)
    with pytest.raises(UnsupportedError, match="return_indices=True"):
        mc.max_pool2d(x, 2, return_indices=True)
    with pytest.raises(AttributeValueError, match="more than half of the kernel"):
        mc.max_pool2d(x, 2, padding=2)
