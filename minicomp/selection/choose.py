"""Choosing: which candidate does the work of a call site, and why.

In: a call site, the arrays of the call at hand, and candidates, minicomp's default kernel first.
Out: a `Choice`; the chosen candidate is prepared. The road, each stop a method:

    saved choices given?   replay them                                           (`compare`)
    nothing to compare?    the default
    remembered?            use it, if it still holds on these operands           (`compare`)
    else                   examine all, race those that are fit, decide, remember

>>> selector = Selector(resolve_options("max-autotune"), HostDevice(threads=2), disk)
>>> selector.select(site, operands, candidates).chosen
'numpy_matmul'
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from minicomp.options import Options
from minicomp.selection.candidates import CODEGEN, Candidate, Choice, default_choice
from minicomp.selection.device import Device
from minicomp.selection.externals import unique_names
from minicomp.selection.site import CallSite, Operands

if TYPE_CHECKING:
    from minicomp.selection.compare import Comparison
    from minicomp.selection.records import Disk


class Selector:
    """Chooses at the call sites of one compiled module, and remembers what it chose.

    `disk` is a `disk_cache.DiskCache`, or None for none; the options that turn caches off are
    heeded. Raises ChoicesError where `options.choices` cannot be read.
    """

    def __init__(self, options: Options, device: Device, disk: Disk | None = None):
        self.options, self.device, self.disk = options, device, disk
        if options.choices is not None:
            _ = self.comparison  # what cannot be read is an error here

    @functools.cached_property
    def comparison(self) -> Comparison:
        """What compares candidates: half of this package, for programs that are tuned."""
        from minicomp.selection.compare import Comparison

        return Comparison(self.options, self.device, self.disk)

    def select(self, site: CallSite, operands: Operands, candidates: Sequence[Candidate]) -> Choice:
        """The choice at `site`. `candidates[0]` is the default, which must be minicomp's own.

        Every candidate that fails is reported, none stops the program but the default where no
        other is fit: what its `prepare` raises comes through. Warns (SelectionWarning) of an
        external that is right on these operands and wrong on random ones.
        """
        if not candidates or candidates[0].kind != CODEGEN:
            raise ValueError("the first candidate must be a kernel of minicomp's own")
        candidates = _distinctly_named(candidates)
        reason = self._reason_not_to_compare(site, candidates)
        if reason is not None:
            return default_choice(site, candidates, reason)
        return self.comparison.choice(site, operands, candidates)

    def _reason_not_to_compare(self, site: CallSite, candidates: Sequence[Candidate]) -> str | None:
        if self.options.choices is not None:
            return None
        if self.options.deterministic:
            return "deterministic is on: nothing is timed"
        if not self.options.max_autotune:
            return "max_autotune is off: nothing is timed"
        if site.is_empty:
            return "the product has no elements"
        if len(candidates) == 1:
            return "the only candidate"
        return None


def _distinctly_named(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates, those named like an earlier one with a number after the name."""
    names = unique_names(candidate.name for candidate in candidates)
    return [
        candidate if candidate.name == name else replace(candidate, name=name)
        for candidate, name in zip(candidates, names, strict=True)
    ]
