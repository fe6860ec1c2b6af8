"""Names that NumPy or PyTorch have and minicomp lacks: what to say to who looks for them.

In: the name looked up, and what there is. Out: the error to raise, an AttributeError, so that
`hasattr` works as ever. It names the user's line, and what to write instead or what is called
nearly so.

    Conv1d at model.py:8: module 'minicomp.nn' has no attribute 'Conv1d'; did you mean 'Conv2d'?
"""

from __future__ import annotations

from collections.abc import Iterable

from minicomp.errors import MissingNameError, nearest
from minicomp.tracing.record import user_location

_NO_DROPOUT = (
    "inference needs no dropout: leave it out, or use nn.Dropout, which after eval() gives back "
    "its input"
)
_NO_BATCH_NORM = (
    "in inference it is a scale and a shift: "
    "(x - running_mean) / minicomp.sqrt(running_var + eps) * weight + bias"
)
_NO_RECURRENCE = "write the recurrence as a loop over time steps, which is unrolled"

#: name -> what to do without it
ADVICE = {
    **dict.fromkeys(["dropout", "Dropout1d", "Dropout2d", "AlphaDropout"], _NO_DROPOUT),
    **dict.fromkeys(["batch_norm", "BatchNorm1d", "BatchNorm2d", "BatchNorm3d"], _NO_BATCH_NORM),
    **dict.fromkeys(["RNN", "LSTM", "GRU"], _NO_RECURRENCE),
}


def missing(owner: str, name: str, known: Iterable[str]) -> AttributeError:
    """The error about `owner.name`, where `known` are the names that there are."""
    if name.startswith("_"):  # Python's own and NumPy's questions, many and answered by silence
        return AttributeError(f"{owner} has no attribute {name!r}")
    advice = f"; {ADVICE[name]}" if name in ADVICE else nearest(name, known)
    advice = advice or "; write it with functions of minicomp.functional"
    message = f"{owner} has no attribute {name!r}{advice}"
    return MissingNameError(message, what=name, location=user_location())
