"""The CPU that code is generated for, as the system describes it."""

import pytest

from minicomp.runtime.target import L1_BYTES, L2_BYTES, L3_BYTES, Target, cache_sizes

USUAL = (L1_BYTES, L2_BYTES, L3_BYTES)


def describe(folder, *caches):
    """Files as Linux has them below /sys/devices/system/cpu/cpu0/cache."""
    for number, (level, kind, size) in enumerate(caches):
        cache = folder / f"index{number}"
        cache.mkdir()
        for name, text in (("level", level), ("type", kind), ("size", size)):
            (cache / name).write_text(f"{text}\n")


def test_caches_are_read_from_what_linux_tells(tmp_path):
    describe(tmp_path, (1, "Data", "48K"), (1, "Instruction", "64K"), (2, "Unified", "2048K"),
             (3, "Unified", "491520K"))  # fmt: skip
    assert cache_sizes(tmp_path) == (48 << 10, 2 << 20, 480 << 20)


def test_sizes_in_megabytes(tmp_path):
    describe(tmp_path, (2, "Unified", "2M"))
    assert cache_sizes(tmp_path) == (L1_BYTES, 2 << 20, L3_BYTES)


@pytest.mark.parametrize("size", ["", "0K", "large", "48", "-1K", "48K 2"])
def test_what_is_no_size_counts_for_nothing(tmp_path, size):
    describe(tmp_path, (1, "Data", size))
    assert cache_sizes(tmp_path) == USUAL


def test_caches_that_nobody_describes_have_the_usual_sizes(tmp_path):
    assert cache_sizes(tmp_path / "missing") == USUAL
    (tmp_path / "index0").mkdir()  # no files in it
    (tmp_path / "index1").mkdir()
    (tmp_path / "index1" / "level").write_bytes(b"\xff")
    assert cache_sizes(tmp_path) == USUAL


def test_a_cpu_by_name_is_the_same_on_every_machine():
    target = Target.for_cpu("haswell")
    assert (target.l1_bytes, target.l2_bytes, target.l3_bytes) == USUAL
