"""Exercise 5: a schedule.

A matmul kernel keeps a tile of the result in registers: `rows` times `vectors` accumulators, each a
vector of several columns. For every k it loads `vectors` vectors of b and, one after the other,
`rows` elements of a, each into all lanes of one register, and does `rows * vectors`
multiply-adds. Loads are what it waits for, so a good tile does many multiply-adds per load.

But it must fit: accumulators, the vectors of b, and one register for the element of a. What does
not fit is kept in memory instead, with a load and a store each time, and all is lost. The plans
that minicomp tries are in minicomp/codegen/matmul_schedules.py.
"""


def register_tile(registers: int) -> tuple[int, int]:
    """(rows, vectors): the tile with the most multiply-adds per load that fits.

    Of two that are equally good, the one with more accumulators; then the one with more rows.
    """
    # TODO: try all tiles that fit in so many vector registers, and return the best.
    raise NotImplementedError


HINTS = (
    "There are few tiles: two loops over 1, 2, ..., `registers` find all of them.",
    "A tile fits if rows * vectors + vectors + 1 <= registers: accumulators, the vectors of b, one "
    "element of a.",
    "Multiply-adds per load are rows * vectors / (rows + vectors). `max` takes a `key`; a key that "
    "is a tuple settles ties by its later entries.",
)
