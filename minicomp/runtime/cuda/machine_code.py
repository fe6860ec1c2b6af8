"""What PTX becomes: the GPU's own instructions (SASS) as text, by NVIDIA's tools.

In: a kernel and a target. Out: the text that `nvdisasm` gives of what `ptxas` makes of it. Both run
without a GPU; they come with the CUDA toolkit, and from PyPI as nvidia-cuda-nvcc and
nvidia-cuda-nvdisasm.
"""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path

from minicomp.codegen.ptx_kernel import PTXKernel
from minicomp.errors import CudaError

#: tool -> the package on PyPI that has it
PACKAGES = {"ptxas": "nvidia-cuda-nvcc", "nvdisasm": "nvidia-cuda-nvdisasm"}


def disassembled(kernel: PTXKernel, target: str) -> str:
    """The machine code of a kernel for `target`. CudaError where a tool is missing or fails."""
    ptxas, nvdisasm = find("ptxas"), find("nvdisasm")
    with tempfile.TemporaryDirectory() as folder:
        source, cubin = Path(folder, f"{kernel.name}.ptx"), Path(folder, f"{kernel.name}.cubin")
        source.write_text(kernel.text)
        _run(ptxas, f"-arch={target}", source, "-o", cubin)
        return _run(nvdisasm, "--print-code", cubin)


def find(tool: str) -> str:
    """The path of one of NVIDIA's tools: on PATH, in a toolkit, or in its package."""
    found = shutil.which(tool) or shutil.which(tool, path="/usr/local/cuda/bin")
    if found is not None:
        return found
    site = Path(sysconfig.get_paths()["platlib"], "nvidia")
    inside = next((path for path in site.glob(f"*/bin/{tool}")), None)
    if inside is None:
        raise CudaError(
            f"machine code for CUDA is shown by NVIDIA's {tool}, which was not found; "
            f"pip install {PACKAGES[tool]}, or put the CUDA toolkit's bin on PATH. "
            f"ptx() needs no tool"
        )
    return str(inside)


def _run(*command: str | Path) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CudaError(f"{Path(command[0]).name} failed: {done.stderr.strip()[:2000]}")
    return done.stdout
