"""Who takes part: minicomp, and every peer that is installed.

In: a workload and its arrays. Out: a callable without arguments that does one call, as a user of
that library would: on the library's own arrays, converted beforehand, unless the workload is about
calls with NumPy arrays. `result()` is what a call gave, as a NumPy array.

A peer that has no function for a workload does not take part in it.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
from benchmarks.neighbours import Watch
from benchmarks.timing import settle
from benchmarks.workloads import Workload

import minicomp
from minicomp import nn

Run = Callable[[], Any]

#: So often does minicomp tune anew because other processes were busy meanwhile.
MOST_TUNINGS = 3


def environment(threads: int) -> dict[str, str]:
    """The environment variables that give every library `threads` threads; each is read when the
    library is first imported, or first starts threads."""
    number = str(threads)
    variables = ["OPENBLAS", "OMP", "MKL", "NUMBA", "VECLIB"]
    names = {f"{name}_NUM_THREADS": number for name in variables}
    flags = [os.environ.get("XLA_FLAGS", ""), "--xla_cpu_multi_thread_eigen="]
    # NPROC is what XLA takes for the number of CPUs.
    return {
        **names,
        "NPROC": number,
        "XLA_FLAGS": " ".join(flags).strip() + ("false" if threads == 1 else "true"),
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_X64": "1",  # for the float64 workloads; float32 arrays stay float32
    }


class Contestant:
    """One library. `module` has the workloads' functions, by name."""

    name: str
    module: str
    requires: str  # the package that has to be installed

    def is_installed(self) -> bool:
        return find_spec(self.requires) is not None

    def function(self, workload: Workload) -> Callable[..., Any] | None:
        return getattr(importlib.import_module(self.module), workload.function, None)

    def start(self, threads: int) -> None:
        """Once, before the first workload."""

    def prepare(self, workload: Workload, arrays: Sequence[np.ndarray]) -> Run | None:
        """One call of the workload's function; None where there is none."""
        function = self.function(workload)
        return None if function is None else self.call(function, workload, arrays)

    def call(
        self, function: Callable[..., Any], workload: Workload, arrays: Sequence[np.ndarray]
    ) -> Run:
        return partial(function, *arrays)

    def result(self, value: Any) -> np.ndarray:
        return np.asarray(value)


class NumPy(Contestant):
    name, module, requires = "numpy", "benchmarks.with_numpy", "numpy"


class Numba(Contestant):
    """Loops compiled at their first call."""

    name, module, requires = "numba", "benchmarks.with_numba", "numba"


class Torch(Contestant):
    """Eager mode, without gradients."""

    name, module, requires = "torch", "benchmarks.with_torch", "torch"

    def start(self, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)

    def call(
        self, function: Callable[..., Any], workload: Workload, arrays: Sequence[np.ndarray]
    ) -> Run:
        from torch import from_numpy

        tensors = [from_numpy(array) for array in arrays]
        if not workload.from_numpy:
            return partial(function, *tensors)
        x, weights = arrays[0], tensors[1:]
        return lambda: function(from_numpy(x), *weights).numpy()


class Inductor(Torch):
    """torch.compile."""

    name = "inductor"

    def call(
        self, function: Callable[..., Any], workload: Workload, arrays: Sequence[np.ndarray]
    ) -> Run:
        import torch

        torch._dynamo.reset()  # it gives up on a function that it has compiled for many shapes
        compiled = torch.compile(function, fullgraph=True, dynamic=False)
        return super().call(compiled, workload, arrays)


class Jax(Contestant):
    """jax.jit; a call lasts until its result is there."""

    name, module, requires = "jax", "benchmarks.with_jax", "jax"

    def call(
        self, function: Callable[..., Any], workload: Workload, arrays: Sequence[np.ndarray]
    ) -> Run:
        import jax

        compiled = jax.jit(function)
        held = [jax.device_put(array) for array in arrays]
        if not workload.from_numpy:
            return lambda: compiled(*held).block_until_ready()
        x, weights = arrays[0], held[1:]
        return lambda: np.asarray(compiled(x, *weights))


PEERS: tuple[Contestant, ...] = (NumPy(), Torch(), Inductor(), Jax(), Numba())


class WithParameters(nn.Module):
    """A module that holds a workload's parameters and applies its function."""

    def __init__(self, function: Callable[..., Any], parameters: Sequence[np.ndarray]):
        super().__init__()
        self.function = function
        self.held = [f"parameter{number}" for number in range(len(parameters))]
        for name, array in zip(self.held, parameters):
            self.register_parameter(name, nn.Parameter(array))

    def forward(self, *arrays: Any) -> Any:
        return self.function(*arrays, *(getattr(self, name) for name in self.held))


class Minicomp(Contestant):
    """minicomp.compile: tuned where there are matrix products, with defaults elsewhere.

    Choices are not remembered, so that one made while other processes were busy is made again.
    """

    name, module, requires = "minicomp", "benchmarks.with_minicomp", "minicomp"

    def __init__(self, threads: int):
        self.threads = threads
        self.compiled: Any = None  # of the last call()

    def options(self, workload: Workload) -> dict[str, Any]:
        options: dict[str, Any] = {"num_threads": self.threads}
        if workload.has_products:
            options |= {"max_autotune": True, "autotune_local_cache": False}
        return {**options, "freeze": True} if workload.freeze else options

    def call(
        self, function: Callable[..., Any], workload: Workload, arrays: Sequence[np.ndarray]
    ) -> Run:
        return self.compile(function, workload, arrays, self.options(workload))

    def compile(
        self,
        function: Callable[..., Any],
        workload: Workload,
        arrays: Sequence[np.ndarray],
        options: dict[str, Any],
    ) -> Run:
        count = len(workload.arrays)
        model = WithParameters(function, arrays[count:]) if arrays[count:] else function
        for _ in range(MOST_TUNINGS):
            settle()
            watch = Watch()
            self.compiled = minicomp.compile(model, options=options)
            self.compiled(*arrays[:count])
            if not (options.get("max_autotune") and watch.is_disturbed()):
                break
        return partial(self.compiled, *arrays[:count])

    def bare_product(self, workload: Workload, arrays: Sequence[np.ndarray]) -> Run:
        """The workload's product alone, of an array and a parameter as there."""
        function = importlib.import_module(self.module).matmul
        return self.compile(function, workload, arrays[:2], self.options(workload))
