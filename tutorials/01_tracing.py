# %% [markdown]
# # 1. Tracing: from Python to a graph
#
# A compiler needs to see a computation before it can improve it. minicomp sees it by *tracing*: it
# runs your function once, on stand-ins for arrays that have a shape and a dtype and no numbers, and
# writes down every operation that is done to them.
#
# In these chapters `# >` begins a line that the cell above it prints, with `...` for what differs
# from run to run; `# ~` begins a line of what one machine printed, where yours will print another.

# %% [markdown]
# ## What does the compiler see of a function?

# %%
import textwrap

import numpy as np

import minicomp
from minicomp import nn


def scaled_sum(x, y):
    total = x * 2 + y
    return total.sum(axis=1)


x = np.ones((4, 8), np.float32)
y = np.arange(8, dtype=np.float32)
graph = minicomp.trace(scaled_sum, x, y)
print(graph)
# > graph scaled_sum(%x: f32[4,8], %y: f32[8]) {
# >   %0 = full() {shape=[4,8], value=2.0, dtype=f32} : f32[4,8]
# >   %1 = mul(%x, %0) : f32[4,8]
# >   %2 = broadcast(%y) {shape=[4,8]} : f32[4,8]
# >   %3 = add(%1, %2) : f32[4,8]
# >   %4 = sum(%3) {axes=[1], keepdims=false} : f32[4]
# >   return %4
# > }

# %% [markdown]
# **Learned.** A list of values, each made by one operation from earlier ones. `f32[4,8]` is a type:
# dtype and shape. Python's names are gone; so is broadcasting, which has become an operation of its
# own, and the number 2, which has become a tensor (`full`) of the right shape. (The compiler never
# stores such a tensor: it knows that all its elements are 2.)
#
# **In the source.** [`trace`](../minicomp/tracing/tracer.py) runs the function,
# [`Graph`](../minicomp/ir/graph.py) is the result;
# [`broadcast`](../minicomp/functional/operands.py) and
# [`promote`](../minicomp/functional/operands.py) do what NumPy does silently.

# %% [markdown]
# ## What does the function itself see while it is traced?


# %%
def curious(x):
    y = x + 1
    print("x is", x)
    print("y is", y, "of shape", y.shape)
    return y.reshape(-1)


graph = minicomp.trace(curious, x)
# > x is Tensor(f32[4,8] = input)
# > y is Tensor(f32[4,8] = add) of shape (4, 8)

# %% [markdown]
# **Learned.** A tensor of the trace knows its type and the value of the graph that it stands for.
# The `print` ran once, during the trace; the graph has no `print` in it. Whatever is not an
# operation on tensors happens at tracing time and never again.
#
# **In the source.** [`TensorOperators`](../minicomp/tracing/tensor.py) has Python's operators and
# NumPy's methods; each ends in [`apply`](../minicomp/tracing/record.py), which appends one value to
# the graph.

# %% [markdown]
# ## Do NumPy's own functions trace?


# %%
def soft_step(x):
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


print(minicomp.trace(soft_step, np.ones(8, np.float32)))
print(soft_step(np.array([-1.0, 0.0, 1.0])))
# > graph soft_step(%x: f32[8]) {
# >   %0 = abs(%x) : f32[8]
# >   %1 = neg(%0) : f32[8]
# >   %2 = exp(%1) : f32[8]
# >   %3 = full() {shape=[8], value=0.0, dtype=f32} : f32[8]
# >   %4 = ge(%x, %3) : bool[8]
# >   %5 = full() {shape=[8], value=1.0, dtype=f32} : f32[8]
# >   %6 = add(%5, %2) : f32[8]
# >   %7 = full() {shape=[8], value=1.0, dtype=f32} : f32[8]
# >   %8 = div(%7, %6) : f32[8]
# >   %9 = full() {shape=[8], value=1.0, dtype=f32} : f32[8]
# >   %10 = add(%9, %2) : f32[8]
# >   %11 = div(%2, %10) : f32[8]
# >   %12 = where(%4, %8, %11) : f32[8]
# >   return %12
# > }
# > [0.26894142 0.5        0.73105858]

# %% [markdown]
# **Learned.** NumPy asks its arguments whether they want to handle a call themselves
# (`__array_ufunc__` and `__array_function__`), and a traced tensor does. So the same function runs
# on arrays at once and traces without a change. `1 + e` is there twice, as it is in the source: the
# tracer records, and improving is left to passes (chapter 3).
#
# **In the source.** [`array_ufunc`](../minicomp/tracing/numpy_protocol.py) hands NumPy's functions
# on to minicomp's.

# %% [markdown]
# ## What is an input, what belongs to the module, and what is fixed?


# %%
class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(np.full((8, 2), 0.5, np.float32))

    def forward(self, x, scale):
        return x @ self.weight * scale


layer = Layer()
graph = minicomp.trace(layer, x, 3.0)
print(graph)
print(minicomp.interpret(graph, x)[0])
layer.weight.data[:] = 1.0  # in place: the graph reads the parameter at each run
print(minicomp.interpret(graph, x)[0])
# > graph Layer(%x: f32[4,8], %weight: f32[8,2] parameter) {
# >   %0 = matmul(%x, %weight) : f32[4,2]
# >   %1 = full() {shape=[4,2], value=3.0, dtype=f32} : f32[4,2]
# >   %2 = mul(%0, %1) : f32[4,2]
# >   return %2
# > }
# > [12. 12.]
# > [24. 24.]

# %% [markdown]
# **Learned.** Arrays among the arguments are inputs. Parameters are arrays that the graph reads
# each time it runs, so that a changed weight shows. A Python number is part of the program: for
# another `scale` the function is traced again, which is how one Python function may become several
# graphs, each simpler than one that could do everything.
#
# **In the source.** [`Module`](../minicomp/nn/module.py) names its parameters;
# [`Signature`](../minicomp/tracing/tracer.py) is what a trace depends on: types of arrays, and
# everything else by value.

# %% [markdown]
# ## What can not be traced?


# %%
def loud_if_positive(x):
    if x.sum() > 0:
        return x * 10
    return x


try:
    minicomp.trace(loud_if_positive, x)
except minicomp.errors.ControlFlowError as error:
    print(textwrap.fill(str(error), 90))


def loud_where_positive(x):
    return minicomp.where(x.sum() > 0, x * 10, x)


print(len(minicomp.trace(loud_where_positive, x)), "values")
# > bool() at 01_tracing.py:...: a traced tensor (bool[]) has no numbers while its function is
# > traced, so Python cannot branch on it; choose by data with minicomp.where(condition, a,
# > b), or branch on shapes, dtypes and arguments that are not arrays; in place of `and`,
# > `or`, `not` write &, |, ~, as in (x > 0) & (x < 1) for 0 < x < 1, in place of max() and
# > min() minicomp.maximum and minimum
# > 8 values

# %% [markdown]
# **Learned.** An `if` wants a number now, and there is none. The message has the line, and the way
# out: both sides are computed and `where` picks. An `if` on a shape or on a Python number is fine,
# since those are known, and a Python loop simply leaves its operations in the graph once per round.
#
# **In the source.** [`ControlFlowError`](../minicomp/errors.py) and its siblings; the operators
# that refuse, such as `__bool__`, are in [`Tensor`](../minicomp/tracing/tensor.py);
# [`user_location`](../minicomp/tracing/record.py) finds your line.
#
# Next: [what the graph means](02_the_ir.py).
