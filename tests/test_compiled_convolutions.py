"""Convolutions compiled for the CPU: one kernel, right for every variant, and a call site."""

import numpy as np
import pytest
from error_bounds import assert_computes
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import minicomp
from minicomp import nn

RANDOM = np.random.default_rng(0)


def floats(*shape, dtype=np.float32):
    return RANDOM.standard_normal(shape).astype(dtype)


def checked(function, *arrays, **options):
    """The compiled function, having computed what the interpreter does."""
    graph = minicomp.trace(function, *arrays)
    compiled = minicomp.compile(function, options=options)
    result = compiled(*arrays)
    results = result if isinstance(result, tuple) else (result,)
    assert_computes(graph, results, arrays, {})
    return compiled


def kernels(compiled):
    return [(kernel.kind, kernel.operations) for kernel in compiled.explain().kernels]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("batch", [0, 1, 3])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"padding": 1},
        {"padding": "same"},
        {"padding": (0, 2), "stride": (2, 1)},
        {"dilation": (2, 1), "padding": 2},
        {"stride": 2, "padding": 3},
        {"groups": 3},
    ],
)
def test_every_variant_computes_what_it_means(batch, dtype, arguments):
    channels = 6 // arguments.get("groups", 1)
    x, weight = floats(batch, 6, 9, 11, dtype=dtype), floats(12, channels, 3, 2, dtype=dtype)
    bias = floats(12, dtype=dtype)
    checked(lambda x, w: minicomp.conv2d(x, w, **arguments), x, weight)
    checked(lambda x, w, b: minicomp.relu(minicomp.conv2d(x, w, b, **arguments)), x, weight, bias)


@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_shape(data):
    draw = data.draw
    n, c, filters = draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(st.integers(1, 40))
    size, taps, step, gap, pad = (
        tuple(draw(st.integers(low, high)) for _ in "yx")
        for low, high in ((1, 20), (1, 4), (1, 3), (1, 2), (0, 3))
    )
    reach = [(k - 1) * d + 1 for k, d in zip(taps, gap, strict=True)]
    assume(all(s + 2 * p >= r for s, p, r in zip(size, pad, reach, strict=True)))
    x, weight = floats(n, c, *size), floats(filters, c, *taps)
    checked(lambda x, w: minicomp.conv2d(x, w, None, step, pad, gap), x, weight)


def test_bias_activation_and_residual_are_done_in_the_convolution_itself():
    x, weight, bias, more = floats(2, 8, 7, 9), floats(16, 8, 3, 3), floats(16), floats(2, 16, 7, 9)

    def layer(x, w, b, more):
        return minicomp.relu(minicomp.conv2d(x, w, b, padding=1) + more)

    compiled = checked(layer, x, weight, bias, more)
    assert kernels(compiled) == [("convolution", ("matmul", "add", "add", "maximum"))]


def test_convolutions_in_a_row_copy_nothing():
    x, first, second = floats(1, 4, 8, 8), floats(8, 4, 3, 3), floats(16, 8, 3, 3)

    def layers(x, first, second):
        hidden = minicomp.relu(minicomp.conv2d(x, first, padding=1))
        return minicomp.conv2d(hidden, second, padding=1)

    compiled = checked(layers, x, first, second)
    assert [kind for kind, _ in kernels(compiled)] == ["convolution", "convolution"]


def test_one_image_without_a_batch_is_one_kernel_too():
    compiled = checked(lambda x, w: minicomp.conv2d(x, w), floats(3, 6, 7), floats(9, 3, 3, 3))
    assert [kind for kind, _ in kernels(compiled)] == ["convolution"]


def test_images_and_filters_of_any_layout_are_read_where_they_are():
    x = np.asfortranarray(floats(2, 8, 7, 9))[:, ::-2]
    weight = floats(32, 4, 3, 3)[::-2]
    compiled = checked(lambda x, w: minicomp.conv2d(x, w, padding=1), x, weight)
    assert [kind for kind, _ in kernels(compiled)] == ["convolution"]


def test_a_padded_image_that_something_else_reads_is_padded_for_that_alone():
    def both(x, w):
        padded = minicomp.pad(x, 1)
        return minicomp.conv2d(padded[1:-1, 1:-1], w), padded

    compiled = checked(both, floats(2, 8, 7, 9), floats(16, 8, 3, 3))
    assert "convolution" in [kind for kind, _ in kernels(compiled)]


def test_threads_share_the_lines_or_the_filters():
    x, weight = floats(10, 8, 30, 30), floats(64, 8, 3, 3)
    few, many = floats(1, 256, 6, 6), floats(256, 256, 3, 3)
    for arrays, end in (((x, weight), "_2l"), ((few, many), "_2f")):
        compiled = checked(lambda x, w: minicomp.conv2d(x, w, padding=1), *arrays, num_threads=2)
        (site,) = compiled.explain().sites
        assert site.chosen.endswith(end)


# --- selection ------------------------------------------------------------------------------------


class Layer(nn.Module):
    def __init__(self, padding):
        super().__init__()
        self.convolution = nn.Conv2d(4, 16, 3, padding=padding)

    def forward(self, x):
        return minicomp.relu(self.convolution(x))


def chosen_by(name):
    return minicomp.selection.use_timer(lambda candidate, run: 1e-6 if candidate == name else 1e-3)


@pytest.mark.parametrize("padding", [0, 1])
def test_an_external_is_given_the_windows_as_a_matrix(padding):
    seen = []

    def product(a, b, out):
        seen.append((a.shape, a.flags.c_contiguous, a.flags.writeable, b.shape, out.shape))
        np.matmul(a, b, out=out)

    module, x = Layer(padding), floats(2, 4, 6, 7)
    options = {"max_autotune": True, "external_matmul": [product]}
    compiled = minicomp.compile(module, options=options)
    with chosen_by("product"):
        result = compiled(x)
    rows = 2 * (4 + 2 * padding) * (5 + 2 * padding)
    assert set(seen) == {((rows, 36), True, False, (36, 16), (rows, 16))}
    np.testing.assert_allclose(result, module(x), rtol=1e-4, atol=1e-5)
    (site,) = compiled.explain().sites
    assert site.chosen == "product"
    assert site.shapes == ((rows, 36), (36, 16))
    kinds = [kind for kind, _ in kernels(compiled)]
    copies = ["loop"] if padding == 0 else ["loop"] * 3
    assert kinds == [*copies, "external", "loop"]
    np.testing.assert_array_equal(compiled(x), result)


def test_a_wrong_external_is_rejected():
    def wrong(a, b, out):
        np.matmul(a[:, :-1], b[:-1], out=out)

    options = {"max_autotune": True, "external_matmul": [wrong]}
    compiled = minicomp.compile(Layer(1), options=options)
    x = floats(2, 4, 6, 7)
    with chosen_by("wrong"):
        compiled(x)
    (site,) = compiled.explain().sites
    statuses = {report.name: report.status for report in site.candidates}
    assert statuses.pop("wrong") == "rejected"
    assert set(statuses.values()) == {"ok"}
    assert site.chosen.startswith("windows_")


def test_the_call_site_tells_a_convolution_from_a_product():
    """The candidates of both differ, and of two convolutions of equal matrices too."""

    def key(function, *arrays):
        compiled = minicomp.compile(function, options={"max_autotune": True})
        compiled(*arrays)
        (choice,) = compiled.choices()
        return choice.site.key

    weight = floats(8, 1, 2, 2)
    keys = [
        key(lambda x, w: minicomp.conv2d(x, w), floats(1, 1, 7, 5), weight),
        key(lambda x, w: minicomp.conv2d(x, w), floats(1, 1, 5, 7), weight),
        key(lambda a, w: a @ w.reshape(8, 4).T, floats(24, 4), weight),
    ]
    assert all(k.startswith("matmul f32[24,4]{4,1} @ f32[4,8]{1,4} on cpu") for k in keys)
    assert len(set(keys)) == 3


def test_choices_are_replayed(tmp_path):
    module, x = Layer(1), floats(2, 4, 6, 7)
    first = minicomp.compile(module, options={"max_autotune": True})
    result = first(x)
    first.save_choices(tmp_path / "choices.json")
    replayed = minicomp.compile(module, options={"choices": tmp_path / "choices.json"})
    np.testing.assert_array_equal(replayed(x), result)
    assert replayed.explain().sites[0].chosen == first.explain().sites[0].chosen
