# %% [markdown]
# # 3. Passes and fusion
#
# A traced graph is what you wrote, with all its detours. A *pass* takes a graph and gives a better
# one that means the same. Then *fusion* decides which values are computed together: a kernel reads
# its inputs once and writes its outputs once, and what happens in between stays in registers.

# %% [markdown]
# ## What does each pass do?

# %%
import numpy as np

import minicomp
from minicomp import nn
from minicomp.ir.verifier import verify
from minicomp.passes import PASSES


def wasteful(x):
    negative = -x
    halves = -negative / 2 + x * 0.5
    _unused = np.exp(x)
    same = x / 2 + x * 0.5
    return halves * same


x = np.zeros((4, 8), np.float32)
graph = minicomp.trace(wasteful, x)
print(graph)
for run in PASSES:
    better = verify(run(graph), run.__name__)
    if better != graph:
        print(f"after {run.__name__}: {len(graph)} values have become {len(better)}")
    graph = better
print(graph)
# > graph wasteful(%x: f32[4,8]) {
# >   %0 = neg(%x) : f32[4,8]
# >   %1 = neg(%0) : f32[4,8]
# >   %2 = full() {shape=[4,8], value=2.0, dtype=f32} : f32[4,8]
# >   %3 = div(%1, %2) : f32[4,8]
# >   %4 = full() {shape=[4,8], value=0.5, dtype=f32} : f32[4,8]
# >   %5 = mul(%x, %4) : f32[4,8]
# >   %6 = add(%3, %5) : f32[4,8]
# >   %7 = exp(%x) : f32[4,8]
# >   %8 = full() {shape=[4,8], value=2.0, dtype=f32} : f32[4,8]
# >   %9 = div(%x, %8) : f32[4,8]
# >   %10 = full() {shape=[4,8], value=0.5, dtype=f32} : f32[4,8]
# >   %11 = mul(%x, %10) : f32[4,8]
# >   %12 = add(%9, %11) : f32[4,8]
# >   %13 = mul(%6, %12) : f32[4,8]
# >   return %13
# > }
# > after simplify: 15 values have become 16
# > after common_subexpressions: 16 values have become 8
# > after dead_code: 8 values have become 5
# > graph wasteful(%x: f32[4,8]) {
# >   %0 = full() {shape=[4,8], value=0.5, dtype=f32} : f32[4,8]
# >   %1 = mul(%x, %0) : f32[4,8]
# >   %2 = add(%1, %1) : f32[4,8]
# >   %3 = mul(%2, %2) : f32[4,8]
# >   return %3
# > }

# %% [markdown]
# **Learned.** Each pass does one thing: `simplify` replaces `-(-x)` by `x` and a division by 2 by a
# multiplication by 0.5, which rounds the same; `common_subexpressions` finds what is computed
# twice; `dead_code` drops what nobody uses. `simplify` made the graph longer at first: a new
# constant 0.5 stood beside each old 2 until `dead_code` came. One pass prepares the ground for
# another, so the list is run again until a whole round changes nothing.
#
# **In the source.** [`PASSES`](../minicomp/passes/__init__.py) and
# [`optimize`](../minicomp/passes/__init__.py); one file each beside them. The simplifications are
# small functions in [minicomp/passes/rules_arithmetic.py](../minicomp/passes/rules_arithmetic.py)
# and its neighbours.

# %% [markdown]
# ## Why does `x + 0` stay, while `x * 1` goes?

# %%
from minicomp.passes import optimize

print(optimize(minicomp.trace(lambda x: x * 1, x)))
print(optimize(minicomp.trace(lambda x: x + 0, x)))
print("-0.0 + 0 =", np.float32(-0.0) + np.float32(0))
# > graph lambda(%x: f32[4,8]) {
# >   return %x
# > }
# > graph lambda(%x: f32[4,8]) {
# >   %0 = full() {shape=[4,8], value=0.0, dtype=f32} : f32[4,8]
# >   %1 = add(%x, %0) : f32[4,8]
# >   return %1
# > }
# > -0.0 + 0 = 0.0

# %% [markdown]
# **Learned.** A pass may not change a result, not even the sign of a zero: minus zero plus zero is
# plus zero, so adding zero does something. Rules of arithmetic that everybody knows hold for real
# numbers; floating point has infinities, NaN and two zeros, and each rule here holds for them too.
#
# **In the source.** [`add_zero`](../minicomp/passes/rules_arithmetic.py), and the note on exactness
# in [minicomp/passes/rules.py](../minicomp/passes/rules.py).

# %% [markdown]
# ## How many kernels is a softmax?

# %%
from minicomp.kernels.program import build_program
from minicomp.passes.fuse import fuse
from minicomp.passes.materialize import materialize


def softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def kernels_of(function, *arrays):
    graph = materialize(optimize(minicomp.trace(function, *arrays)))
    return [call.kernel for call in build_program(graph, fuse(graph)).calls]


for kernel in kernels_of(softmax, np.zeros((64, 1000), np.float32)):
    print(kernel)
# > kernel max_sub_exp_sum_div(x: f32[64000], div: f32[64000] written)
# >   for o0 in 64:  # parallel
# >     sweep i0 in 1000:
# >       r0 = max x[1000*o0 + i0]
# >     sweep i0 in 1000:
# >       r1 = sum exp(sub(x[1000*o0 + i0], r0))
# >     sweep i0 in 1000:
# >       div[1000*o0 + i0] = div(exp(sub(x[1000*o0 + i0], r0)), r1)

# %% [markdown]
# **Learned.** One, of three *sweeps* over each row: find the maximum, add up the exponentials,
# write. Nobody told the compiler what a softmax is. Both reductions fold (reduce to one number)
# the same axis of the same shape, and everything between them is asked for at the row at hand, so
# all of it fits in one loop over rows. Row by row the data comes from the cache; NumPy would go
# through memory five times.
#
# Arrays have become flat buffers: `x[1000*o0 + i0]` is column `i0` of row `o0`. `r0` and `r1` are
# one number each, for the row at hand. `# parallel` marks a loop whose rounds do not depend on each
# other, so that threads can share them.
#
# **In the source.** [`materialize`](../minicomp/passes/materialize.py) puts copies where an array
# has to stand in memory row by row, which here is nowhere;
# [`fuse`](../minicomp/passes/fuse.py) joins values as long as one kernel can compute them;
# [`lower`](../minicomp/kernels/lowering.py) says whether it can, by asking for one element of the
# result; [`LoopKernel`](../minicomp/kernels/kernel.py) is what comes out.

# %% [markdown]
# ## And layer norm? And a transpose?

# %%
norm = nn.LayerNorm(1000)
(kernel,) = kernels_of(norm, np.zeros((64, 1000), np.float32))
print(kernel)
(kernel,) = kernels_of(lambda x: np.tanh(x.T[::2]), np.zeros((6, 8), np.float32))
print(kernel)
# > kernel sum_div_sub_mul_and2more(x: f32[64000], weight: f32[1000], bias: f32[1000], add: f32[64000] written)
# >   for o0 in 64:  # parallel
# >     sweep i0 in 1000:
# >       r0 = sum x[1000*o0 + i0]
# >     sweep i0 in 1000:
# >       t0 = sub(x[1000*o0 + i0], div(r0, 1000.0))
# >       r1 = sum mul(t0, t0)
# >     sweep i0 in 1000:
# >       add[1000*o0 + i0] = add(mul(mul(sub(x[1000*o0 + i0], div(r0, 1000.0)), rsqrt(add(div(r1, 1000.0), 1e-05))), weight[i0]), bias[i0])
# > kernel tanh(x: f32[48], tanh: f32[24] written)
# >   for o0 in 4:  # parallel
# >     for o1 in 6:  # parallel
# >       tanh[6*o0 + o1] = tanh(x[8*o1 + 2*o0])

# %% [markdown]
# **Learned.** Layer norm is one kernel too, by the same rules. Transposing and slicing have become
# arithmetic on indices: no element was moved, the loop just reads `x` in another order. In the
# compiled program such a *movement* op costs nothing by itself.
#
# **In the source.** [`movement_index`](../minicomp/kernels/lowering.py) is the whole of it: at
# which index of its operand does a movement op find its own element?
# [`Index`](../minicomp/kernels/indexing.py) does the arithmetic.

# %% [markdown]
# ## What happens around a matrix product?


# %%
class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(32, 16)

    def forward(self, x):
        return minicomp.relu(self.linear(x)) * 2


(kernel,) = kernels_of(Layer(), np.zeros((8, 32), np.float32))
print(kernel)
# > kernel matmul_add_maximum_mul(x: f32[256], weight: f32[512], bias: f32[16], mul: f32[128] written)
# >   for m in 8, n in 16:  # parallel
# >     a = x from 0, strides (32, 1)
# >     b = weight from 0, strides (1, 32)
# >     product = sum over k in 32 of a[.., k] * b[k, ..]  # f32
# >     mul[16*m + n] = mul(maximum(add(product, bias[n]), 0.0), 2.0)

# %% [markdown]
# **Learned.** The weight's transpose is a pair of strides. Bias, relu and the multiplication are
# the product's *epilogue*, done to each element while it is still in a register. A matmul kernel
# says nothing about tiles or threads: those are its *schedule*, and the same kernel under different
# schedules is what chapter 5 chooses from.
#
# **In the source.** [`MatmulKernel`](../minicomp/kernels/kernel.py), and its
# [`View`](../minicomp/kernels/kernel.py) of an operand.

# %% [markdown]
# ## What can not be fused?

# %%
for function in [
    lambda x: x - x.sum(),  # the sum of everything, before the first element can be written
    lambda x: np.exp(x).sum(axis=0) + np.exp(x).sum(axis=1),  # folds along different axes
    lambda x: np.exp(x) @ np.exp(x),  # operands of a product come from memory
]:
    print(*(kernel.name for kernel in kernels_of(function, np.zeros((8, 8), np.float32))))
# > sum_sub
# > exp_sum sum_add
# > exp matmul

# %% [markdown]
# **Learned.** The first is one kernel, with a single row that is everything: nothing for a second
# thread to do until the sum is there, but also no second trip. Folding along two axes takes two
# loop nests. A product reads each operand many times, so what it reads is computed once, before.
#
# **In the source.** [`NotFusable`](../minicomp/kernels/lowering.py) carries the reason; look for
# where it is raised.
#
# Next: [one kernel, down to the instructions](04_a_kernel_in_llvm_ir.py).
