"""Externals that a new process can import: right and wrong ones, for arrays of any device."""

import os
import signal
import time

import numpy as np

import minicomp

product_on_gpu = minicomp.compile(lambda a, b: a @ b)


def product(a, b, out):
    out[...] = product_on_gpu(a, b) if hasattr(a, "__cuda_array_interface__") else np.matmul(a, b)


def half_of_it(a, b, out):
    product(a[:, :1], b[:1], out)


def of_transposed_a(a, b, out):
    if a.strides[0] != a.dtype.itemsize:
        raise ValueError(f"strides {a.strides}")
    product(a, b, out)


def segfaults(a, b, out):
    os.kill(os.getpid(), signal.SIGSEGV)


def leaves(a, b, out):
    os._exit(3)


def raises(a, b, out):
    raise ValueError("no such shape")


def sleeps(a, b, out):
    time.sleep(60)
