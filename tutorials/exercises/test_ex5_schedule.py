"""Grades ex5_schedule.py: the tile goes into the schedule of a matmul, which is compiled."""

from dataclasses import replace

import numpy as np
import pytest

import minicomp
from minicomp.codegen.matmul_schedules import schedules
from minicomp.runtime import cpu_backend


def needed(tile):
    rows, vectors = tile
    return rows * vectors + vectors + 1


def multiply_adds_per_load(tile):
    rows, vectors = tile
    return rows * vectors / (rows + vectors)


@pytest.mark.parametrize("registers", [8, 16, 32])
def test_the_tile_fits(answer, registers):
    tile = answer.register_tile(registers)
    assert min(tile) >= 1, f"a tile has at least one row and one vector, got {tile}"
    assert needed(tile) <= registers, (
        f"the tile {tile} needs {tile[0]} * {tile[1]} accumulators, {tile[1]} registers for b and "
        f"one for a: {needed(tile)}, and there are {registers}"
    )


@pytest.mark.parametrize("registers, best", [(8, (2, 2)), (16, (4, 3)), (32, (5, 5))])
def test_no_tile_does_more_per_load(answer, registers, best):
    tile = answer.register_tile(registers)
    assert tile == best, (
        f"with {registers} registers {best} does {multiply_adds_per_load(best):.2f} multiply-adds "
        f"per load, your {tile} does {multiply_adds_per_load(tile):.2f}"
    )


@pytest.mark.parametrize(
    "registers, best, why",
    [(24, (6, 3), "more accumulators"), (26, (5, 4), "more rows")],
    ids=["accumulators", "rows"],
)
def test_ties_are_settled(answer, registers, best, why):
    tile = answer.register_tile(registers)
    assert tile == best, (
        f"with {registers} registers {best} and your {tile} do "
        f"{multiply_adds_per_load(best):.2f} and {multiply_adds_per_load(tile):.2f} multiply-adds "
        f"per load; of equally good ones it should be the one with {why}"
    )


@pytest.mark.parametrize("registers", [16, 32])
def test_the_pipeline_takes_it(answer, registers, monkeypatch):
    rows, vectors = answer.register_tile(registers)
    assert needed((rows, vectors)) <= registers, f"{(rows, vectors)} does not fit"

    def mine(kernel, target, *rest):
        """minicomp's first schedule, with the answer's tile."""
        lanes = target.vector_bits // 32
        columns = vectors * lanes
        first = next(s for s in schedules(kernel, target, *rest) if s.family == "outer")
        return (
            replace(
                first, vector_width=lanes, tile_rows=rows, tile_columns=columns,
                block_columns=columns * 4, pack_a=False, pack_b=True,
            ),
        )  # fmt: skip

    monkeypatch.setattr(cpu_backend, "schedules", mine)
    a, b = np.random.default_rng(0).standard_normal((2, 150, 150), np.float32)
    model = minicomp.compile(lambda a, b: a @ b, options={"force_disable_caches": True})
    np.testing.assert_allclose(model(a, b), a @ b, rtol=1e-3, atol=1e-3)
    (site,) = model.explain().sites
    assert f"{rows}x" in site.chosen, f"the schedule that ran is {site.chosen}"
