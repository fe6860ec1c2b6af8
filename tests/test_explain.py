"""What is said of a compiled module: text for people, HTML for notebooks, a dict for programs."""

import json

import pytest

from minicomp.explain import Explanation, KernelRecord
from minicomp.ir import Location
from minicomp.selection import CallSite, CandidateReport, Choice


@pytest.fixture
def explanation():
    site = CallSite(
        "matmul",
        shapes=((32, 784), (784, 512)),
        strides=((784, 1), (512, 1)),
        dtypes=("float32", "float32"),
        epilogue="relu(product)",
        location=Location("/home/me/model.py", 12),
    )
    reports = (
        CandidateReport("tile 12x32", "codegen", seconds=540e-6, spread=4e-6),
        CandidateReport("<broken>", "external", "rejected", "raised ValueError: " + "long " * 40),
        CandidateReport("numpy_matmul", "external", seconds=412e-6, spread=8.1e-6),
        CandidateReport("other", "external", "skipped", "registered for cuda"),
    )
    choice = Choice(site, 2, "timed", "fastest: 412 us", reports)
    kernels = (
        KernelRecord("kernel_0", "matmul", ("matmul", "add", "relu"), ("x", "weight", "t0")),
        KernelRecord("softmax", "loop", ("max", "sub", "exp", "sum", "div"), ("t0", "out")),
    )
    return Explanation("MLP", (choice,), kernels)


def test_the_text_shows_the_choice_and_every_candidate_with_its_fate(explanation):
    lines = str(explanation).splitlines()
    assert lines[0] == "MLP: 1 matmul call site, 2 kernels"
    assert lines[2:7] == [
        "matmul at model.py:12, float32 [32, 784] @ [784, 512]",
        "  numpy_matmul: fastest: 412 us",
        "  candidate     kind      status    median  spread   reason",
        "> numpy_matmul  external  ok        412 us  8.10 us",
        "  tile 12x32    codegen   ok        540 us  4.00 us",
    ]
    assert lines[7].startswith("  <broken>      external  rejected                   raised ")
    assert "  other         external  skipped                    registered for cuda" in lines
    assert lines[-3:] == [
        "  kernel    kind    operations               buffers",
        "  kernel_0  matmul  matmul, add, relu        x, weight, t0",
        "  softmax   loop    max, sub, exp, sum, div  t0, out",
    ]


def test_the_text_fits_a_hundred_columns_however_long_names_and_reasons_are(explanation):
    site = explanation.sites[0]
    report = CandidateReport("a" * 90, "external", "rejected", "b" * 300)
    choice = Choice(site.site, 0, "timed", "c" * 200, (report,))
    kernel = KernelRecord("k" * 50, "matmul", ("exp",) * 60, ("buffer",) * 60)
    text = str(Explanation("x", (choice,), (kernel,)))
    assert max(map(len, text.splitlines())) <= 100
    for letter, number in (("a", 90), ("b", 300), ("c", 200)):
        assert text.count(letter * 10) >= 1 and text.count(letter) >= number


def test_the_dict_has_plain_values_only(explanation):
    content = explanation.to_dict()
    assert json.loads(json.dumps(content)) == content
    (site,) = content["sites"]
    assert site["op"] == "matmul" and site["chosen"] == "numpy_matmul"
    assert site["shapes"] == [[32, 784], [784, 512]] and site["dtypes"] == ["float32"] * 2
    assert site["device"] == "cpu" and site["location"] == "model.py:12"
    assert site["candidates"][0] == {
        "name": "tile 12x32",
        "kind": "codegen",
        "status": "ok",
        "reason": "",
        "seconds": 540e-6,
        "spread": 4e-6,
    }
    assert content["kernels"][1]["operations"] == ["max", "sub", "exp", "sum", "div"]


def test_a_site_has_the_attributes_that_programs_read(explanation):
    (site,) = explanation.sites
    assert (site.op, site.chosen, site.reason) == ("matmul", "numpy_matmul", "fastest: 412 us")
    assert site.shapes == ((32, 784), (784, 512)) and site.dtypes == ("float32", "float32")
    assert site.device == "cpu" and str(site.location) == "model.py:12"
    assert [report.status for report in site.candidates] == ["ok", "rejected", "ok", "skipped"]


def test_the_html_shows_the_same_and_escapes_what_users_wrote(explanation):
    html = explanation._repr_html_()
    assert "<b>numpy_matmul</b>" in html and "<td>540 us</td>" in html
    assert "&lt;broken&gt;" in html and "<broken>" not in html
    assert html.count("<table>") == html.count("</table>") == 2


def test_a_module_without_matmuls_says_so():
    assert str(Explanation("f")) == "f: 0 matmul call sites, 0 kernels"
    assert repr(Explanation("f")) == "<explanation of f: 0 matmul call sites, 0 kernels>"
    assert Explanation("f").to_dict() == {"name": "f", "sites": [], "kernels": []}
