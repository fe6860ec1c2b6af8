"""From a program to something that runs: which implementation does each call.

In: a program, the arrays of the first call, a back end. Out: an executable, and per matmul call
site a `selection.Choice`. Loop kernels have one implementation each. A matmul has candidates, its
schedules and the registered externals, among which `selection.choose.select` decides; since it
checks and times them on real operands, the program runs step by step up to each call site.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from math import prod
from typing import Any

import numpy as np

from minicomp.interning import interned
from minicomp.ir import dtype_name
from minicomp.kernels import ConvolutionKernel, LoopKernel, MatmulKernel, ProductKernel, View
from minicomp.kernels.bare_product import bare_product
from minicomp.kernels.indexing import row_major_strides
from minicomp.kernels.laid_out import laid_out
from minicomp.kernels.program import Buffer, Call, Program
from minicomp.kernels.text import expression_text
from minicomp.runtime.backend import Backend, Executable
from minicomp.runtime.steps import ArrayView, CompiledKernel, ExternalStep, KernelStep, RunStep
from minicomp.runtime.stepwise import epilogue_of
from minicomp.selection.candidates import Candidate, Choice
from minicomp.selection.choose import Selector
from minicomp.selection.externals import External, call_external
from minicomp.selection.site import CallSite, Operands


@dataclass(eq=False)
class _Implementation:
    """One way to do a matmul call, as steps that are made (and compiled) when first needed."""

    name: str
    make_steps: Callable[[], list[RunStep]]
    external: External | None = None
    bound: list[Callable[[], None]] = field(default_factory=list)  # the steps, ready to be timed

    @cached_property
    def steps(self) -> list[RunStep]:
        return self.make_steps()


class Assembler:
    """Decides on the calls of one program, in order. `assemble` is the entry point."""

    def __init__(
        self,
        program: Program,
        arrays: Sequence[Any],
        externals: Sequence[External],
        selector: Selector,
        backend: Backend,
    ):
        self.program, self.backend = program, backend
        self.externals, self.selector = externals, selector
        self.steps: list[RunStep] = []
        self.extra: list[Buffer] = []
        self.choices: list[Choice] = []
        self.run = backend.stepwise(program, arrays, self.extra)
        self.forms: dict[tuple[int, Any], int] = {}  # (constant, form) -> its buffer
        self.executed = 0  # how many of the steps the run has done

    def assemble(self) -> Executable:
        """The executable; `choices` then has the choice made at each matmul, in order."""
        for call in self.program.calls:
            if isinstance(call.kernel, LoopKernel):
                self.steps.append(KernelStep(self.backend.loop_kernel(call.kernel), call.buffers))
            else:
                self.steps += self._matmul(call, call.kernel)
        return self.backend.executable(self.program, *self._compacted())

    def _compacted(self) -> tuple[list[Buffer], list[RunStep]]:
        """The extra buffers that the chosen implementations use, and the steps with these
        renumbered: what was tried and not chosen leaves no trace in the code."""
        own = len(self.program.buffers)
        used = dict.fromkeys(n for step in self.steps for n in step.buffers if n >= own)
        renumbered = {old: own + position for position, old in enumerate(used)}
        steps = [step.renumbered(renumbered) for step in self.steps]
        return [self.extra[old - own] for old in used], steps

    # --- one matmul ---

    def _matmul(self, call: Call, kernel: ProductKernel) -> list[RunStep]:
        """Let selection choose among the implementations of one product."""
        matrices = self._matrices(call, kernel)
        site = call_site(call, kernel, matrices)
        plans = self.backend.schedules(kernel)
        implementations = [self._codegen(call, kernel, schedule) for schedule in plans]
        implementations += [self._external(matrices, site, e) for e in self.externals]
        candidates = [
            Candidate(
                implementation.name,
                run=partial(self._run, implementation),
                prepare=partial(self._prepare, implementation),
                external=implementation.external,
            )
            for implementation in implementations
        ]
        operands = OperandsAtHand(self, call, matrices)
        choice = self.selector.select(site, operands, candidates)
        self.choices.append(choice)
        chosen = implementations[choice.index].steps
        self._forget_forms(chosen)
        return chosen

    def _forget_forms(self, chosen: Sequence[RunStep]) -> None:
        """Let go of the constants in forms that only candidates which were not chosen want."""
        used = {number for step in (*self.steps, *chosen) for number in step.buffers}
        for key, number in list(self.forms.items()):
            if number not in used:
                del self.forms[key]
                self.run.memory.pop(number, None)
                position = number - len(self.program.buffers)
                self.extra[position] = replace(self.extra[position], array=None)

    def _prepare(self, implementation: _Implementation) -> None:
        """Compile all that the implementation needs."""
        for step in implementation.steps:
            if isinstance(step, KernelStep):
                step.kernel.prepare()

    def _run(self, implementation: _Implementation) -> None:
        if not implementation.bound:
            implementation.bound = [self.run.bound(step) for step in implementation.steps]
        for run in implementation.bound:
            run()

    def catch_up(self) -> None:
        """Run the steps decided on so far, so that memory holds what the next one reads."""
        for step in self.steps[self.executed :]:
            self.run.execute(step)
        self.executed = len(self.steps)

    def _codegen(self, call: Call, kernel: ProductKernel, schedule: Any) -> _Implementation:
        def make_steps() -> list[RunStep]:
            compiled = self.backend.matmul_kernels(kernel, schedule)
            size = max(each.workspace for each in compiled)
            extra: tuple[int, ...] = ()
            if size:
                workspace = Buffer("workspace", "workspace", "bool", (size,), size)
                extra = (self._add_buffer(workspace),)
            return [KernelStep(each, (*self._buffers(call, each), *extra)) for each in compiled]

        return _Implementation(schedule.label, make_steps)

    def _buffers(self, call: Call, compiled: CompiledKernel) -> Iterator[int]:
        """The call's buffers, with a constant in the form that the kernel wants it in."""
        forms = dict(compiled.constant_forms)
        for position, number in enumerate(call.buffers):
            form = forms.get(position)
            yield number if form is None else self._formed(number, form)

    def _formed(self, number: int, form: Callable[[np.ndarray], np.ndarray]) -> int:
        """The buffer of a constant in another form, made once for all kernels that want it. Other
        programs with the same constant share its memory."""
        if (number, form) not in self.forms:
            constant = self.program.buffers[number]
            assert constant.array is not None
            array = interned(form(constant.array))
            name, dtype = f"{constant.name}_packed", dtype_name(array.dtype)
            packed = Buffer(name, "constant", dtype, array.shape, array.size, array=array)
            self.forms[number, form] = self._add_buffer(packed)
        return self.forms[number, form]

    def _matrices(self, call: Call, kernel: ProductKernel) -> _Matrices:
        """The product as one of matrices in memory: what an external is given."""
        if isinstance(kernel, MatmulKernel):
            return _Matrices(call, kernel, *operand_views(call, kernel))
        split, filters = laid_out(kernel), kernel.filters
        added = [
            self._add_buffer(Buffer(new.name, "temporary", new.dtype, (new.size,), new.size))
            for new in split.added
        ]
        call = replace(call, kernel=split.product, buffers=(*call.buffers, *added))
        k, n = kernel.depth, kernel.filter.extent
        m = prod(loop.extent for loop in (kernel.image, kernel.y, kernel.x))
        a = View(split.product.a.buffer, 0, (), k, 1)
        dtype = kernel.accumulate
        left = ArrayView.of(a, call.buffers[a.buffer], dtype, (m, k))
        right = ArrayView.of(filters, call.buffers[filters.buffer], dtype, (k, n))
        return _Matrices(call, split.product, left, right, split.copies)

    def copy_steps(self, matrices: _Matrices) -> list[RunStep]:
        """What makes the matrices, where the call itself does without them."""
        buffers = matrices.call.buffers
        return [KernelStep(self.backend.loop_kernel(c), buffers) for c in matrices.copies]

    def _external(self, matrices: _Matrices, site: CallSite, external: External) -> _Implementation:
        """The external's product, into the call's own output where nothing follows, else into a
        buffer that the epilogue, as one kernel, reads."""
        call, kernel, a, b = matrices.call, matrices.kernel, matrices.a, matrices.b

        def make_steps() -> list[RunStep]:
            run = partial(call_external, external, site)
            in_order = not kernel.has_epilogue and not matrices.copies
            if in_order and _is_whole(call, self.program):
                return [ExternalStep(external.name, run, a, b, self._whole_output(call, site))]
            bare, epilogue = bare_product(kernel)
            product = self._add_buffer(_product_buffer(bare, site))
            out = ArrayView(
                product, site.product_dtype, 0, site.product_shape,
                row_major_strides(site.product_shape), readonly=False,
            )  # fmt: skip
            rest = KernelStep(self.backend.loop_kernel(epilogue), (product, *call.buffers))
            product_step = ExternalStep(external.name, run, a, b, out)
            return [*self.copy_steps(matrices), product_step, rest]

        return _Implementation(external.name, make_steps, external)

    def _whole_output(self, call: Call, site: CallSite) -> ArrayView:
        (stored,) = call.cluster.stored
        place = self.program.placements[stored]
        strides = row_major_strides(site.product_shape)
        return ArrayView(place.buffer, stored.dtype, 0, site.product_shape, strides, readonly=False)

    def _add_buffer(self, buffer: Buffer) -> int:
        self.extra.append(buffer)
        return len(self.program.buffers) + len(self.extra) - 1


@dataclass(frozen=True, eq=False)
class _Matrices:
    """A call's product as one of two matrices (or of batches of them) in memory, and the kernels
    that copy operands there first, where they are no matrices yet."""

    call: Call
    kernel: MatmulKernel
    a: ArrayView
    b: ArrayView
    copies: tuple[LoopKernel, ...] = ()


class OperandsAtHand(Operands):
    """The arrays of a call site, made when selection first looks at them: where nothing is
    compared nothing before the site needs to run."""

    def __init__(self, assembler: Assembler, call: Call, matrices: _Matrices):
        self._assembler, self._call, self._matrices = assembler, call, matrices

    @cached_property
    def _views(self) -> tuple[Any, Any]:
        self._assembler.catch_up()
        run = self._assembler.run
        for step in self._assembler.copy_steps(self._matrices):
            run.execute(step)
        return run.view(self._matrices.a), run.view(self._matrices.b)

    @property
    def a(self) -> Any:
        return self._views[0]

    @property
    def b(self) -> Any:
        return self._views[1]

    @cached_property
    def output(self) -> Any:
        (stored,) = self._call.cluster.stored
        return self._assembler.run.placed(stored)

    @cached_property
    def epilogue(self) -> Callable[[np.ndarray], np.ndarray] | None:
        return epilogue_of(self._assembler.run, self._call.cluster)


def call_site(call: Call, kernel: ProductKernel, matrices: _Matrices) -> CallSite:
    """The selection's description of a matmul call."""
    product = call.cluster.matmul
    assert product is not None
    a, b = matrices.a, matrices.b
    return CallSite(
        "matmul",
        shapes=(a.shape, b.shape),
        strides=(a.strides, b.strides),
        dtypes=(product.operands[0].dtype, product.operands[1].dtype),
        device=product.device,
        epilogue=expression_text(kernel.store.scalar) if kernel.has_epilogue else "",
        windows=str(kernel.images) if isinstance(kernel, ConvolutionKernel) else "",
        location=product.location,
    )


def operand_views(call: Call, kernel: MatmulKernel) -> tuple[ArrayView, ArrayView]:
    """Both operands as arrays over the program's buffers, of the product's batch shape."""
    batch = tuple(loop.extent for loop in kernel.batch)
    m, n, k = kernel.row.extent, kernel.column.extent, kernel.depth

    def view(side: View, shape: tuple[int, ...]) -> ArrayView:
        dtype = kernel.arguments[side.buffer].dtype
        return ArrayView.of(side, call.buffers[side.buffer], dtype, (*batch, *shape))

    return view(kernel.a, (m, k)), view(kernel.b, (k, n))


def _is_whole(call: Call, program: Program) -> bool:
    """Whether the call's result is a contiguous buffer of its own: then an external may write
    straight into it."""
    (stored,) = call.cluster.stored
    place = program.placements[stored]
    return place.size == stored.size and place.offset == 0


def _product_buffer(bare: MatmulKernel, site: CallSite) -> Buffer:
    argument = bare.arguments[bare.store.buffer]
    return Buffer("product", "temporary", argument.dtype, site.product_shape, argument.size)
