"""What a target knows of the cache that cores share."""

import pytest

from minicomp.runtime.target import L3_BYTES, Target, shared_cache_size


def describe(folder, *caches):
    for number, (level, size) in enumerate(caches):
        cache = folder / f"index{number}"
        cache.mkdir()
        (cache / "level").write_text(f"{level}\n")
        (cache / "size").write_text(f"{size}\n")


def test_the_size_of_level_three_is_what_linux_tells(tmp_path):
    describe(tmp_path, (1, "48K"), (2, "2048K"), (3, "491520K"))
    assert shared_cache_size(tmp_path) == 480 << 20


@pytest.mark.parametrize("caches", [[], [(1, "32K"), (2, "1024K")], [(3, "")], [(3, "0K")]])
def test_where_nobody_tells_it_is_the_usual_one(caches, tmp_path):
    describe(tmp_path, *caches)
    assert shared_cache_size(tmp_path) == L3_BYTES
    assert Target.for_cpu("znver4").l3_bytes == L3_BYTES
