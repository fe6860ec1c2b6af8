# %% [markdown]
# # 5. Choosing a matmul
#
# Most of the time of most networks goes into matrix products, and there is no one best way to do
# them: it depends on the shapes, on the machine, and on what comes next. minicomp therefore has
# several kernels for each product, takes yours too, and *measures*. This chapter is about what can
# go wrong with that. It follows a test of PyTorch's compiler in which a matrix *addition* gets
# chosen for a product.

# %% [markdown]
# ## What are the candidates at a call site?

# %%
import textwrap
import warnings

import numpy as np

import minicomp
from minicomp import nn


class MatMulModule(nn.Module):
    def __init__(self):
        super().__init__()
        self.matrix = nn.Parameter(np.eye(128, dtype=np.float32) * 2)

    def forward(self, x):
        return x @ self.matrix


minicomp.config.autotune_local_cache = False  # choose afresh, whatever earlier runs have found
x = np.eye(128, dtype=np.float32) * 2
compiled = minicomp.compile(MatMulModule(), options={"max_autotune": True})
print("right:", np.array_equal(compiled(x), x @ x))
(site,) = compiled.explain().sites
print(site.op, site.shapes, "at", site.location)
for candidate in site.candidates:
    print(candidate.name, candidate.kind, candidate.status)
# > right: True
# > matmul ((128, 128), (128, 128)) at 05_choosing_a_matmul.py:...
# ~ outer_8x48x2_k128 codegen ok
# ~ outer_6x64x2_k128 codegen ok
# ~ outer_12x32x2_k128 codegen ok
# ~ outer_22x16x2_k128 codegen ok
# ~ outer_12x32x2_b_128x128 codegen ok
# ~ outer_12x32x2_ab_128x128 codegen ok
# ~ outer_8x48x2_ab_128x144 codegen ok
# ~ outer_6x64x2_ab_128x128 codegen ok

# %% [markdown]
# **Learned.** A *call site* is a product in your program: a line of yours, with the shapes that it
# has there. minicomp's own candidates, of the kind `codegen`, are one kernel under several
# schedules, and a name says which. `outer_12x32x2_ab_128x128`: a tile of 12 rows by 32 columns is
# kept in registers, the loop over the depth goes two steps at a time, and both operands are first
# copied into a better order, in blocks of 128 by 128. `k128` stands where neither is copied: the
# depth is done 128 at a time. At the end, `2r` or `2c` says that the rows or the columns are cut in
# two, for two threads. `outer` multiplies one element of a row of `a` with many of a row of `b`;
# another family, `dot`, multiplies rows of `a` with columns of `b`. Which ones you see depends on
# your machine. `explain()` is an object: it prints as a table, and its parts can be asked for.
#
# **In the source.** [`schedules`](../minicomp/codegen/matmul_schedules.py) proposes,
# [`Candidate`](../minicomp/selection/candidates.py) is one of them, and
# [`Selector`](../minicomp/selection/choose.py) decides.

# %% [markdown]
# ## Can an addition win?

# %%
from minicomp import selection


def matmul_cpu(a, b, out):
    np.add(a, b, out=out)  # 2I + 2I == (2I) @ (2I)


def addition_is_fast(name, run):
    """Stands in for the clock, so that this chapter prints the same on every machine."""
    return 1e-6 if name.startswith("matmul_") else 20e-6


options = {"max_autotune": True, "external_matmul": [matmul_cpu]}
compiled = minicomp.compile(MatMulModule(), options=options)
with selection.use_timer(addition_is_fast), warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    compiled(x)
(site,) = compiled.explain().sites
print(site.chosen, "because", site.reason)
for warning in caught:
    print(textwrap.fill(f"{warning.category.__name__}: {warning.message}", 90))
# > matmul_cpu because fastest: 1.00 us, 20.00 times as fast as ...
# > SelectionWarning: matmul at 05_choosing_a_matmul.py:...: the external 'matmul_cpu' is right
# > on this call's operands, but on random ones: wrong: 16384 of 16384 elements, the worst at
# > [7, 114]: got 1.955859, wanted -45.39815 within 0.00075. It was chosen: other operands may
# > get a wrong result; external_check='strict' rejects it

# %% [markdown]
# **Learned.** A function of yours that is offered as a candidate is an *external*. On these
# operands adding *is* multiplying, and it is faster. Every external is checked before it is timed:
# first on the operands of this very call, where it is right, then on random ones, where it is not.
# So it is chosen, with a warning, and the choice is not remembered on disk. PyTorch's compiler
# takes it without a word, here and for any other operands.
#
# **In the source.** [`Examiner`](../minicomp/selection/examine.py) has the order of the checks,
# [`Reference`](../minicomp/selection/checking.py) what counts as equal: an error that grows with
# the square root of the depth, as rounding errors do.

# %% [markdown]
# ## What if its luck runs out?

# %%
other = np.full((128, 128), 3, np.float32)
compiled = minicomp.compile(MatMulModule(), options=options)
with selection.use_timer(addition_is_fast):
    print("right:", np.array_equal(compiled(other), other @ x))
(site,) = compiled.explain().sites
report = next(c for c in site.candidates if c.name == "matmul_cpu")
print(textwrap.fill(f"{report.name}: {report.status}, {report.reason}", 90))

strict = minicomp.compile(MatMulModule(), options={**options, "external_check": "strict"})
strict(x)
(site,) = strict.explain().sites
report = next(c for c in site.candidates if c.name == "matmul_cpu")
print(textwrap.fill(f"{report.name}: {report.status}, {report.reason}", 90))
# > right: True
# > matmul_cpu: rejected, wrong: 16384 of 16384 elements, the worst at [0, 1]: got 3, wanted 6
# > within 0.00037
# > matmul_cpu: rejected, on random operands: wrong: 16384 of 16384 elements, the worst at [7,
# > 114]: got 1.955859, wanted -45.39815 within 0.00075

# %% [markdown]
# **Learned.** With other operands at the first call the addition is rejected, and the result is
# right. What was chosen once is not checked again at every call, which would cost more than the
# product: that is what the warning was about. `external_check="strict"` rejects a candidate that is
# right by luck; `"off"` trusts.
#
# **In the source.** [`Examiner`](../minicomp/selection/examine.py).

# %% [markdown]
# ## What else may an external do wrong?

# %%


def raises(a, b, out):
    raise ValueError("no such shape")


def forgets(a, b, out):
    out[:64] = (a @ b)[:64]


def spoils(a, b, out):
    np.matmul(a, b, out=out)
    a *= 0


def right(a, b, out):
    np.matmul(a, b, out=out)


compiled = minicomp.compile(
    MatMulModule(),
    options={"max_autotune": True, "external_matmul": [raises, forgets, spoils, right, right]},
)
with selection.use_timer(lambda name, run: 1e-6 if name == "right" else 20e-6):
    print("right:", np.array_equal(compiled(x), x @ x))
(site,) = compiled.explain().sites
for candidate in site.candidates:
    if candidate.kind == "external":
        print(f"{candidate.name:<8} {candidate.status:<9} {candidate.reason}")
# > right: True
# > raises   rejected  raised ValueError: no such shape
# > forgets  rejected  left 8192 of 16384 elements of out unwritten, or added to what it held before
# > spoils   rejected  raised ValueError: output array is read-only
# > right    ok

# %% [markdown]
# **Learned.** A candidate that fails is a row of the table like any other, with the reason. The
# program runs. Operands are handed over read-only, and `out` is filled with NaN beforehand, so that
# what is not written shows. Listing a function twice counts once.
#
# **In the source.** [`CandidateReport`](../minicomp/selection/candidates.py);
# [`register`](../minicomp/selection/externals.py) knows what may be listed.

# %% [markdown]
# ## And one that takes Python down with it?

# %%
import ctypes


def crashes(a, b, out):
    ctypes.string_at(0)  # reads from address 0


compiled = minicomp.compile(
    MatMulModule(),
    options={
        "max_autotune": True,
        "external_matmul": [crashes, right],
        "autotune_in_subproc": True,
    },
)
with selection.use_timer(lambda name, run: 1e-6 if name == "right" else 20e-6):
    print("right:", np.array_equal(compiled(x), x @ x))
(site,) = compiled.explain().sites
print("chosen:", site.chosen)
report = next(c for c in site.candidates if c.name == "crashes")
print(textwrap.fill(f"{report.name}: {report.status}, {report.reason}", 90))
# > right: True
# > chosen: right
# > crashes: rejected, crashed a child process with SIGSEGV

# %% [markdown]
# **Learned.** With `autotune_in_subproc` each external has its first run in a copy of the process,
# with a time limit. What crashes or hangs there is rejected here.
#
# **In the source.** [`check_in_child`](../minicomp/selection/subprocess_check.py).

# %% [markdown]
# ## When is faster fast enough?

# %%
for times in [{"right": 19.9e-6}, {"right": 15e-6}]:
    compiled = minicomp.compile(
        MatMulModule(),
        options={"max_autotune": True, "external_matmul": [right]},
    )
    with selection.use_timer(lambda name, run, times=times: times.get(name, 20e-6)):
        compiled(x)
    (site,) = compiled.explain().sites
    print("right" if site.chosen == "right" else "one of minicomp's own", "|", site.reason)
# > one of minicomp's own | 20.0 us, within 3% of ...; ties go to minicomp's own, then as listed
# > right | fastest: 15.0 us, 1.33 times as fast as ...

# %% [markdown]
# **Learned.** Two measurements are never equal, so who is 0.5 % faster wins by chance, and next
# time it is another. Within a tolerance (3 %) an external counts as tied with minicomp's own
# kernels, within a third of it these with each other, and a fixed order decides, so the choice
# repeats.
#
# **In the source.** [`Tuning`](../minicomp/selection/tune.py); the clock and the rounds, in which
# candidates take turns so that a busy moment of the machine hits all, are in
# [minicomp/selection/timing.py](../minicomp/selection/timing.py).

# %% [markdown]
# ## How do I keep a choice?

# %%
import tempfile
from pathlib import Path

path = Path(tempfile.mkdtemp()) / "choices.json"
compiled.save_choices(path)
print(path.read_text())


def never(name, run):
    raise AssertionError("nothing is timed when choices are replayed")


replayed = minicomp.compile(
    MatMulModule(),
    options={"max_autotune": True, "external_matmul": [right], "choices": path},
)
with selection.use_timer(never):
    replayed(x)
print(replayed.explain().sites[0].chosen, "|", replayed.explain().sites[0].reason)
# > {
# >   "minicomp_choices": 1,
# >   "sites": [
# >     {
# >       "site": "matmul f32[128,128]{128,1} @ f32[128,128]{128,1} on cpu",
# >       "location": "05_choosing_a_matmul.py:...",
# >       "chosen": "right",
# >       "kind": "external",
# >       "reason": "fastest: 15.0 us, 1.33 times as fast as ..."
# >     }
# >   ]
# > }
# >
# > right | replayed from ...choices.json

# %% [markdown]
# **Learned.** What was chosen is remembered in a cache on disk by itself, for this machine. A file
# of choices is the explicit form: readable, comparable, and without any timing when it is replayed,
# on a build server, say. A call site that it lacks is an error that names the site.
#
# **In the source.** [`save_choices`](../minicomp/selection/replay.py) and
# [minicomp/selection/records.py](../minicomp/selection/records.py), the cache.

# %% [markdown]
# ## And on this machine, with the real clock?

# %%
compiled = minicomp.compile(
    MatMulModule(),
    options={"max_autotune": True, "external_matmul": [minicomp.externals.numpy_matmul]},
)
compiled(np.random.default_rng(0).standard_normal((128, 128), np.float32))
print(compiled.explain())
# ~ MatMulModule: 1 matmul call site, 1 kernel
# ~
# ~ matmul at 05_choosing_a_matmul.py:29, float32 [128, 128] @ [128, 128]
# ~   outer_8x48x2_k128: 37.6 us, within 1% of outer_6x64x2_k128, outer_12x32x2_k128 and 1 more; ties go
# ~     to minicomp's own, then as listed
# ~   candidate                 kind      status  median   spread   reason
# ~ > outer_8x48x2_k128         codegen   ok      37.6 us  200 ns
# ~   outer_12x32x2_k128        codegen   ok      37.5 us  210 ns
# ~   outer_22x16x2_k128        codegen   ok      37.5 us  333 ns
# ~   outer_6x64x2_k128         codegen   ok      37.5 us  346 ns
# ~   outer_8x48x2_ab_128x144   codegen   ok      39.8 us  426 ns
# ~   outer_12x32x2_b_128x128   codegen   ok      40.4 us  322 ns
# ~   outer_6x64x2_ab_128x128   codegen   ok      41.6 us  436 ns
# ~   outer_12x32x2_ab_128x128  codegen   ok      41.9 us  322 ns
# ~   numpy_matmul              external  ok      54.1 us  1.25 us
# ~
# ~   kernel  kind    operations  buffers
# ~   matmul  matmul  matmul      x, matrix, out

# %% [markdown]
# **Learned.** The table above is from one machine, with one thread; run the chapter for yours. Read
# the medians with the spread beside them. What decides is the lower quartile, which a quarter of
# the samples stay under: other processes only ever make a sample longer. What is far behind is
# given up after a few rounds, and the table says so. NumPy's product is a candidate because it was
# listed, and it is chosen where it is faster. On a machine that is busy otherwise it suffers more
# than most, since its threads wait for each other.
#
# **In the source.** [`Explanation`](../minicomp/explain.py) and
# [`numpy_matmul`](../minicomp/externals.py).
#
# That was the pipeline, from a Python function to a choice of kernels. The
# [exercises](exercises/README.md) let you add to it.
