"""Trying a candidate before it is timed: does it run, and is what it computes right?

In: a candidate and the operands of the call at hand. Out: a `Verdict`: fit, or a problem, or fit
with the caveat that it was right by luck.

An external's bare product is checked on the call's own operands and on random ones of the same
layout. It works on copies, read-only where the array type can say so, and on an `out` full of
poison, so whatever it does the user's arrays are intact. Then every candidate, external or
generated, runs once as it will run later, and its final output is compared as well.
"""

from __future__ import annotations

import functools
import textwrap
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from minicomp.errors import CudaError
from minicomp.options import Options
from minicomp.selection import checking
from minicomp.selection.candidates import OK, REJECTED, SKIPPED, Candidate
from minicomp.selection.checking import OutputReference, Reference
from minicomp.selection.device import Device
from minicomp.selection.externals import External, cause_text, error_text, read_only
from minicomp.selection.site import CallSite, Operands
from minicomp.selection.subprocess_check import check_in_child

NOT_IMPORTABLE = (
    "autotune_in_subproc tries externals on a GPU in a new process, where it cannot be imported "
    "({}); define it at the top level of a module of its own, or set the option to False"
)


@dataclass(frozen=True)
class Verdict:
    """A candidate's status (as `CandidateReport` has it) before any timing, and the reason.

    `is_lucky` marks a fit one that was right on the operands of this call only.
    """

    status: str = OK
    reason: str = ""
    is_lucky: bool = False

    @property
    def problem(self) -> str | None:
        """Why the candidate may not be used, or None."""
        return None if self.status == OK else self.reason

    @staticmethod
    def of(problem: str | None) -> Verdict:
        return Verdict() if problem is None else Verdict(REJECTED, problem)


class Trial:
    """Operands on the device, and what their product must be."""

    def __init__(self, a: Any, b: Any, device: Device, precision: str):
        self.a, self.b, self.precision = a, b, precision
        self.hosts = device.to_host(a), device.to_host(b)

    @functools.cached_property
    def reference(self) -> Reference:
        return checking.product_reference(*self.hosts, self.precision)

    @functools.cached_property
    def poison(self) -> np.ndarray:
        """What `out` is filled with before a try; for floats the reference need not be known."""
        a, b = self.hosts
        if a.dtype.name not in checking.POISON_BITS:
            return self.reference.poison
        shape = (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
        return checking.poison_like(np.empty(shape, a.dtype))


class Examiner:
    """Tries the candidates of one call site."""

    def __init__(self, site: CallSite, operands: Operands, options: Options, device: Device):
        self.site, self.operands = site, operands
        self.options, self.device = options, device
        self.is_trusting = options.external_check == "off"

    def examine(self, candidate: Candidate) -> Verdict:
        """Prepare the candidate, check it, and run it once. Only KeyboardInterrupt gets out."""
        external = candidate.external
        if external is not None and (unfit := external.unfit(self.site)) is not None:
            return Verdict(SKIPPED, unfit)
        # What follows an external's product is not worth compiling for one that is wrong.
        verdict = Verdict() if external is None else self._examine_external(external)
        if verdict.status == OK and (problem := self._try_candidate(candidate)) is not None:
            return Verdict(REJECTED, problem)
        return verdict

    def _examine_external(self, external: External) -> Verdict:
        """Check the bare product, first in a child where that is asked for."""
        if self.options.autotune_in_subproc:
            verdict = self._checked_elsewhere(external)
            if verdict.status != OK:
                return verdict
        return self.check_product(external)

    def _checked_elsewhere(self, external: External) -> Verdict:
        """What a first try in a child process says."""
        seconds = self.options.max_autotune_subproc_result_timeout_seconds
        if self.device.works_in_forks:
            if not self.is_trusting:
                _ = self.given.reference, self.random.reference  # here once, not in each child
            return Verdict.of(check_in_child(lambda: self.check_product(external).problem, seconds))
        from minicomp.selection.new_process_check import NotImportable, Task, check_in_new_process

        task = Task(self.site, self.options, external, self.given.hosts)
        try:
            return Verdict.of(check_in_new_process(task, seconds))
        except NotImportable as error:
            return Verdict(SKIPPED, NOT_IMPORTABLE.format(error))

    def check_product(self, external: External) -> Verdict:
        """On the operands of the call, and on random ones, as `external_check` asks for."""
        problem = self._try_product(external, self.given)
        if problem is not None or self.is_trusting:
            return Verdict.of(problem)
        doubt = self._try_product(external, self.random)
        if doubt is None:
            return Verdict()
        if self.options.external_check == "strict":
            return Verdict(REJECTED, f"on random operands: {doubt}")
        return Verdict(OK, f"right on this call's operands, but on random ones: {doubt}", True)

    @functools.cached_property
    def given(self) -> Trial:
        """The operands of the call at hand."""
        return self._trial(self.operands.a, self.operands.b)

    @functools.cached_property
    def random(self) -> Trial:
        """Random operands of the same shapes, dtypes and strides; the same ones in each process."""
        generator = np.random.default_rng(zlib.crc32(self.site.key.encode()))
        arrays = []
        for operand in (self.operands.a, self.operands.b):
            array = self.device.like(operand)
            host = self.device.to_host(operand)
            self.device.fill(array, _random_values(generator, host.shape, host.dtype))
            arrays.append(array)
        return self._trial(*arrays)

    def _trial(self, a: Any, b: Any) -> Trial:
        return Trial(a, b, self.device, self.options.matmul_precision)

    def _try_product(self, external: External, trial: Trial) -> str | None:
        """Call the external on copies of the trial's operands; what it did wrong, or None."""
        device = self.device
        copies = device.like(trial.a), device.like(trial.b)
        for copy, original in zip(copies, trial.hosts, strict=True):
            device.fill(copy, original)
        out = device.empty(self.site.product_shape, self.site.product_dtype)
        if not self.is_trusting:
            device.fill(out, trial.poison)
        try:
            external(read_only(copies[0]), read_only(copies[1]), _handed_out(out))
            result = device.to_host(out)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self._check_device(external.name, error)
            return f"raised {error_text(error)}"
        if self.is_trusting:
            return None
        for name, copy, original in zip("ab", copies, trial.hosts, strict=True):
            if not checking.same_bits(device.to_host(copy), original):
                return f"changed its input {name}"
        return trial.reference.judge(result)

    def _try_candidate(self, candidate: Candidate) -> str | None:
        """Prepare the candidate and run it as it will run later; what is wrong, or None."""
        try:
            candidate.prepare()
        except Exception as error:
            return f"did not compile: {error_text(error)}"
        output = None if self.is_trusting else self.operands.output
        if output is not None:
            self.device.fill(output, self.output_reference.poison.reshape(output.shape))
        try:
            candidate.run()
            result = None if output is None else self.device.to_host(output)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self._check_device(candidate.name, error)
            return f"raised {cause_text(error)}"
        if result is None:
            return None
        reference = self.output_reference
        return reference.judge(result.reshape(reference.expected.shape))

    def _check_device(self, name: str, error: BaseException) -> None:
        """After a failure of candidate `name`: CudaError where it has taken the device with it."""
        if not self.device.is_usable():
            reason = textwrap.shorten(cause_text(error), 120, placeholder=" ...")
            raise CudaError(
                f"the candidate {name!r} crashed on the GPU ({reason}), and with it "
                f"the CUDA context, which cannot be repaired: start the process again, without "
                f"{name!r} in external_matmul if it is yours",
                what=self.site.op,
                location=self.site.location,
            ) from error

    @functools.cached_property
    def output_reference(self) -> Reference | OutputReference:
        epilogue, product = self.operands.epilogue, self.given.reference
        if epilogue is None:
            return product
        return checking.output_reference(product, self.site.product_dtype, epilogue)


def _handed_out(array: Any) -> Any:
    """A NumPy array as an object of its own over the same memory, any other array as it is: what
    an external does to the object's shape, strides or dtype stays with that object."""
    return array.view() if isinstance(array, np.ndarray) else array


def _random_values(
    generator: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype
) -> np.ndarray:
    if dtype.kind == "b":
        return generator.integers(0, 2, shape).astype(dtype)
    if dtype.kind in "iu":
        return generator.integers(-8, 8, shape).astype(dtype)
    return generator.standard_normal(shape).astype(dtype)
