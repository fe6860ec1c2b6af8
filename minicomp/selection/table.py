"""The table of a tuning, as the logger `minicomp.autotune` gets it.

In: a choice. Out: lines like these, the fastest first, with a reason where there is one to give:

    AUTOTUNE matmul(128x128, 128x128) at model.py:12
    strides: [128, 1], [128, 1]
    dtypes: float32, float32
      add        0.0099 ms 100.0%
      tile 8x48  0.0330 ms  30.0%
      broken     rejected          raised ValueError: no such shape
    AUTOTUNE took 0.2748 seconds, of which 0.0520 preparing and checking 3 choices
"""

from __future__ import annotations

from minicomp.selection.candidates import OK, CandidateReport, Choice


def duration(seconds: float) -> str:
    """Three digits and a unit: `9.90 us`, `412 us`, `1.23 ms`."""
    units = (("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9))
    unit, size = next((pair for pair in units if seconds >= pair[1]), units[-1])
    value = seconds / size
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{digits}f} {unit}"


def by_rank(choice: Choice) -> list[CandidateReport]:
    """The chosen candidate, then the others by time, those without one last."""

    def rank(report: CandidateReport) -> tuple[bool, bool, bool, float]:
        untimed = report.seconds is None
        return report.name != choice.chosen, report.status != OK, untimed, report.seconds or 0.0

    return sorted(choice.candidates, key=rank)


def autotune_table(
    choice: Choice, displayed: int | None, total_seconds: float, preparing_seconds: float
) -> str:
    """The table with at most `displayed` candidates; None is all."""
    site = choice.site
    shapes = ", ".join("x".join(map(str, shape)) for shape in site.shapes)
    reports = by_rank(choice)
    shown = reports[:displayed]
    width = max((len(report.name) for report in shown), default=0)
    best = min((r.seconds for r in reports if r.seconds), default=None)
    lines = [
        f"AUTOTUNE {site.op}({shapes})" + (f" at {site.location}" if site.location else ""),
        f"strides: {', '.join(str(list(strides)) for strides in site.strides)}",
        f"dtypes: {', '.join(site.dtypes)}",
        *(f"  {report.name:<{width}}  {_row(report, best)}".rstrip() for report in shown),
    ]
    if len(shown) < len(reports):
        lines.append(f"  and {len(reports) - len(shown)} more")
    lines.append(
        f"AUTOTUNE took {total_seconds:.4f} seconds, of which {preparing_seconds:.4f} preparing "
        f"and checking {len(reports)} choices"
    )
    return "\n".join(lines)


def _row(report: CandidateReport, best: float | None) -> str:
    if report.seconds is None:
        return f"{report.status:<16}  {report.reason}"
    percent = 100.0 * best / report.seconds if best and report.seconds else 100.0
    return f"{report.seconds * 1e3:.4f} ms {percent:5.1f}%  {report.reason}"
