"""Machine code for GPUs as text: where NVIDIA's tools are, and what is said where they are not."""

import numpy as np
import pytest

import minicomp
from minicomp import cuda
from minicomp.errors import CudaError
from minicomp.runtime.cuda import machine_code

pytestmark = pytest.mark.cuda


def compiled_on_gpu():
    compiled = minicomp.compile(lambda x: x * 2 + 1)
    compiled(cuda.to_device(np.ones(64, np.float32)))
    return compiled


def are_tools_here():
    try:
        return all(machine_code.find(tool) for tool in machine_code.PACKAGES)
    except CudaError:
        return False


@pytest.mark.skipif(not are_tools_here(), reason="needs NVIDIA's ptxas and nvdisasm")
def test_a_module_shows_its_machine_code():
    text = compiled_on_gpu().assembly()
    assert "FMUL" in text and "FADD" in text  # rounded one by one, as the interpreter does
    assert "mul_add" in text


def test_a_tool_that_is_missing_is_named_with_the_package_that_has_it(monkeypatch, tmp_path):
    monkeypatch.setattr(machine_code.shutil, "which", lambda tool, path=None: None)
    monkeypatch.setattr(machine_code.sysconfig, "get_paths", lambda: {"platlib": str(tmp_path)})
    with pytest.raises(CudaError, match=r"NVIDIA's ptxas, .*pip install nvidia-cuda-nvcc"):
        compiled_on_gpu().assembly()


def test_tools_are_found_in_their_packages(monkeypatch, tmp_path):
    monkeypatch.setattr(machine_code.shutil, "which", lambda tool, path=None: None)
    monkeypatch.setattr(machine_code.sysconfig, "get_paths", lambda: {"platlib": str(tmp_path)})
    inside = tmp_path / "nvidia" / "cu13" / "bin"
    inside.mkdir(parents=True)
    (inside / "nvdisasm").touch()
    assert machine_code.find("nvdisasm") == str(inside / "nvdisasm")


def test_what_the_assembler_refuses_comes_with_its_words(monkeypatch):
    broken = minicomp.codegen.ptx_kernel.PTXKernel("not PTX", "broken", (1, 1, 1), (32, 1, 1))
    monkeypatch.setattr(machine_code, "find", lambda tool: "/bin/false")
    with pytest.raises(CudaError, match="false failed"):
        machine_code.disassembled(broken, "sm_80")
