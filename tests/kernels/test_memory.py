"""Memory plans: buffers that live at once never share a byte, and the arena stays small."""

from hypothesis import given, settings
from hypothesis import strategies as st

from minicomp.kernels.memory import ALIGNMENT, Lifetime, plan_memory


@st.composite
def lifetimes(draw):
    count = draw(st.integers(0, 12))
    made = []
    for number in range(count):
        first = draw(st.integers(0, 10))
        made.append(
            Lifetime(number, draw(st.integers(0, 500)), first, first + draw(st.integers(0, 4)))
        )
    return made


@settings(max_examples=300, deadline=None)
@given(lifetimes(), st.sampled_from([ALIGNMENT, 256]))
def test_buffers_alive_at_once_do_not_overlap(items, alignment):
    offsets, size = plan_memory(items, alignment)
    assert set(offsets) == {item.buffer for item in items}
    for a in items:
        assert offsets[a.buffer] % alignment == 0
        assert offsets[a.buffer] + a.nbytes <= size
        for b in items:
            if a is not b and a.overlaps(b) and a.nbytes and b.nbytes:
                apart = (
                    offsets[a.buffer] + a.nbytes <= offsets[b.buffer]
                    or offsets[b.buffer] + b.nbytes <= offsets[a.buffer]
                )
                assert apart, (a, b)


def test_a_chain_of_temporaries_takes_the_room_of_two():
    chain = [Lifetime(number, 1000, number, number + 1) for number in range(20)]
    _, size = plan_memory(chain)
    assert size == 2 * 1024


def test_nothing_to_place_needs_no_arena():
    assert plan_memory([]) == ({}, 0)
