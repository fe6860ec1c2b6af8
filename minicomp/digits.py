"""Handwritten digits and a small network that reads them, for the demo and the tutorials.

In: the data file of the checkout (its source and licence: `tutorials/data/README.md`). Out: arrays
of images and labels, and the weights of a network trained on them with NumPy alone.

>>> images, labels = load_digits()
>>> images.shape, images.dtype, labels[:5]
((1797, 64), dtype('float32'), array([0, 1, 2, 3, 4]))

minicomp compiles trained networks and does not train them, so the gradients are written by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from minicomp.errors import InputError

DATA_FILE = Path(__file__).parent.parent / "tutorials" / "data" / "digits.csv.gz"

#: neurons in each layer: 64 pixels in, one score per digit out
LAYER_SIZES = (64, 128, 64, 10)

Layer = tuple[np.ndarray, np.ndarray]  # weight (out, in) and bias (out,), as nn.Linear has them


def load_digits(path: Path = DATA_FILE) -> tuple[np.ndarray, np.ndarray]:
    """Images, float32 (n, 64) from 0 to 1, and labels, int64 (n,). InputError without the file."""
    if not path.is_file():
        raise InputError(
            f"there is no {path}; the digits come with minicomp's source, in tutorials/data/, and "
            f"not with an installed copy: run this from a checkout that is installed with "
            f"`pip install -e .`, or put the file there (scikit-learn has the same one, as "
            f"sklearn/datasets/data/digits.csv.gz)",
            what="load_digits",
        )
    table = np.loadtxt(path, delimiter=",", dtype=np.int64)
    return table[:, :-1].astype(np.float32) / 16, table[:, -1]


def split(
    images: np.ndarray, labels: np.ndarray, held_out: int = 360, seed: int = 0
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Two pairs of images and labels, picked at random: to train on, and to test on."""
    order = np.random.default_rng(seed).permutation(len(labels))
    train, test = order[held_out:], order[:held_out]
    return (images[train], labels[train]), (images[test], labels[test])


def accuracy(scores: np.ndarray, labels: np.ndarray) -> float:
    """The share of rows of `scores` (n, 10) whose largest entry is at the label."""
    return float(np.mean(scores.argmax(axis=1) == labels))


# --- the network, in NumPy ----------------------------------------------------------------------


def forward(layers: Sequence[Layer], x: np.ndarray) -> np.ndarray:
    """The network's scores (n, 10) for images (n, 64)."""
    *hidden, (weight, bias) = layers
    for hidden_weight, hidden_bias in hidden:
        x = np.maximum(x @ hidden_weight.T + hidden_bias, 0)
    return x @ weight.T + bias


def train(
    images: np.ndarray, labels: np.ndarray, epochs: int = 30, batch: int = 32, seed: int = 0
) -> list[Layer]:
    """Layers fitted to the images by Adam (Kingma and Ba, 2015) on the cross-entropy."""
    random = np.random.default_rng(seed)
    layers = [
        (random.normal(0, np.sqrt(2 / n), (m, n)).astype(np.float32), np.zeros(m, np.float32))
        for n, m in pairwise(LAYER_SIZES)
    ]
    adam = Adam([array for layer in layers for array in layer])
    for epoch in range(epochs):
        rate = 0.002 * (1 - epoch / epochs)  # smaller and smaller steps, to settle
        order = random.permutation(len(labels))
        for start in range(0, len(order), batch):
            picked = order[start : start + batch]
            adam.step(gradients(layers, images[picked], labels[picked]), rate)
    return layers


def gradients(layers: Sequence[Layer], x: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    """The mean cross-entropy's gradient for each weight and bias, in the order of `layers`."""
    inputs = [x]  # of each layer
    for weight, bias in layers[:-1]:
        inputs.append(np.maximum(inputs[-1] @ weight.T + bias, 0))
    scores = forward(layers[-1:], inputs[-1])
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    flowing = exponentials / exponentials.sum(axis=1, keepdims=True)  # softmax ...
    flowing[np.arange(len(labels)), labels] -= 1  # ... minus the truth, is the scores' gradient
    flowing /= len(labels)
    found: list[np.ndarray] = []
    for (weight, _), layer_input in zip(reversed(layers), reversed(inputs)):
        found[:0] = [flowing.T @ layer_input, flowing.sum(axis=0)]
        flowing = (flowing @ weight) * (layer_input > 0)  # through the relu before this layer
    return found


class Adam:
    """Steps down a gradient, each array's step scaled by running means of its gradient."""

    def __init__(self, arrays: Sequence[np.ndarray]):
        self.arrays, self.steps = arrays, 0
        self.means = [np.zeros_like(array) for array in arrays]
        self.squares = [np.zeros_like(array) for array in arrays]

    def step(self, gradients: Sequence[np.ndarray], rate: float) -> None:
        """Change the arrays in place. The constants are the paper's."""
        self.steps += 1
        for array, gradient, mean, square in zip(
            self.arrays, gradients, self.means, self.squares, strict=True
        ):
            mean += (1 - 0.9) * (gradient - mean)
            square += (1 - 0.999) * (gradient**2 - square)
            unbiased_mean = mean / (1 - 0.9**self.steps)
            unbiased_square = square / (1 - 0.999**self.steps)
            array -= rate * unbiased_mean / (np.sqrt(unbiased_square) + 1e-8)
