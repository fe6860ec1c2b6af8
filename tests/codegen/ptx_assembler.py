"""PTX through the assembler (see `ptxas`).

In: a module's text and an architecture. Out: what `ptxas` says of its kernel's resources.
"""

import re
import subprocess
from dataclasses import dataclass

from ptxas import assembler


@dataclass(frozen=True)
class Resources:
    """Of one thread: registers, and bytes that did not fit into them."""

    registers: int
    spilled_bytes: int


def assemble(text: str, architecture: str, directory) -> Resources:
    """Fails the test where the text is not taken."""
    source = directory / "kernel.ptx"
    source.write_text(text)
    command = [assembler(), "-v", f"-arch={architecture}", str(source), "-o", "/dev/null"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    registers = re.search(r"Used (\d+) registers", said)
    spilled = re.findall(r"(\d+) bytes spill", said)
    assert registers and spilled, said
    return Resources(int(registers[1]), sum(map(int, spilled)))
