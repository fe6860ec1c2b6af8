"""The context on each thread's stack, with a stand-in for pycuda's and CUDA's library."""

import threading

import pytest

from minicomp.errors import CudaError
from minicomp.runtime.cuda import contexts
from minicomp.runtime.cuda.contexts import PrimaryContext


class Context:
    """pycuda's context: what is on the stack of each thread."""

    def __init__(self):
        self.stacks = {}

    def stack(self):
        return self.stacks.setdefault(threading.get_ident(), [])

    def push(self):
        self.stack().append(self)

    def pop(self):
        self.stack().pop()


class Library:
    def __init__(self, context):
        self.context = context

    def cuCtxGetCurrent(self, place):
        place._obj.value = 0x77 if self.context.stack() else None


@pytest.fixture
def primary(monkeypatch):
    at_exit = []
    monkeypatch.setattr(contexts.atexit, "register", at_exit.append)
    monkeypatch.setattr(contexts.os, "register_at_fork", lambda **hooks: None, raising=False)
    context = Context()
    device = type("Device", (), {"retain_primary_context": lambda self: context})()
    primary = PrimaryContext(device, Library(context))
    (primary.exit,) = at_exit
    return primary, context


def test_a_thread_has_it_once_however_often_it_enters(primary):
    primary, context = primary
    for _ in range(3):
        primary.enter()
    assert len(context.stack()) == 1


def test_a_thread_that_ends_takes_it_along(primary):
    primary, context = primary
    thread = threading.Thread(target=primary.enter)
    thread.start()
    thread.join()
    assert [len(stack) for stack in context.stacks.values()] == [1, 0]


def test_nothing_that_goes_after_the_exit_puts_it_back(primary):
    primary, context = primary
    primary.exit()
    assert context.stack() == []
    with pytest.raises(CudaError, match="the interpreter is shutting down"):
        primary.enter()
    assert context.stack() == []
