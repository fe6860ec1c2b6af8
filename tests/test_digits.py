"""The digits' data and the network that learns them with NumPy."""

import hashlib

import numpy as np
import pytest

from minicomp import digits
from minicomp.errors import InputError


def test_the_data_are_those_that_the_readme_names():
    readme = digits.DATA_FILE.with_name("README.md").read_text(encoding="utf-8")
    assert hashlib.sha256(digits.DATA_FILE.read_bytes()).hexdigest() in readme


def test_images_are_from_zero_to_one_and_labels_are_digits():
    images, labels = digits.load_digits()
    assert images.shape == (1797, 64) and images.dtype == np.float32
    assert images.min() == 0 and images.max() == 1
    assert sorted(set(labels)) == list(range(10))


def test_a_missing_file_is_an_error_that_says_where_to_get_it(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.csv\.gz.*checkout.*pip install -e \."):
        digits.load_digits(tmp_path / "nowhere.csv.gz")


def test_training_and_held_out_digits_do_not_overlap():
    images = np.arange(20.0).reshape(10, 2)
    train, test = digits.split(images, np.arange(10), held_out=3)
    assert len(train[1]) == 7 and len(test[1]) == 3
    assert sorted([*train[1], *test[1]]) == list(range(10))
    np.testing.assert_array_equal(test[0], images[test[1]])


def loss(layers, images, labels):
    scores = digits.forward(layers, images)
    return np.mean(np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(len(labels)), labels])


def test_gradients_are_the_slopes_of_the_loss():
    random = np.random.default_rng(0)
    layers = [
        (random.standard_normal((m, n)), random.standard_normal(m))
        for n, m in [(5, 4), (4, 3), (3, 3)]
    ]
    images, labels = random.standard_normal((6, 5)), random.integers(0, 3, 6)
    arrays = [array for layer in layers for array in layer]
    for array, gradient in zip(arrays, digits.gradients(layers, images, labels), strict=True):
        for index in np.ndindex(array.shape):
            kept, step = array[index], 1e-6
            array[index] = kept + step
            above = loss(layers, images, labels)
            array[index] = kept - step
            below = loss(layers, images, labels)
            array[index] = kept
            assert gradient[index] == pytest.approx((above - below) / (2 * step), abs=1e-6)


def test_a_trained_network_reads_digits_that_it_has_not_seen():
    train, test = digits.split(*digits.load_digits())
    layers = digits.train(*train, epochs=10)
    assert digits.accuracy(digits.forward(layers, test[0]), test[1]) > 0.9
