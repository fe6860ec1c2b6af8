"""Rolls the wrong way round."""

from minicomp.kernels.indexing import Index


def roll_index(
    index: tuple[Index, ...], shape: tuple[int, ...], shifts: tuple[int, ...]
) -> tuple[Index, ...]:
    return tuple((i + shift) % size for i, size, shift in zip(index, shape, shifts))
