# %% [markdown]
# # 2. The tensor IR and its meaning
#
# The graph of chapter 1 is the compiler's *intermediate representation*, or IR: everything after
# the tracer works on it. An IR needs three things: a form that can be looked at, a meaning that
# cannot be argued with, and rules that say which graphs are allowed.

# %% [markdown]
# ## What is in a graph?

# %%
import textwrap

import numpy as np

import minicomp


def distance(x, y):
    difference = x - y
    return np.sqrt((difference * difference).sum(axis=1))


x, y = np.zeros((2, 4, 3), np.float32)  # two arrays of shape (4, 3)
graph = minicomp.trace(distance, x, y)
for value in graph:
    sources = ", ".join(x.op for x in value.operands)
    print(f"{value.op}({sources}) : {value.type}  # {value.location}")
print("the attributes of", graph.values[4], "are", graph.values[4].attributes)
# > input() : f32[4,3]  # 02_the_ir.py:25
# > input() : f32[4,3]  # 02_the_ir.py:25
# > sub(input, input) : f32[4,3]  # 02_the_ir.py:20
# > mul(sub, sub) : f32[4,3]  # 02_the_ir.py:21
# > sum(mul) : f32[4]  # 02_the_ir.py:21
# > sqrt(sum) : f32[4]  # 02_the_ir.py:21
# > the attributes of <sum: f32[4]> are {'axes': (1,), 'keepdims': False}

# %% [markdown]
# **Learned.** A value is five things: an op, the values it is computed from, attributes known while
# compiling, a type, and the line of yours that made it. The line is what lets an error in the
# depths of the compiler talk about your file. A value is never changed: whoever wants another graph
# builds one.
#
# **In the source.** [`Value`](../minicomp/ir/graph.py) and [`Graph`](../minicomp/ir/graph.py), both
# frozen dataclasses; the ops are the rows of [`OPS`](../minicomp/ir/ops.py).

# %% [markdown]
# ## Is the printed text the whole graph?

# %%
text = str(graph)
print(text)
print("the same graph:", minicomp.parse(text) == graph)

by_hand = minicomp.parse("""
graph double(%x: f32[3]) {
  %0 = add(%x, %x) : f32[3]
  return %0
}""")
print(minicomp.interpret(by_hand, np.array([1, 2, 3], np.float32)))
# > graph distance(%x: f32[4,3], %y: f32[4,3]) {
# >   %0 = sub(%x, %y) : f32[4,3]
# >   %1 = mul(%0, %0) : f32[4,3]
# >   %2 = sum(%1) {axes=[1], keepdims=false} : f32[4]
# >   %3 = sqrt(%2) : f32[4]
# >   return %3
# > }
# > the same graph: True
# > [2. 4. 6.]

# %% [markdown]
# **Learned.** Printing and parsing are inverse: text is a full form of the IR. That is worth much.
# A test of a pass is two pieces of text; a graph that went wrong can be pasted into a bug report;
# and you can write graphs that no tracer would ever make.
#
# **In the source.** [`graph_text`](../minicomp/ir/text.py) prints,
# [`parse_graph`](../minicomp/ir/parser.py) reads; the grammar stands at the top of
# [minicomp/ir/text.py](../minicomp/ir/text.py).

# %% [markdown]
# ## What does a graph mean?

# %%
from minicomp.ir.ops import OPS

a = np.array([[3, 4, 0]], np.float32)
b = np.zeros((1, 3), np.float32)
results = {}
graph = minicomp.trace(distance, a, b)
arguments = iter([a, b])
for value in graph:
    if value.op == "input":
        results[value] = next(arguments)
    else:
        operands = [results[x] for x in value.operands]
        results[value] = OPS[value.op].compute(*operands, **value.attributes)
print(results[graph.outputs[0]], "=", minicomp.interpret(graph, a, b))
# > [5.] = [5.]

# %% [markdown]
# **Learned.** That loop is an interpreter: the row of each op has its meaning as a NumPy function,
# and a graph means what comes out when they are called in order. The interpreter is slow and so
# simple that it is believed; every pass and every kernel of minicomp is tested against it.
#
# **In the source.** [`interpret`](../minicomp/ir/interpreter.py) is that loop with its checks; what
# NumPy does not have, such as `erf`, is in [minicomp/ir/meaning.py](../minicomp/ir/meaning.py).

# %% [markdown]
# ## Who works out the types?

# %%
from minicomp.ir.ops import make

left = make("input", (), {"name": "left", "type": minicomp.TensorType((4, 8), "float32")})
right = make("input", (), {"name": "right", "type": minicomp.TensorType((8, 2), "float32")})
print(make("matmul", (left, right)))
print(make("sum", (left,), {"axes": (0,), "keepdims": True}))
for operands in [(right, left), (left, make("cast", (right,), {"dtype": "float64"}))]:
    try:
        make("matmul", operands)
    except minicomp.errors.MinicompError as error:
        print(textwrap.fill(f"{type(error).__name__}: {error}", 90))
# > <matmul: f32[4,2]>
# > <sum: f32[1,8]>
# > ShapeError: matmul: inner sizes differ, (8, 2) @ (4, 8)
# > DTypeError: matmul: dtypes differ, float32 @ float64; cast one of them

# %% [markdown]
# **Learned.** Every row has a type rule: the operands' types in, the result's type out, or an error
# that says what does not fit. The tracer, the passes and the parser all make values with `make`, so
# that no other place needs to know shapes. Unlike NumPy the rules are strict: one dtype, one shape;
# what NumPy would convert silently stands in the graph as `cast` and `broadcast`.
#
# **In the source.** [`make`](../minicomp/ir/ops.py) and [`matmul`](../minicomp/ir/type_rules.py),
# the type rule.

# %% [markdown]
# ## What if somebody builds a graph that breaks the rules?

# %%
from dataclasses import replace

from minicomp.ir import Graph, Value
from minicomp.ir.verifier import verify

exp = make("exp", (left,))
wrong_type = replace(exp, type=minicomp.TensorType((4, 9), "float32"))
stray = Value("neg", (right,), {}, right.type)
for values in [(left, wrong_type), (left, exp, stray), (exp, left)]:
    try:
        verify(Graph("f", values, values[-1:]), "my_pass")
    except minicomp.errors.GraphError as error:
        print(textwrap.fill(str(error), 90))
# > after my_pass: %0 = exp(%left) : f32[4,9]: has the type f32[4,9], the table infers
# > f32[4,8]
# > after my_pass: %1 = neg(%undefined) : f32[8,2]: operand 0 (input) is not defined before
# > its use
# > after my_pass: %0 = exp(%left) : f32[4,8]: operand 0 (input) is not defined before its use

# %% [markdown]
# **Learned.** The verifier checks everything that later stages rely on: definition before use, one
# definition each, types as the table infers them. It runs after every pass and names the pass, so
# that a mistake is caught where it is made and not three stages on, as a wrong number.
#
# **In the source.** [`verify`](../minicomp/ir/verifier.py), with the list of rules above it.
#
# Next: [better graphs, and kernels](03_passes_and_fusion.py).
