"""Kernels as text, for people: what `MINICOMP_DEBUG=kernels` and the tutorials print.

>>> print(kernel)
kernel exp_mul(x: f32[128], out: f32[128] written)
  for o0 in 128:  # parallel
    out[o0] = mul(exp(x[o0]), 2.0)

A subexpression that is used more than once gets a name where it is first needed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from minicomp.ir import short_dtype
from minicomp.kernels import Argument, Literal, Load, LoopKernel, MatmulKernel, Scalar, Store, Sweep
from minicomp.kernels.convolution import ConvolutionKernel


def loop_kernel_text(kernel: LoopKernel) -> str:
    """See `kernels` for an example."""
    lines = [_signature(kernel.name, kernel.arguments)]
    indent = "  "
    for variable in kernel.outer:
        lines.append(f"{indent}for {variable.name} in {variable.extent}:  # parallel")
        indent += "  "
    buffers = [*kernel.arguments, *kernel.scratch]
    for row in kernel.scratch:
        lines.append(f"{indent}row {row.name}: {short_dtype(row.dtype)}[{row.size}]")
    for sweep in kernel.sweeps:
        inside = indent
        if kernel.inner:
            loops = ", ".join(f"{v.name} in {v.extent}" for v in kernel.inner)
            lines.append(f"{indent}sweep {loops}:")
            inside += "  "
        lines += [inside + line for line in _sweep_lines(sweep, buffers)]
    lines += [indent + line for line in _store_lines(kernel.row_stores, buffers)]
    return "\n".join(lines)


def matmul_kernel_text(kernel: MatmulKernel) -> str:
    """The product, its views, and the epilogue."""
    lines = [_signature(kernel.name, kernel.arguments)]
    loops = ", ".join(f"{v.name} in {v.extent}" for v in (*kernel.batch, kernel.row, kernel.column))
    lines.append(f"  for {loops}:  # parallel")
    for side, view in (("a", kernel.a), ("b", kernel.b)):
        name = kernel.arguments[view.buffer].name
        strides = (*view.batch_strides, view.row_stride, view.column_stride)
        lines.append(f"    {side} = {name} from {view.offset}, strides {strides}")
    kind = short_dtype(kernel.accumulate)
    lines.append(f"    product = sum over k in {kernel.depth} of a[.., k] * b[k, ..]  # {kind}")
    lines += ["    " + line for line in _store_lines([kernel.store], kernel.arguments)]
    return "\n".join(lines)


def convolution_kernel_text(kernel: ConvolutionKernel) -> str:
    """The windows, the filters, and the epilogue; see `kernels.convolution` for an example."""
    images, filters = kernel.images, kernel.filters
    names = [kernel.arguments[view.buffer].name for view in (images, filters)]
    loops = ", ".join(f"{loop.name} in {loop.extent}" for loop in kernel.loops)
    windows, *axes = str(images).split("; ")
    strides = (filters.row_stride, filters.column_stride)
    kind = short_dtype(kernel.accumulate)
    lines = [
        _signature(kernel.name, kernel.arguments),
        f"  for {loops}:  # parallel",
        f"    a = {names[0]} from {images.offset}: {windows}",
        *(f"      {axis}" for axis in axes),
        f"    b = {names[1]} from {filters.offset}, strides {strides}",
        f"    product = sum over k in {kernel.depth} of a[.., k] * b[k, ..]  # {kind}",
    ]
    lines += ["    " + line for line in _store_lines([kernel.store], kernel.arguments)]
    return "\n".join(lines)


def expression_text(scalar: Scalar) -> str:
    """An expression on one line, what occurs in it more than once first and once:
    `t0 = exp(x[n]); mul(t0, t0)`."""
    lines: list[str] = []
    text = _Names([scalar]).text(scalar, lines)
    return "; ".join([*lines, text])


def _signature(name: str, arguments: Iterable[Argument]) -> str:
    inside = ", ".join(
        f"{a.name}: {short_dtype(a.dtype)}[{a.size}]{' written' if a.written else ''}"
        for a in arguments
    )
    return f"kernel {name}({inside})"


def _sweep_lines(sweep: Sweep, buffers: list[Argument]) -> list[str]:
    names = _Names([r.scalar for r in sweep.reductions] + [s.scalar for s in sweep.stores])
    lines: list[str] = []
    for reduction in sweep.reductions:
        text = names.text(reduction.scalar, lines)
        lines.append(f"r{reduction.number} = {reduction.op} {text}")
    for store in sweep.stores:
        text = names.text(store.scalar, lines)
        lines.append(f"{buffers[store.buffer].name}[{store.index}] = {text}")
    return lines


def _store_lines(stores: Iterable[Store], buffers: Iterable[Argument]) -> list[str]:
    return _sweep_lines(Sweep((), tuple(stores)), list(buffers))


class _Names:
    """Names for the subexpressions that occur more than once in some roots."""

    def __init__(self, roots: Iterable[Scalar]):
        self.uses: Counter[int] = Counter()
        self.names: dict[int, str] = {}
        stack = list(roots)
        while stack:
            scalar = stack.pop()
            self.uses[id(scalar)] += 1
            if self.uses[id(scalar)] == 1:
                stack.extend(scalar.operands_())

    def text(self, scalar: Scalar, lines: list[str]) -> str:
        """The expression, having added to `lines` the definitions that it needs."""
        if id(scalar) in self.names:
            return self.names[id(scalar)]
        operands = [self.text(operand, lines) for operand in scalar.operands_()]
        if not operands:
            return str(scalar)
        op = getattr(scalar, "op", "")
        name = f"cast_{short_dtype(scalar.dtype)}" if op == "cast" else op
        text = f"{name}({', '.join(operands)})"
        if self.uses[id(scalar)] > 1 and not isinstance(scalar, Literal | Load):
            self.names[id(scalar)] = f"t{len(self.names)}"
            lines.append(f"{self.names[id(scalar)]} = {text}")
            return self.names[id(scalar)]
        return text
