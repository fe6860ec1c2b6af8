"""Selection: which candidate does the work of each matmul call site, and why.

Reading order: `site` (what is known of a call site), `externals` (callables that the user
registers; `identity`), `candidates` (what can be chosen, and the choice), `checking` and `examine`
(is a candidate right? `subprocess_check`, `new_process_check`), `timing` (how long does it take?),
`tune` (all of that for one site), `records` and `replay` (choices that are remembered and saved),
`compare` (which of these roads to take), `choose` (the `Selector`, for which most programs are
content with the default). `device` is what they ask of a device, `stillness` of the process while
it is timed; `table` and `progress` are what people see.
"""

from minicomp.selection.candidates import Candidate, CandidateReport, Choice
from minicomp.selection.choose import Selector
from minicomp.selection.device import Device, HostDevice
from minicomp.selection.externals import External, call_external, external, register
from minicomp.selection.site import CallSite, Operands
from minicomp.selection.timing import use_timer

__all__ = [
    "CallSite",
    "Candidate",
    "CandidateReport",
    "Choice",
    "Device",
    "External",
    "HostDevice",
    "Operands",
    "Selector",
    "call_external",
    "external",
    "register",
    "use_timer",
]
