"""Whatever the program, its compiled form computes what it gives eagerly."""

import numpy as np
from error_bounds import assert_close, bounded_outputs
from hypothesis import HealthCheck, given, settings
from random_programs import programs

import minicomp

RELAXED = settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def as_list(outputs):
    return list(outputs) if isinstance(outputs, tuple) else [outputs]


def check(program, **options):
    """Traced, interpreted, compiled and eager agree, within the bounds of rounding errors."""
    graph = minicomp.trace(program.function, *program.inputs)
    expected = bounded_outputs(graph, program.inputs)
    compiled = minicomp.compile(program.function, options=options or None)
    with np.errstate(all="ignore"):
        eager = as_list(program.function(*program.inputs))
    results = as_list(compiled(*program.inputs))
    for number, (wanted, bound) in enumerate(expected):
        assert_close(np.asarray(eager[number]), wanted, bound)
        assert_close(results[number], wanted, bound)


@RELAXED
@given(programs())
def test_random_programs(program):
    check(program)
