"""The tutorials: each chapter prints what it says; each exercise can be solved, and failed."""

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from chapters import mismatch, read_cells

ROOT = Path(__file__).parent.parent
TUTORIALS = ROOT / "tutorials"
EXERCISES = TUTORIALS / "exercises"
WRONG_ANSWERS = Path(__file__).parent / "wrong_answers"
CHAPTERS = sorted(TUTORIALS.glob("0*.py"))
NAMES = sorted(path.name for path in EXERCISES.glob("ex*.py"))


def run(*arguments, cache, **keywords):
    environment = {**os.environ, "MINICOMP_CACHE_DIR": str(cache)}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**environment, "PYTHONIOENCODING": "utf-8"},
        timeout=120,
        **keywords,
    )


# --- chapters ---


def test_there_are_five_chapters_and_six_exercises():
    assert len(CHAPTERS) == 5
    assert len(NAMES) == 6


@pytest.fixture(params=CHAPTERS, ids=lambda path: path.stem)
def chapter(request):
    return request.param


def test_a_chapter_prints_what_it_says(chapter, tmp_path):
    result = run(chapter, cache=tmp_path)
    assert result.returncode == 0, result.stderr
    cells = read_cells(chapter.read_text(encoding="utf-8"))
    difference = mismatch([line for cell in cells for line in cell.expected], result.stdout)
    assert not difference, (
        f"{difference}\nIf that is as it should be: python tests/chapters.py {chapter.name}"
    )
    assert result.stderr == ""


def test_a_chapter_has_the_rhythm(chapter):
    """Title; then question, code with its output, what was learned and where it stands."""
    title, *cells = read_cells(chapter.read_text(encoding="utf-8"))
    assert title.text.startswith("# ")
    assert len(cells) % 3 == 0
    for question, code, learned in zip(cells[0::3], cells[1::3], cells[2::3], strict=True):
        assert re.match(r"## .*\?\n", question.text), question.text
        assert not code.is_text and code.expected, f"no output in the cell at line {code.start}"
        lines = [line for line in code.code if line.strip()]
        assert len(lines) <= 30, f"{len(lines)} lines of code at line {code.start}"
        assert learned.text.startswith("**Learned.** "), learned.text
        assert "\n**In the source.**" in learned.text, learned.text


def test_lines_of_a_chapter_are_short_except_for_outputs(chapter):
    for cell in read_cells(chapter.read_text(encoding="utf-8")):
        for line in cell.code:
            assert len(line) <= 100, line


def test_a_chapter_opens_as_a_notebook(chapter):
    jupytext = pytest.importorskip("jupytext")
    notebook = jupytext.read(chapter)
    kinds = [cell.cell_type for cell in notebook.cells]
    cells = read_cells(chapter.read_text(encoding="utf-8"))
    assert kinds == ["markdown" if cell.is_text else "code" for cell in cells]
    assert all(cell.source.strip() for cell in notebook.cells)


LINK = re.compile(r"\[(?P<text>[^\]]+)\]\((?P<target>[^)#\s]+)\)")
DOCUMENTS = [*CHAPTERS, *TUTORIALS.rglob("*.md"), ROOT / "README.md"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_and_to_what_they_name(document):
    links = list(LINK.finditer(document.read_text(encoding="utf-8")))
    assert links
    for link in links:
        if link["target"].startswith("https://"):
            continue
        target = document.parent / link["target"]
        assert target.exists(), f"{document.name}: {link['target']} is not there"
        if link["text"].endswith(".py"):
            assert link["target"].endswith(link["text"]), f"{link['text']} leads to {target}"
        name = re.fullmatch(r"`(\w+)`", link["text"])
        if name and target.suffix == ".py":
            defined = rf"^(def {name[1]}\(|class {name[1]}\b|{name[1]}\b.*=)"
            assert re.search(defined, target.read_text(encoding="utf-8"), re.MULTILINE), (
                f"{document.name}: {link['target']} does not define {name[1]}"
            )


@pytest.mark.parametrize("name", NAMES)
def test_files_that_an_exercise_names_are_there(name):
    found = re.findall(r"minicomp/[\w/]+\.py", (EXERCISES / name).read_text(encoding="utf-8"))
    for path in found:
        assert (ROOT / path).exists(), f"{name} names {path}, which is not there"


@pytest.mark.parametrize(
    "expected, printed, fits",
    [
        (["a", "b"], "a\nb\n", True),
        (["a"], "a\nb\n", False),
        (["a ... c"], "a b c\n", True),
        (["a ... c"], "a b d\n", False),
        (["...", "c"], "a\nb\nc\n", True),
        (["a", "...", "c"], "a\nc\n", True),
        (["a.c"], "abc\n", False),
    ],
)
def test_expected_lines_are_compared(expected, printed, fits):
    assert (mismatch(expected, printed) == "") is fits


# --- exercises ---


def graded(directory, tmp_path):
    """exercise -> the messages of its tests that fail, for the answers in a directory."""
    report = tmp_path / "report.xml"
    result = run(
        "-m", "pytest", EXERCISES, "--answers", directory, "--junitxml", report,
        "-p", "no:cacheprovider", cache=tmp_path / "cache", cwd=tmp_path,
    )  # fmt: skip
    messages = {name: [] for name in NAMES}
    cases = list(ElementTree.parse(report).iter("testcase"))
    assert cases, result.stdout + result.stderr
    for case in cases:
        name = case.attrib["classname"].split(".")[-1].removeprefix("test_") + ".py"
        messages[name] += [
            failure.text for kind in ("failure", "error") for failure in case.iter(kind)
        ]
    return messages, result


def stub_of(solution):
    """A solution without the answer: what follows the TODO in its function."""
    pattern = re.compile(r"^(    # TODO:[^\n]*\n).*?^(?=\S)", re.MULTILINE | re.DOTALL)
    return pattern.sub(r"\1    raise NotImplementedError\n\n\n", solution)


#: what an answer that is nearly right forgets: the solution's text, what stands there instead, and
#: what the message must say
FORGOTTEN = {
    "ex2_pass.py": ("len(value.shape) == 2 and ", "", "the operands are 3-D"),
    "ex5_schedule.py": (", tile[0] * tile[1], tile[0]))", ",))", "it should be the one with more"),
}


def forgetful(name, solution):
    right, instead, _ = FORGOTTEN.get(name, ("", "", ""))
    assert right in solution
    return solution.replace(right, instead)


@pytest.fixture(scope="module")
def gradings(tmp_path_factory):
    """What `graded` gives for each kind of answer; their processes run side by side."""
    directories = {"solutions": TUTORIALS / "solutions", "wrong": WRONG_ANSWERS}
    for kind, change in (
        ("stubs", lambda _, solution: stub_of(solution)),
        ("forgetful", forgetful),
    ):
        directories[kind] = tmp_path_factory.mktemp(kind)
        for name in NAMES:
            solution = (TUTORIALS / "solutions" / name).read_text(encoding="utf-8")
            (directories[kind] / name).write_text(change(name, solution), encoding="utf-8")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(graded, directories.values(), map(tmp_path_factory.mktemp, directories))
        return dict(zip(directories, results, strict=True))


def test_solutions_pass(gradings):
    messages, result = gradings["solutions"]
    assert result.returncode == 0, result.stdout
    assert not any(messages.values())
    assert "All done." in result.stdout


def test_the_option_solutions_grades_them(tmp_path):
    result = run(
        "-m", "pytest", EXERCISES / "test_ex5_schedule.py", "--solutions",
        "-p", "no:cacheprovider", cache=tmp_path, cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout
    assert "[x] ex5_schedule.py" in result.stdout


def test_stubs_fail_with_not_implemented_error(gradings):
    messages, result = gradings["stubs"]
    assert result.returncode == 1
    for name in NAMES:
        (message,) = messages[name]
        assert message.rstrip().endswith("NotImplementedError"), message
        assert re.search(rf"\[ \] {name} .* to do", result.stdout)


@pytest.mark.parametrize("name", NAMES)
def test_an_exercise_is_its_solution_without_the_answer(name):
    exercise = (EXERCISES / name).read_text(encoding="utf-8")
    solution = (TUTORIALS / "solutions" / name).read_text(encoding="utf-8")
    if exercise != stub_of(solution):
        pytest.skip("somebody is working on it")


#: what the message must say about the answer in tests/wrong_answers
HELPFUL = {
    "ex1_rule.py": "The rule holds where both second operands are the same value",
    "ex2_pass.py": "the slice for k is not x @ k",
    "ex3_op.py": "is 9.35762291e-14, your code gives 0",
    "ex4_index.py": "begins with 7, 8, 9, 0",
    "ex5_schedule.py": "needs 4 * 2 accumulators, 2 registers for b and one for a: 11",
    "ex6_external.py": "minicomp rejected it at ((2, 2), (2, 2)): wrong: 1 of 4 elements",
}


def test_wrong_answers_fail_with_a_message_that_helps(gradings):
    messages, result = gradings["wrong"]
    assert result.returncode == 1
    for name in NAMES:
        (message,) = messages[name]
        assert HELPFUL[name] in message
        assert re.search(rf"\[ \] {name} .* not right yet", result.stdout)


def test_answers_that_forget_a_condition_are_not_done(gradings):
    messages, _ = gradings["forgetful"]
    for name in NAMES:
        if name in FORGOTTEN:
            assert FORGOTTEN[name][2] in "".join(messages[name])
        else:
            assert not messages[name]


def test_the_summary_names_the_next_exercise_and_gives_one_hint_per_attempt(tmp_path):
    workplace = tmp_path / "exercises"
    workplace.mkdir()
    for path in EXERCISES.glob("*.py"):
        (workplace / path.name).write_bytes(path.read_bytes())
    for name in NAMES:  # somebody may have solved some of those in the checkout
        solution = (TUTORIALS / "solutions" / name).read_text(encoding="utf-8")
        (workplace / name).write_text(stub_of(solution), encoding="utf-8")

    def summary():
        tests = [workplace / f"test_{name}" for name in NAMES[:2]]
        return run("-m", "pytest", *tests, cache=tmp_path / "cache", cwd=tmp_path).stdout

    first = workplace / NAMES[0]
    text = summary()
    assert f"Next: {os.path.join('exercises', NAMES[0])}" in text
    assert "hint 1 of 3" in text and "hint 2" not in text
    assert "hint 2" not in summary()  # nothing was tried
    first.write_bytes((WRONG_ANSWERS / NAMES[0]).read_bytes() + b"HINTS = ('one', 'two')\n")
    text = summary()
    assert "hint 2 of 2: two" in text
    first.write_bytes((TUTORIALS / "solutions" / NAMES[0]).read_bytes())
    text = summary()
    assert re.search(rf"\[x\] {NAMES[0]} .* done", text)
    assert f"Next: {os.path.join('exercises', NAMES[1])}" in text
