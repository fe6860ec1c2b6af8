"""A PTX simulator: runs the text of a kernel on NumPy arrays, and says what a debugger would.

    from minicomp.simulator import Simulator

    device = Simulator()
    x = device.allocate(64 * 4)
    device.write(x, np.arange(64, dtype=np.float32))
    report = device.launch(device.load(ptx), "add1", 2, 32, [x])
    device.read(x, 64 * 4).view(np.float32)
    print(report)             # instructions, transactions, bank conflicts, by line

It parses the PTX itself and takes nothing from the code that emitted it. Out-of-bounds and
misaligned accesses, reads of what was never written, races in shared memory, divergent barriers
and infinite loops raise `SimulationError`, which names the line, the thread and the address.

Reading order: `syntax` and `parser`, from text to instructions; `decode`, from an instruction to
a closure on arrays with an element a thread, and `instructions`, one function each; `control_flow`
and `scheduler`, which threads run when; `memory`, `races` and `counters`, what is watched;
`simulator` and `report`, what a user sees.
"""

from minicomp.simulator.report import Report
from minicomp.simulator.simulator import Simulator

__all__ = ["Report", "Simulator"]
