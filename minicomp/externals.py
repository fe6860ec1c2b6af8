"""Ready externals: matrix products of other libraries, offered only where they are listed.

minicomp.compile(model, options={"max_autotune": True,
                                 "external_matmul": [minicomp.externals.numpy_matmul]})
"""

from typing import Any

import numpy as np

from minicomp.ir import FLOATS
from minicomp.selection.externals import external

#: NumPy's own product: BLAS for float32 and float64, plain loops for integers.
numpy_matmul = external(np.matmul, name="numpy_matmul", devices="cpu", batched=True)


def _cublas(a: Any, b: Any, out: Any) -> None:
    # Here, so that cuBLAS is looked for only where it is listed.
    from minicomp.runtime.cuda.cublas import matmul

    matmul(a, b, out)


#: NVIDIA's product, of the installed cuBLAS, on the stream in use: float32 in plain float32, 2-byte
#: floats accumulated in float32. Operands whose rows or columns are contiguous.
cublas_matmul = external(_cublas, name="cublas_matmul", devices="cuda", dtypes=FLOATS, batched=True)
