"""NVIDIA's assembler: takes PTX, and says what registers it needs. No GPU is needed for that.

    for kernel in assembled([text, other], "sm_90a"):
        print(kernel.name, kernel.registers, kernel.spilled_bytes)

`ptxas` is the one on the PATH, of a toolkit, or of the package nvidia-cuda-nvcc, which is among
what the tests want on Linux.
"""

import functools
import os
import platform
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from minicomp.errors import CudaError
from minicomp.runtime.cuda.machine_code import find

#: Kernels that are assembled by one call: starting the assembler takes as long as some of them. As
#: many calls run side by side as there are CPUs.
BATCH = 100


@dataclass(frozen=True)
class Assembled:
    """A kernel's needs per thread. What does not fit into registers is spilled to memory."""

    name: str
    registers: int
    spilled_bytes: int


@functools.cache
def assembler():
    """The path of ptxas. Where the tests' requirements have it a missing one is a failure, and
    elsewhere a reason to skip."""
    try:
        return find("ptxas")
    except CudaError as error:
        if (sys.platform, platform.machine()) == ("linux", "x86_64"):
            pytest.fail(f"{error}; the extra `test` has it")
        pytest.skip(str(error))


def assembled(texts, architecture, optimization=3):
    """What each of the modules, of one kernel each, needs on an architecture, in their order. Fails
    where the assembler does not take one."""
    texts = list(texts)
    batches = [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]
    assembler()  # found, or missed, in the test's own thread
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(functools.partial(_batch, (architecture, optimization)), batches)
        return [kernel for batch in results for kernel in batch]


def _batch(target, texts):
    source, (architecture, level) = _joined(texts), target
    options = ["-v", f"-O{level}", f"-arch={architecture}", "-o", "/dev/null"]
    command = [assembler(), *options, "/dev/stdin"]
    done = subprocess.run(command, input=source, text=True, capture_output=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, _lines_of_errors(said, source)
    pattern = (
        r"Compiling entry function '(\w+)'.*?(\d+) bytes spill stores, (\d+) bytes spill loads"
        r".*?Used (\d+) registers"
    )
    results = [
        Assembled(name, int(registers), int(stored) + int(loaded))
        for name, stored, loaded, registers in re.findall(pattern, said, re.DOTALL)
    ]
    assert len(results) == len(texts)
    return sorted(results, key=lambda kernel: int(kernel.name.rpartition("__")[2]))


def _joined(texts):
    """One module with all the kernels, under names of their own."""
    headers = [text.partition(".address_size 64")[0] for text in texts]
    versions = [tuple(map(int, re.search(r"\.version (\d+)\.(\d+)", h).groups())) for h in headers]
    targets = [re.search(r"\.target (\w+)", header)[1] for header in headers]
    version = ".".join(map(str, max(versions)))
    bodies = [
        re.sub(r"\.visible \.entry (\w+)\(", rf".visible .entry \1__{number}(", body)
        for number, (_, _, body) in enumerate(text.partition(".address_size 64") for text in texts)
    ]
    return f".version {version}\n.target {max(targets)}\n.address_size 64\n" + "".join(bodies)


def _lines_of_errors(said, source):
    """The assembler's words, each error with the line that it is about."""
    lines = source.splitlines()
    errors = [line for line in said.splitlines() if "error" in line][:10]
    numbers = [re.search(r"line (\d+)", error) for error in errors]
    return "\n".join(
        f"{error}\n    {lines[int(n[1]) - 1] if n else ''}" for error, n in zip(errors, numbers)
    )
