"""What every test of generated code leaves behind, and later ones do not want."""

import pytest

from minicomp.simulator import simulator as simulators


@pytest.fixture(autouse=True)
def _no_programs_of_earlier_tests():
    """The simulator remembers programs by their text, a million objects in all, that no other test
    runs again: Python's collector would go through them time and again."""
    yield
    simulators._load.cache_clear()
