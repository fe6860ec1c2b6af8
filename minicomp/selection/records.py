"""Choices that are remembered: in this process by call site, on disk between processes.

In: a key that says everything a choice depends on. Out: a `Record`, or None. A record is JSON,
and what is read back is checked entry by entry: anything damaged, of another format or for
another key is a miss, with a warning, and never more than that.

The key holds the site, the device, the candidates, who each external is, and a digest of
minicomp's own source, so that an upgrade forgets what it might have changed.
"""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from minicomp.errors import CacheWarning
from minicomp.fingerprint import source_digest
from minicomp.options import Options
from minicomp.selection.candidates import KINDS, OK, STATUSES, Candidate, CandidateReport
from minicomp.selection.site import CallSite
from minicomp.selection.timing import are_times_lasting

FORMAT = 1


class Disk(Protocol):
    """What is needed of a disk cache (`disk_cache.DiskCache`): bytes by key, no exceptions."""

    def get(self, key: str) -> bytes | None: ...

    def put(self, key: str, value: bytes) -> None: ...


@dataclass(frozen=True)
class Record:
    """A choice as it is remembered: the chosen candidate's name, why, and the reports on all."""

    chosen: str
    reason: str
    candidates: tuple[CandidateReport, ...]


@dataclass(frozen=True)
class Key:
    """What a choice depends on, as text; `is_lasting` if it means the same in another process."""

    text: str
    is_lasting: bool


def record_key(
    site: CallSite, candidates: Sequence[Candidate], options: Options, device_identity: str
) -> Key:
    """The key under which a choice between `candidates` at `site` is remembered."""
    offered, is_lasting = [], True
    for candidate in candidates:
        entry = [candidate.kind, candidate.name]
        external = candidate.external
        if external is not None:
            fits = external.unfit(site) is None
            is_lasting = is_lasting and (external.identity is not None or not fits)
            # An address is an identity within the process: the options keep the callable alive.
            entry += [external.identity or f"at {id(external.callable)}" if fits else "unfit"]
        offered.append(entry)
    parts = {
        "format": FORMAT,
        "minicomp": source_digest(),
        "site": site.key,
        "device": device_identity,
        "candidates": offered,
        "external_check": options.external_check,
        "matmul_precision": options.matmul_precision,
        # A choice that a small budget cut short is not what a larger one would find, and what one
        # tolerance calls a tie another does not.
        "budget": options.autotune_budget_seconds,
        "tie_tolerance": options.autotune_tie_tolerance,
    }
    return Key(json.dumps(parts), is_lasting)


class Memory:
    """Records of one compiled module, and those on `disk` where there is one."""

    def __init__(self, disk: Disk | None = None):
        self.disk = disk
        self.records: dict[str, Record] = {}

    def recall(self, key: Key) -> tuple[Record, bool] | None:
        """The record, and whether it was made in this process."""
        if key.text in self.records:
            return self.records[key.text], True
        if self.disk is None or not key.is_lasting:
            return None
        data = self.disk.get(_name(key))
        if data is None:
            return None
        try:
            return decode(data, key), False
        except (ValueError, TypeError, KeyError) as error:
            warnings.warn(
                f"a remembered choice is damaged and was ignored ({error}); it is made again",
                CacheWarning,
                stacklevel=2,
            )
            return None

    def remember(self, key: Key, record: Record) -> None:
        """Keep the record: for this module, and on disk unless its times are made up."""
        self.records[key.text] = record
        if self.disk is not None and key.is_lasting and are_times_lasting():
            self.disk.put(_name(key), encode(record, key))


def _name(key: Key) -> str:
    return hashlib.sha256(key.text.encode()).hexdigest()


def encode(record: Record, key: Key) -> bytes:
    return json.dumps({"key": key.text, **asdict(record)}, indent=1).encode()


def decode(data: bytes, key: Key) -> Record:
    """The record in `data`; ValueError, TypeError or KeyError if that is no record for `key`."""
    content = json.loads(data)
    if content["key"] != key.text:
        raise ValueError("it is for another key")
    reports = tuple(_report(entry) for entry in content["candidates"])
    offered = [(entry[0], entry[1]) for entry in json.loads(key.text)["candidates"]]
    if [(report.kind, report.name) for report in reports] != offered:
        raise ValueError("its candidates are others")
    record = Record(content["chosen"], content["reason"], reports)
    is_chosen = [report.name == record.chosen and report.status == OK for report in reports]
    if not any(is_chosen) or not isinstance(record.reason, str):
        raise ValueError(f"it has no candidate {record.chosen!r} that was fit")
    return record


def _report(entry: dict[str, Any]) -> CandidateReport:
    report = CandidateReport(**entry)
    texts = (report.name, report.reason)
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("a name or reason is no text")
    if report.kind not in KINDS or report.status not in STATUSES:
        raise ValueError(f"no kind or status: {report.kind!r}, {report.status!r}")
    for value in (report.seconds, report.spread):
        if value is not None and not (isinstance(value, float) and math.isfinite(value)):
            raise ValueError(f"no time: {value!r}")
        if value is not None and value < 0:
            raise ValueError(f"no time: {value!r}")
    return report
