"""What `import minicomp` loads, and that names which are loaded later are there all the same."""

import os
import pydoc
import subprocess
import sys

import pytest

import minicomp


def modules_after(statement: str, **variables: str) -> set[str]:
    """What a fresh interpreter has loaded once it has run a statement."""
    script = f"import sys\n{statement}\nprint(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, **variables},
    )
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


def test_neither_the_compiler_nor_llvm_nor_an_extra_is_imported():
    loaded = modules_after("import minicomp")
    assert "minicomp.nn" in loaded
    later = {"llvmlite", "pycuda", "ml_dtypes", "minicomp.compiler", "minicomp.selection"}
    assert loaded & later == set()


@pytest.mark.parametrize("name", minicomp._LATER)
def test_a_name_that_is_loaded_later_can_be_imported(name):
    loaded = modules_after(f"from minicomp import {name}")
    assert minicomp._LATER[name] in loaded


COMPILING = """
import numpy as np, minicomp
x = np.ones((8, 8), np.float32)
minicomp.compile(lambda x: minicomp.softmax(x @ x, -1))(x)
"""


def test_a_program_that_is_found_compiled_loads_no_generator_and_nothing_that_compares(tmp_path):
    rarely = {"minicomp.codegen.llvm_emitter", "minicomp.codegen.llvm_matmul"}
    first = modules_after(COMPILING, MINICOMP_CACHE_DIR=str(tmp_path))
    assert rarely <= first
    again = modules_after(COMPILING, MINICOMP_CACHE_DIR=str(tmp_path))
    assert again & {*rarely, "minicomp.selection.compare", "minicomp.explain"} == set()


def test_all_names_are_listed_and_there():
    assert set(minicomp.__all__) <= set(dir(minicomp))
    assert [name for name in minicomp.__all__ if not hasattr(minicomp, name)] == []


def test_a_name_loaded_later_is_what_its_module_has():
    from minicomp import compiler
    from minicomp import selection as package

    assert minicomp.compile is compiler.compile
    assert minicomp.selection is package
    assert minicomp.external is package.external


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'minicomp' has no attribute 'compiled'"):
        minicomp.compiled  # noqa: B018


def test_help_shows_the_names_that_are_loaded_later():
    text = pydoc.plain(pydoc.render_doc(minicomp))
    assert "class CompiledModule" in text
    assert "compile(model" in text
