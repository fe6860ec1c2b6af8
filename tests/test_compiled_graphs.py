"""Whatever the graph, compiled code computes what the interpreter says it means."""

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_graphs import arrays_for, assert_computes, graphs

import minicomp

RELAXED = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def outputs_of(graph, inputs, parameters, **options):
    """The compiled graph's outputs as a list. Called twice: the second call takes the native
    entry point, and must give the same bits."""
    bound = replace(graph, bindings=parameters)
    compiled = minicomp.compile(bound, options=options or None)
    first, second = (
        list(result) if isinstance(result, tuple) else [result]
        for result in (compiled(*inputs), compiled(*inputs))
    )
    for one, other in zip(first, second, strict=True):
        assert one.tobytes() == other.tobytes()
    return first


@RELAXED
@given(graphs(), st.integers(0, 99))
def test_random_graphs(graph, seed):
    inputs, parameters = arrays_for(graph, seed)
    assert_computes(graph, outputs_of(graph, inputs, parameters), inputs, parameters)


@settings(RELAXED, max_examples=50)
@given(graphs(), st.integers(0, 99))
def test_random_graphs_frozen_and_without_epilogue_fusion(graph, seed):
    inputs, parameters = arrays_for(graph, seed)
    outputs = outputs_of(graph, inputs, parameters, freeze=True, epilogue_fusion=False)
    assert_computes(graph, outputs, inputs, parameters)
