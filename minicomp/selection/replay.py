"""Choices saved by the user, and replayed without any timing.

In: the choices of a compiled module. Out: a JSON file that people can read, compare and edit, and
from such a file (or the same as a dict) the candidate to take at each call site.

    {"minicomp_choices": 1,
     "sites": [{"site": "matmul f32[128,128]{128,1} @ f32[128,128]{128,1} on cpu",
                "location": "model.py:12", "chosen": "numpy_matmul", "kind": "external",
                "reason": "fastest: ..."}]}
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minicomp.errors import ChoicesError
from minicomp.selection.candidates import Choice
from minicomp.selection.site import CallSite

VERSION_FIELD, VERSION = "minicomp_choices", 1


def choices_document(choices: Iterable[Choice]) -> dict[str, Any]:
    """The choices as plain values, each call site once per location."""
    sites = {}
    for choice in choices:
        report = choice.candidates[choice.index]
        location = None if choice.location is None else str(choice.location)
        sites[choice.site.key, location] = {
            "site": choice.site.key,
            "location": location,
            "chosen": report.name,
            "kind": report.kind,
            "reason": choice.reason,
        }
    return {VERSION_FIELD: VERSION, "sites": list(sites.values())}


def save_choices(path: str | os.PathLike, choices: Iterable[Choice]) -> None:
    """Write the choices to `path` as JSON; an existing file is replaced in one step. ChoicesError
    where it cannot be written."""
    text = json.dumps(choices_document(choices), indent=2) + "\n"
    target = Path(path)
    if not target.parent.is_dir():
        raise ChoicesError(f"cannot save choices to {target}: there is no folder {target.parent}")
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        draft.write_text(text)
        draft.replace(target)
    except OSError as error:
        raise ChoicesError(f"cannot save choices to {target}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)


@dataclass(frozen=True)
class SavedChoice:
    """What was chosen at one call site."""

    site: str
    location: str | None
    chosen: str

    def among(self, names: Sequence[str], source: str, site: CallSite) -> int:
        """The position of what was chosen among `names`; ChoicesError if it is not there."""
        if self.chosen in names:
            return names.index(self.chosen)
        raise ChoicesError(
            f"{source} chose {self.chosen!r}, which is not among the candidates here: "
            f"{', '.join(names)}. An external must be listed in external_matmul; a kernel of "
            f"another machine, version, num_threads or freeze must be chosen anew",
            what=site.op,
            location=site.location,
        )


@dataclass(frozen=True)
class SavedChoices:
    """Choices read back from `source`, a path or "the dict"."""

    source: str
    choices: tuple[SavedChoice, ...]

    def find(self, site: CallSite) -> SavedChoice:
        """The choice for `site`, of several the one at its location; ChoicesError if none."""
        matching = [choice for choice in self.choices if choice.site == site.key]
        for choice in matching:
            if choice.location == str(site.location):
                return choice
        if matching:
            return matching[0]
        raise ChoicesError(
            f"{self.source} has no choice for the call site [{site.key}]; it has "
            f"{self._sites()}. Save the choices again, or compile without them",
            what=site.op,
            location=site.location,
        )

    def _sites(self) -> str:
        if not self.choices:
            return "no call sites"
        return f"{len(self.choices)}: " + "; ".join(f"[{c.site}]" for c in self.choices)


def load_choices(source: str | os.PathLike | Mapping[str, Any] | SavedChoices) -> SavedChoices:
    """Read saved choices from a path, or take them from a dict; ChoicesError if they are none.
    Choices that have been read are given back as they are."""
    if isinstance(source, SavedChoices):
        return source
    if isinstance(source, Mapping):
        return _parse("the dict of choices", source)
    name = os.fspath(source)
    try:
        content = json.loads(Path(name).read_text())
    except OSError as error:
        raise ChoicesError(f"cannot read the choices: {error}") from None
    except ValueError as error:
        raise ChoicesError(f"{name} is not JSON ({error}); save the choices again") from None
    return _parse(name, content)


def _parse(source: str, content: Any) -> SavedChoices:
    if not isinstance(content, Mapping) or VERSION_FIELD not in content:
        raise ChoicesError(
            f"{source} holds no saved choices: wanted an object with the field {VERSION_FIELD!r}, "
            f"as save_choices() writes it"
        )
    if content[VERSION_FIELD] != VERSION:
        raise ChoicesError(
            f"{source} has version {content[VERSION_FIELD]!r} of saved choices, this minicomp "
            f"reads version {VERSION}; save the choices again"
        )
    sites = content.get("sites")
    if not isinstance(sites, list):
        raise ChoicesError(f"{source} is damaged: wanted a list of sites, got {sites!r}")
    return SavedChoices(source, tuple(_parse_site(source, entry) for entry in sites))


def _parse_site(source: str, entry: Any) -> SavedChoice:
    fields = entry if isinstance(entry, Mapping) else {}
    match fields.get("site"), fields.get("location"), fields.get("chosen"):
        case str(site), str() | None as location, str(chosen):
            return SavedChoice(site, location, chosen)
    raise ChoicesError(f"{source} is damaged: wanted a site and what was chosen, got {entry!r}")
