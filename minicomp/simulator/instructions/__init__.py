"""What each instruction does: one function each, by name, in files by family.

Importing this package fills `decode.TABLE`.
"""

from minicomp.simulator.instructions import (  # noqa: F401
    approximate,
    async_copy,
    atomics,
    bits,
    compare,
    control,
    convert,
    floating,
    integer,
    matrix,
    memory,
    moves,
    warp,
)
