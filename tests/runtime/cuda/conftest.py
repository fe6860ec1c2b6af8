"""The device of these tests; see the conftest above."""

import pytest

from minicomp.runtime.cuda.driver import driver as driver_in_use


@pytest.fixture
def driver():
    """The driver in use: the GPU's, or the simulator's."""
    return driver_in_use()
