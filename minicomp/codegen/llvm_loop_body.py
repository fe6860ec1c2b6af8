"""What happens to one element, or one vector of them, inside a loop kernel's loops.

In: a kernel and an emitter that stands somewhere in the loop nest. Out: the instructions of a
sweep at that place: fold, then store. Nothing is computed more often than it changes:

    before a row's loop    what is the same for the whole row: a mean, one over a deviation
    for the first row      what is the same for the rows side by side: a weight, a bias
    for each element       the rest

`Known` carries handles from the place where they are computed to those where they are used.
"""

from __future__ import annotations

from llvmlite import ir

from minicomp.codegen.llvm_emitter import LLVMEmitter
from minicomp.codegen.llvm_reduce import Accumulators
from minicomp.codegen.scalar import ScalarVisitor
from minicomp.kernels import Apply, Literal, Load, LoopKernel, Reduction, Scalar, Sweep
from minicomp.kernels.indexing import Index, row_major_strides
from minicomp.kernels.varying import Varying
from minicomp.kernels.walk import sweep_roots, walk

#: Handles of finished reductions, by number (see `ScalarVisitor`).
Bound = dict[int | str, ir.Value]
#: Handles of scalars that have been evaluated, by their identity.
Known = dict[int, ir.Value]


class LoopBody:
    """See the module's docstring."""

    def __init__(self, kernel: LoopKernel, emitter: LLVMEmitter):
        self.kernel, self.emitter = kernel, emitter
        reductions = [r for sweep in kernel.sweeps for r in sweep.reductions]
        scans = {r.number for r in reductions if r.op == "cumsum"}
        self._varies_in_row = Varying(kernel.inner, scans)
        self._varies_between_rows = _BetweenRows(kernel)
        strides = row_major_strides([variable.extent for variable in kernel.inner])
        self._position = Index()
        for variable, stride in zip(kernel.inner, strides, strict=True):
            self._position = self._position + Index.of(variable) * stride

    def uniform(self, sweep: Sweep, bound: Bound) -> Known:
        """What a sweep uses that is the same for all of a row, evaluated at the current point."""
        visit = self._visitor(bound, {})
        if self.kernel.row_size:  # else what it would load may not be there
            for scalar in walk(sweep_roots(sweep)):
                if not self._varies_in_row(scalar) and not isinstance(scalar, Literal):
                    visit(scalar)
        return visit.done

    def element(
        self, sweep: Sweep, bound: Bound, accumulators: Accumulators, copy: int, known: Known
    ) -> Known:
        """Fold, then store, at the current point. Gives what holds for the same place of the
        rows side by side as well."""
        running: Bound = dict(bound)
        visit = self._visitor(running, known)
        for reduction in sweep.reductions:
            # A scan's running value is used right here.
            running[reduction.number] = self._fold(reduction, accumulators, copy, visit)
        for store in sweep.stores:
            self.emitter.store(store.buffer, store.index, visit(store.scalar))
        scalars = walk(sweep_roots(sweep))
        shared = (id(s) for s in scalars if not self._varies_between_rows(s))
        return {key: visit.done[key] for key in shared if key in visit.done}

    def evaluated(self, scalar: Scalar) -> ir.Value:
        """A scalar without reductions at the current point."""
        return self._visitor({}, {})(scalar)

    def store_row(self, bound: Bound, known: Known | None = None) -> None:
        """What follows the sweeps, once a row; some scalars may be known."""
        visit = self._visitor(bound, known or {})
        for store in self.kernel.row_stores:
            self.emitter.store(store.buffer, store.index, visit(store.scalar))

    def _fold(
        self, reduction: Reduction, accumulators: Accumulators, copy: int, visit: ScalarVisitor
    ) -> ir.Value:
        if reduction.op == "cumsum" and self.emitter.vector in self.kernel.inner:
            return accumulators.scan(reduction, visit(reduction.scalar))
        root = squared(reduction)
        if root is not None and self.emitter.has_avx512:
            return accumulators.fold_square(reduction, copy, visit(root))
        return accumulators.fold(reduction, copy, visit(reduction.scalar), self._position)

    def _visitor(self, bound: Bound, known: Known) -> ScalarVisitor:
        visit = ScalarVisitor(self.emitter, bound)
        visit.done.update(known)
        self.emitter.visitor = visit
        return visit


class _BetweenRows(Varying):
    """Whether a scalar may differ from one row to another at the same inner iteration."""

    def __init__(self, kernel: LoopKernel):
        super().__init__(kernel.outer, {r.number for s in kernel.sweeps for r in s.reductions})
        self.shared_buffers = len(kernel.arguments)

    def _varies(self, scalar: Scalar) -> bool:
        if isinstance(scalar, Load) and scalar.buffer >= self.shared_buffers:
            return True  # scratch, of which each row has its own
        return super()._varies(scalar)


def squared(reduction: Reduction) -> Scalar | None:
    """x, where the reduction is a float sum of x * x.

    Then a fused multiply-add folds it, with one rounding less. In other products' sums the two
    would differ where a product overflows that the sum so far makes up for.
    """
    match reduction.op, reduction.scalar:
        case "sum", Apply(op="mul", dtype="float32" | "float64", operands=(a, b)) if a is b:
            return a
    return None
