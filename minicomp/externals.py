"""Ready externals: matrix products of other libraries, offered only where they are listed.

minicomp.compile(model, options={"max_autotune": True,
                                 "external_matmul": [minicomp.externals.numpy_matmul]})
"""

import numpy as np

from minicomp.selection.externals import external

#: NumPy's own product: BLAS for float32 and float64, plain loops for integers.
numpy_matmul = external(np.matmul, name="numpy_matmul", devices="cpu", batched=True)
