"""The CPU as selection sees it."""

import numpy as np
import pytest

from minicomp.runtime.target import host_target
from minicomp.selection import HostDevice


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x,
        lambda x: x.T,
        lambda x: x[::2, 1:],
        lambda x: x[::-1, ::-2],
        lambda x: np.broadcast_to(x[:1], (5, 8)),
        lambda x: x[2],
    ],
)
def test_an_array_like_another_has_its_layout_and_none_of_its_memory(view):
    original = view(np.arange(48, dtype=np.float32).reshape(6, 8))
    before = original.copy()
    device = HostDevice()
    copy = device.like(original)
    device.fill(copy, original)
    assert (copy.shape, copy.strides, copy.dtype) == (
        original.shape,
        original.strides,
        original.dtype,
    )
    assert copy.flags.writeable and not np.shares_memory(copy, original)
    assert np.array_equal(copy, before)
    copy[...] = -1
    assert np.array_equal(original, before)


def test_an_empty_array_has_its_like():
    copy = HostDevice().like(np.zeros((6, 8), np.float32)[:, :0])
    assert (copy.shape, copy.dtype) == ((6, 0), np.float32)


def test_the_identity_tells_thread_counts_apart_and_is_stable():
    assert HostDevice(2).identity == HostDevice(2).identity
    assert HostDevice(1).identity != HostDevice(2).identity
    assert f"numpy {np.__version__}" in HostDevice().identity


@pytest.mark.skipif(host_target().architecture != "x86_64", reason="names an x86-64")
def test_the_identity_tells_apart_what_code_is_generated_for(monkeypatch):
    own = HostDevice().identity
    monkeypatch.setenv("MINICOMP_CPU", "x86-64-v2")
    assert HostDevice().identity != own
