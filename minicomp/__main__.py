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
from minicomp.runtime.threads import default_num_threads, park

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
    threads = default_num_threads()
    print(
        f"(with {threads} thread{'s' * (threads > 1)}; NumPy's library takes as many as it likes)\n"
    )
    for batch in BATCHES:
        print(comparison(batch, compiled, layers, images[:batch]))


def comparison(
    batch: int, compiled: Callable, layers: Sequence[digits.Layer], x: np.ndarray
) -> str:
    """One line on the speed for a batch: compiled beside the same network in plain NumPy."""
    samples = taken_in_turn([lambda: compiled(x), lambda: digits.forward(layers, x)])
    ours, plain = map(statistics.median, samples)
    faster, ratio = ("compiled", plain / ours) if ours <= plain else ("NumPy", ours / plain)
    verdict = f"{faster} is {ratio:.{1 if ratio < 10 else 0}f} times as fast"
    times = f"compiled {ours * 1e6:7.1f} us, NumPy {plain * 1e6:7.1f} us"
    caveat = "".join(map(disturbance, ("compiled", "NumPy"), samples))
    return f"{batch:4d} {'images' if batch > 1 else 'image '}: {times}: {verdict}{caveat}"


def disturbance(name: str, samples: Sequence[float]) -> str:
    """A caveat, where most calls take a multiple of the quickest: others keep the machine busy, and
    threads that wait for each other suffer most from that."""
    least = min(samples)
    if statistics.median(samples) < 3 * least:
        return ""
    return f"\n      ({name} took {least * 1e6:.1f} us when nothing was in its way: measure again)"


def taken_in_turn(functions: Sequence[Callable[[], object]], rounds: int = 20) -> list[list[float]]:
    """The times of calls of each function, in seconds. They take turns, so that whatever else the
    machine does slows all alike; a turn is many calls, of which the first do not count, since the
    threads of one function stay awake for a while and would slow the next."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(rounds):
        for function, samples in zip(functions, times):
            samples += turn(function)
    return times


def turn(function: Callable[[], object], seconds: float = 0.02) -> list[float]:
    """The times of calls for about as long as said; the first half of them is left out."""
    park()  # minicomp's workers, which wait for its next call: not on a CPU that NumPy wants
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
