"""The tensor IR. Read `graph` (types, values, graphs), `ops` (the op table, with `type_rules` and
`meaning`), `interpreter`, `text` (printer and parser), `verifier`.

What `graph` defines is imported from here: `from minicomp.ir import Graph, Value, TensorType`.
"""

from minicomp.ir.graph import (
    DTYPES,
    FLOATS,
    INTEGERS,
    ITEMSIZE,
    LONG_NAMES,
    Graph,
    Location,
    TensorType,
    Value,
    dtype_name,
    numpy_dtype,
    rewrite,
    short_dtype,
    typestr_dtype,
)

__all__ = [
    "DTYPES",
    "FLOATS",
    "INTEGERS",
    "ITEMSIZE",
    "LONG_NAMES",
    "Graph",
    "Location",
    "TensorType",
    "Value",
    "dtype_name",
    "numpy_dtype",
    "rewrite",
    "short_dtype",
    "typestr_dtype",
]
