"""The demo, `python -m minicomp`: a network that reads handwritten digits, compiled and explained.

In: nothing. Out, printed: a network trained with NumPy; how each of its three matrix products is
done, and why, of the candidates that minicomp generated and three that are registered here (NumPy's
own, one that is wrong, one that raises); accuracy; agreement with the interpreter; speed.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np

import minicomp
from minicomp import digits, nn
from minicomp.errors import MinicompError
from minicomp.runtime.threads import default_num_threads

#: images per call whose speed is measured: one, a handful, a few hundred
BATCHES = (1, 32, 256)


class Classifier(nn.Module):
    """64 pixels -> 128 -> 64 -> 10 scores, one per digit."""

    def __init__(self, layers: Sequence[digits.Layer]):
        super().__init__()
        self.first, self.second, self.third = (
            nn.Linear(weight.shape[1], weight.shape[0]) for weight, _ in layers
        )
        for layer, (weight, bias) in zip(self.children(), layers):
            layer.load_state_dict({"weight": weight, "bias": bias})

    def forward(self, x):
        x = minicomp.relu(self.first(x))
        x = minicomp.relu(self.second(x))
        return self.third(x)


def half_precision(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """A wrong product: it rounds its operands to 11 bits, where float32 has 24."""
    a, b = a.astype(np.float16), b.astype(np.float16)
    np.matmul(a.astype(np.float32), b.astype(np.float32), out=out)


def needs_a_licence(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """A product that cannot run here."""
    raise RuntimeError("no licence for this machine")


def main() -> None:
    heading("Training on real digits, with NumPy")
    images, labels = digits.load_digits()
    train, test = digits.split(images, labels)
    start = time.perf_counter()
    layers = digits.train(*train)
    print(f"{len(train[1])} images to train on, {len(test[1])} held out, picked at random")
    print(f"trained 64-128-64-10 in {time.perf_counter() - start:.1f} s\n")
    print(picture(test[0][0]))

    heading("Compiling")
    model = Classifier(layers)
    compiled = minicomp.compile(
        model,
        options={
            "max_autotune": True,
            "external_matmul": [
                minicomp.externals.numpy_matmul,
                half_precision,
                needs_a_licence,
            ],
        },
    )
    start = time.perf_counter()
    scores = compiled(test[0])
    print(f"the first call, which compiles and chooses: {time.perf_counter() - start:.2f} s\n")
    print(compiled.explain())

    heading("Is it right?")
    share = digits.accuracy(scores, test[1])
    print(f"accuracy on held-out digits: {share:.1%}; the digit above: {scores[0].argmax()}")
    expected = minicomp.interpret(compiled.graph(test[0]), test[0])
    difference = np.abs(scores - expected).max()
    print(f"largest difference from the interpreter: {difference:.1e}", end=" ")
    print(f"(the largest score is {np.abs(expected).max():.0f})")

    heading("Is it fast?")
    print(note_on_load(), end="")
    for batch in BATCHES:
        print(comparison(batch, compiled, layers, images[:batch]))


def comparison(
    batch: int, compiled: Callable, layers: Sequence[digits.Layer], x: np.ndarray
) -> str:
    """One line on the speed for a batch: compiled beside the same network in plain NumPy."""
    ours, plain = medians([lambda: compiled(x), lambda: digits.forward(layers, x)])
    if ours <= plain:
        verdict = f"compiled is {plain / ours:.2f} times as fast"
    else:
        verdict = f"NumPy is {ours / plain:.2f} times as fast"
    times = f"compiled {ours * 1e6:7.1f} us, NumPy {plain * 1e6:7.1f} us"
    return f"{batch:4d} {'images' if batch > 1 else 'image '}: {times}: {verdict}"


def note_on_load() -> str:
    """A caveat, where other programs keep the machine busy."""
    if not hasattr(os, "getloadavg"):  # Windows
        return ""
    load, cpus = os.getloadavg()[0], default_num_threads()
    if load < cpus + 0.5:
        return ""
    return (
        f"(The machine is busy with other things, a load of {load:.1f} on {cpus} CPUs. NumPy's\n"
        f"threads, which wait for each other, suffer most from that; measure again later.)\n\n"
    )


def medians(functions: Sequence[Callable[[], object]], rounds: int = 20) -> list[float]:
    """The median time of a call of each function, in seconds. They take turns, so that whatever
    else the machine does slows all alike; a turn is many calls, of which the first do not count,
    since the threads of one function stay awake for a while and would slow the next."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(rounds):
        for function, samples in zip(functions, times):
            samples += turn(function)
    return [statistics.median(samples) for samples in times]


def turn(function: Callable[[], object], seconds: float = 0.02) -> list[float]:
    """The times of calls for about as long as said; the first half of them is left out."""
    samples: list[float] = []
    deadline = time.perf_counter() + seconds
    while not samples or time.perf_counter() < deadline:
        start = time.perf_counter()
        function()
        samples.append(time.perf_counter() - start)
    return samples[len(samples) // 2 :]


# --- on the terminal ----------------------------------------------------------------------------


def heading(text: str) -> None:
    """A title; bold on a terminal that has it."""
    bold = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    print(f"\n\033[1m{text}\033[0m\n" if bold else f"\n{text}\n{'-' * len(text)}\n")


def picture(image: np.ndarray) -> str:
    """An 8x8 image in characters, darker ones for more ink."""
    shades = " .:-=+*#%@"
    rows = (image.reshape(8, 8) * (len(shades) - 1)).round().astype(int)
    return "\n".join("    " + "".join(2 * shades[shade] for shade in row) for row in rows)


if __name__ == "__main__":
    try:
        main()
    except MinicompError as error:
        sys.exit(f"python -m minicomp: {error}")
