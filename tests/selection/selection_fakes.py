"""A call site whose kernels are NumPy functions, for tests of choosing that need no compiler."""

import numpy as np

from minicomp.config import resolve_options
from minicomp.ir import Location
from minicomp.selection import (
    CallSite,
    Candidate,
    HostDevice,
    Operands,
    Selector,
    call_external,
    register,
    use_timer,
)


class FakeDisk(dict):
    """A disk cache that lives in a dict."""

    def put(self, key, value):
        self[key] = value


HERE = Location("model.py", 12)


def site_of(a, b, location=HERE, **fields):
    """The call site of `a @ b`."""
    arrays = (a, b)
    return CallSite(
        "matmul",
        shapes=tuple(array.shape for array in arrays),
        strides=tuple(tuple(s // array.itemsize for s in array.strides) for array in arrays),
        dtypes=tuple(array.dtype.name for array in arrays),
        location=location,
        **fields,
    )


class Bench:
    """One call site with candidates, of which each counts its runs.

    `kernels` maps a name to a function of (a, b) that stands for a generated kernel; `externals`
    are callables as a user lists them. The kernel "default" comes first and is right.
    """

    def __init__(self, a, b, *externals, kernels=None, epilogue=None, disk=None, **options):
        self.a, self.b, self.epilogue, self.disk = a, b, epilogue, disk
        self.site = site_of(a, b, epilogue="" if epilogue is None else epilogue.__name__)
        self.options = resolve_options(options={"max_autotune": True, **options})
        self.selector = Selector(self.options, HostDevice(threads=1), disk)
        self.product = np.empty(self.site.product_shape, a.dtype)
        self.output = np.empty_like(self.finished(self.product))
        self.runs, self.prepared = {}, []
        self.candidates = [
            self.kernel(name, function)
            for name, function in {"default": np.matmul, **(kernels or {})}.items()
        ]
        self.candidates += [self.external(record) for record in register(externals)]

    def finished(self, product):
        return product if self.epilogue is None else self.epilogue(product)

    def count(self, name):
        self.runs[name] = self.runs.get(name, 0) + 1

    def kernel(self, name, function):
        def run():
            self.count(name)
            self.output[...] = self.finished(function(self.a, self.b))

        return Candidate(name, run, prepare=lambda: self.prepared.append(name))

    def external(self, record):
        def run():
            self.count(record.name)
            # A view of its own for each call, as the runtime makes.
            call_external(record, self.site, self.a, self.b, self.product.view())
            self.output[...] = self.finished(self.product)

        return Candidate(record.name, run, external=record)

    def select(self, times=None, default_time=1e-3):
        """The choice, with `times` (seconds by candidate name) instead of a clock."""
        self.timed = []

        def timer(name, run):
            self.timed.append(name)
            return (times or {}).get(name, default_time)

        operands = Operands(self.a, self.b, self.output, self.epilogue)
        with use_timer(timer, remember=True):
            return self.selector.select(self.site, operands, self.candidates)


def random_operands(m=8, k=16, n=4, dtype=np.float32, seed=0):
    generator = np.random.default_rng(seed)
    return (
        generator.standard_normal((m, k)).astype(dtype),
        generator.standard_normal((k, n)).astype(dtype),
    )


def report_on(choice, name):
    """The report on the candidate called `name`."""
    return next(report for report in choice.candidates if report.name == name)


def right(a, b, out):
    np.matmul(a, b, out=out)


def also_right(a, b, out):
    np.matmul(a, b, out=out)


def wrong(a, b, out):
    out[...] = 1.0


def add(a, b, out):
    np.add(a, b, out=out)
