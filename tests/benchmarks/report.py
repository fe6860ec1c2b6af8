"""What was measured, for people: tables, a summary of the bars, and a plot.

In: a report document, the rows of all thread counts and what the machine is. Out: text, or SVG.

    workload            minicomp   numpy    torch    ...  ratio  of peak      bar
    softmax-64x1000     18.1 us    79 us    40.2 us       2.21   41% copy     met
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.bars import (
    BARE,
    BEST_CANDIDATE,
    MINICOMP,
    Finding,
    Requirement,
    Row,
    best_peer,
    duration,
    geometric_mean,
    median,
    ratio,
    share,
)

Bars = dict[str, Sequence[Requirement]]
PEERS = ("numpy", "torch", "inductor", "jax", "numba")
HEADER = ("workload", MINICOMP, *PEERS, "ratio", "of peak", "bar")


def findings(row: Row, bars: Bars) -> list[Finding]:
    return [requirement.check(row) for requirement in bars.get(row["name"], ())]


def verdict(row: Row, bars: Bars) -> str:
    """met, missed, or what is in the way of telling."""
    if MINICOMP in row["failures"]:
        return "FAILED"
    results = [finding.is_met for finding in findings(row, bars)]
    if False in results:
        return "missed"
    return "untold" if None in results or not results else "met"


def is_disturbed(row: Row) -> bool:
    """Whether other processes were busy in most of the rounds that count."""
    time = row["times"].get(MINICOMP, {})
    return 2 * time.get("disturbed", 0) > time.get("rounds", 0)


def table(rows: Iterable[Row], bars: Bars) -> str:
    """A line a row; a dash is for a peer that was wrong or raised, a star for a disturbed row."""
    lines = [HEADER, *(_cells(row, bars) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines
    )


def _cells(row: Row, bars: Bars) -> tuple[str, ...]:
    times = []
    for name in (MINICOMP, *PEERS):
        time = median(row, name)
        times.append("-" if name in row["failures"] else "" if time is None else duration(time))
    value = ratio(row)
    if value is None:
        # compared with another way of minicomp's own, or with nothing
        others = [median(row, name) for name in (BARE, BEST_CANDIDATE)]
        other, ours = next(filter(None, others), None), median(row, MINICOMP)
        value = None if other is None or ours is None else other / ours
    shares = [(share(row, roof), roof) for roof in row["work"]]
    peak = ", ".join(f"{part:.0%} {roof}" for part, roof in shares if part is not None)
    mark = "*" if is_disturbed(row) else ""
    return (
        row["name"] + mark,
        *times,
        "" if value is None else f"{value:.2f}",
        peak,
        verdict(row, bars),
    )


def means(rows: Sequence[Row], wanted: dict[str, float]) -> list[str]:
    """The geometric mean of the ratios in each group that has a bar for it."""
    lines = []
    for group, least in wanted.items():
        ratios = [value for row in rows if row["group"] == group and (value := ratio(row))]
        if ratios:
            mean = geometric_mean(ratios)
            met = "met" if mean >= least else "missed"
            lines.append(f"{group}: geometric mean {mean:.3f}, wanted {least:g}: {met}")
    return lines


def missed(rows: Iterable[Row], bars: Bars) -> list[str]:
    """What falls short, and what failed."""
    lines = []
    for row in rows:
        lines += [f"{row['name']}: {name}: {text}" for name, text in row["failures"].items()]
        for finding in findings(row, bars):
            if finding.is_met is False:
                chosen = f" ({', '.join(row['chosen'])})" if row["chosen"] else ""
                lines.append(f"{row['name']}: {finding.text}{chosen}")
    return lines


def roofline(rows: Iterable[Row]) -> str:
    """The machine's peaks as they were among the rows: the median over rows of each."""
    rates: dict[str, list[float]] = {}
    for row in rows:
        for name, work in row["roof_work"].items():
            if (time := median(row, name)) is not None:
                rates.setdefault(name, []).append(work / time)
    parts = []
    for name, values in rates.items():
        unit = "GFLOP/s" if name == "fma" else "GB/s"
        parts.append(f"{name} {sorted(values)[len(values) // 2] / 1e9:.4g} {unit}")
    return "roofline: " + (", ".join(parts) or "no row needed one")


def text(document: dict[str, Any], bars: Bars, wanted_means: dict[str, float]) -> str:
    """The whole report, thread count by thread count."""
    machine = document["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    parts = [f"{machine['cpu']}, {machine['cpus']} CPUs; {document['date']}\n{versions}"]
    for threads in sorted({row["threads"] for row in document["rows"]}):
        rows = [row for row in document["rows"] if row["threads"] == threads]
        parts.append(f"{threads} thread{'s' * (threads > 1)}; {roofline(rows)}")
        parts.append(table(rows, bars))
        parts += means(rows, wanted_means)
        lines = missed(rows, bars)
        parts.append("\n".join(["short of the bar:", *lines] if lines else ["no bar is missed"]))
    return "\n\n".join(parts)


def markdown(document: dict[str, Any]) -> str:
    """A short table: for each number of threads minicomp's time, the best peer and its time, and
    how many times as fast as that minicomp is."""
    rows = {(row["name"], row["threads"]): row for row in document["rows"]}
    names = list(dict.fromkeys(name for name, _ in rows))
    counts = sorted({threads for _, threads in rows})
    titles = [(f"{n} thread{'s' * (n > 1)}", "best peer", "ratio") for n in counts]
    lines = [["workload", *sum(titles, ())], ["---"] + ["--:"] * 3 * len(counts)]
    for name in names:
        cells = [_beside_best(rows.get((name, threads))) for threads in counts]
        lines.append([name, *sum(cells, ())])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _beside_best(row: Row | None) -> tuple[str, str, str]:
    if row is None:
        return "", "", ""
    ours, peer, value = median(row, MINICOMP), best_peer(row), ratio(row)
    time = "" if ours is None else duration(ours)
    if peer is None or value is None:
        return time, "", ""
    return time, f"{peer} {duration(row['times'][peer]['median'])}", f"{value:.2f}"


def plot(document: dict[str, Any], path: str) -> None:
    """A bar a row and thread count: the speed relative to the best peer, on a logarithmic scale."""
    from matplotlib.figure import Figure

    counts = sorted({row["threads"] for row in document["rows"]})
    ratios = {(row["name"], row["threads"]): ratio(row) for row in document["rows"]}
    names = list(dict.fromkeys(name for (name, _), value in ratios.items() if value))
    figure = Figure(figsize=(8, 1.5 + 0.2 * len(names) * len(counts)), layout="constrained")
    axes = figure.add_subplot()
    height = 0.8 / max(1, len(counts))
    for number, threads in enumerate(counts):
        places = [place + number * height for place in range(len(names))]
        values = [ratios.get((name, threads)) or 1.0 for name in names]
        lengths = [value - 1 for value in values]
        label = f"{threads} thread{'s' * (threads > 1)}"
        axes.barh(places, lengths, height, left=1.0, label=label)
    axes.set_xscale("log")
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_yticks([place + 0.4 - height / 2 for place in range(len(names))], names, fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("speed relative to the best of NumPy, PyTorch, Inductor, JAX and Numba")
    if names:
        axes.legend()
    figure.savefig(path, format="svg")
