"""A builder of PTX with the feel of llvmlite's IRBuilder: methods are named after instructions.

In: calls, in the order of execution. Out: the text of a module with one kernel, with declarations,
the lowest `.version` and `.target` that its instructions need, and comments for who reads it.

>>> builder = PTXBuilder("double", ["x"], block=(32, 1, 1))
>>> (x,) = builder.pointers
>>> address = builder.mad_wide(builder.special("tid.x"), 4, x)
>>> value = builder.load("global", "f32", address)
>>> builder.store("global", "f32", address, builder.add(value, value))
>>> print(builder.text())      # ...
    ld.global.f32 %f1, [%rd3];
    add.rn.f32 %f2, %f1, %f1;
    st.global.f32 [%rd3], %f2;

Registers are typed (`ptx_types.Register`) and an instruction takes its type from its operands;
Python numbers are literals. Unlike LLVM's values registers are variables: `assign` writes one
again, which is how loops count and accumulate.

Every floating-point operation names its rounding. Without it the assembler may contract a
multiplication and an addition into one fma, which rounds otherwise (PTX ISA, "add", "mul").
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from minicomp.codegen.ptx_instructions import Instructions
from minicomp.codegen.ptx_kernel import Dimensions
from minicomp.codegen.ptx_types import CLASSES, Operand, Register, text_of

#: What a name may not contain.
_UNUSUAL = re.compile(r"[^A-Za-z0-9_]")
#: Names that mean something else: numbered registers, special registers; and what is no name.
_TAKEN = re.compile(
    r"(p|h|r|rd|f|fd)\d+|n?tid|n?ctaid|n?warpid|n?smid|laneid|gridid|n?clusterid|cluster_\w+"
    r"|lanemask_\w+|clock\w*|globaltimer\w*|pm\d+\w*|envreg\d+|\w+_smem_\w+|WARP_SZ|([^A-Za-z]\w*)?"
)


def _identifier(name: str) -> str:
    """`name` as PTX takes it for a register, a parameter or a label."""
    name = _UNUSUAL.sub("_", name)
    return f"v_{name}" if _TAKEN.fullmatch(name) else name


class PTXBuilder(Instructions):
    """One kernel under construction; see the module's docstring and `ptx_instructions`.

    `arguments` names the kernel's pointers, which `pointers` holds as addresses in global
    memory. `block` is the launch's block size in threads: the assembler may then give each
    thread as many registers as fit. `comment` stands above the kernel, line by line.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        block: Dimensions = (0, 0, 0),
        *,
        blocks_per_multiprocessor: int = 0,
        comment: str = "",
    ):
        self.name, self.block, self.comment_above = name, block, comment
        self.blocks_per_multiprocessor = blocks_per_multiprocessor
        self.version, self.target = (7, 0), "sm_80"
        self.lines: list[str] = []
        self.counts: dict[str, int] = {}  # registers of each class, numbered from 1
        self.named: dict[str, list[str]] = {}
        # How often a name or label has been asked for. The entry's is no parameter's: the assembler
        # in CUDA's driver (580.159) crashes on that where it puts in a function of its own, as for
        # the division of float64.
        self.taken: dict[str, int] = {name: 0}
        self.shared: list[str] = []
        self.guards: list[str] = []
        self.arguments = [self._unique(_identifier(argument)) for argument in arguments]
        self.pointers = [self._argument(argument) for argument in self.arguments]

    def _argument(self, name: str) -> Register:
        generic = self.instruction("ld.param.u64", "u64", f"[{name}]")
        return self.instruction("cvta.to.global.u64", "u64", generic, name=name)

    def _unique(self, name: str) -> str:
        count = self.taken[name] = self.taken.get(name, -1) + 1
        # The name with a number may itself have been asked for.
        return self._unique(f"{name}_{count}") if count else name

    # --- registers and shared memory ---

    def register(self, kind: str, name: str = "") -> Register:
        """A new register; a name makes the text easier to read and need not be unique."""
        declared, prefix = CLASSES[kind]
        if name:
            unique = self._unique(f"%{_identifier(name)}")
            self.named.setdefault(declared, []).append(unique)
            return Register(unique, kind)
        number = self.counts[prefix] = self.counts.get(prefix, 0) + 1
        return Register(f"%{prefix}{number}", kind)

    def shared_array(self, name: str, nbytes: int, alignment: int = 16) -> str:
        """Static shared memory of the block: a symbol that stands for its address."""
        symbol = self._unique(name)
        self.shared.append(f".shared .align {alignment} .b8 {symbol}[{nbytes}];")
        return symbol

    def dynamic_shared(self, name: str = "dynamic", alignment: int = 128) -> str:
        """The shared memory that the launch asks for (`PTXKernel.shared_bytes`)."""
        symbol = self._unique(name)
        self.shared.append(f".extern .shared .align {alignment} .b8 {symbol}[];")
        return symbol

    def require(self, version: tuple[int, int], target: str = "sm_80") -> None:
        """What follows needs this version of PTX and this GPU at least."""
        self.version = max(self.version, version)
        self.target = max(self.target, target)  # "sm_80" < "sm_90" < "sm_90a", as text too

    # --- lines of text ---

    def instruction(
        self, opcode: str, result: str | None, *operands: Operand | str, name: str = ""
    ) -> Register:
        """Any instruction, written out: its opcode with all suffixes, the type of its result (None
        if it has none) and its operands. Literals are written in the opcode's last type."""
        kind = opcode.rpartition(".")[2]
        texts = [text_of(operand, kind) for operand in operands]
        destination = Register("", "pred")
        if result is not None:
            destination = self.register(result, name)
            texts.insert(0, destination.name)
        self.emit(f"{opcode} {', '.join(texts)}".rstrip())
        return destination

    def emit(self, text: str) -> None:
        """One instruction as text, under the guards in force."""
        guard = f"@{self.guards[-1]} " if self.guards else ""
        self.lines.append(f"    {guard}{text};")

    def comment(self, text: str) -> None:
        self.lines += [f"    // {line}" for line in text.splitlines()]

    def new_label(self, name: str) -> str:
        return self._unique(f"${name}")

    def place(self, label: str) -> None:
        """The next instruction is where `label` leads."""
        self.lines.append(f"{label}:")

    # --- control ---

    @contextmanager
    def when(self, condition: Register, *, unless: bool = False) -> Iterator[None]:
        """Each instruction inside is done by the threads alone for which `condition` holds (with
        `unless`: does not). No branch: for a few instructions. Guards do not nest."""
        assert not self.guards, "an instruction has one guard: combine the conditions"
        self.guards.append(f"!{condition}" if unless else str(condition))
        yield
        self.guards.pop()

    @contextmanager
    def if_then(self, condition: Register, *, unless: bool = False) -> Iterator[None]:
        """What is inside is skipped by threads for which `condition` does not hold."""
        done = self.new_label("endif")
        self.bra(done, condition, unless=not unless)
        yield
        self.place(done)

    @contextmanager
    def counted_loop(
        self, name: str, start: Operand, stop: Operand, step: Operand, kind: str = "u32"
    ) -> Iterator[Register]:
        """for name = start; name < stop; name += step. Yields the counter.

        The test is at the end, one jump a round; one before the loop only where the bounds are not
        known to allow a round.
        """
        counter = self.register(kind, name)
        self.assign(counter, start)
        head, done = self.new_label(f"{name}_loop"), self.new_label(f"{name}_done")
        is_entered = isinstance(start, int) and isinstance(stop, int) and start < stop
        if not is_entered:
            self.bra(done, self.setp("ge", counter, stop))
        self.place(head)
        yield counter
        self.emit(f"add.{kind} {counter}, {counter}, {step}")
        self.bra(head, self.setp("lt", counter, stop))
        if not is_entered:
            self.place(done)

    # --- the text ---

    def text(self) -> str:
        """The module. The kernel ends with `ret`, which is added."""
        header = [f".version {self.version[0]}.{self.version[1]}", f".target {self.target}",
                  ".address_size 64", ""]  # fmt: skip
        dynamic = [line for line in self.shared if line.startswith(".extern")]
        static = [f"    {line}" for line in self.shared if not line.startswith(".extern")]
        parameters = ",\n".join(f"    .param .u64 {argument}" for argument in self.arguments)
        lines = [
            *header,
            *dynamic,
            *(f"// {line}".rstrip() for line in self.comment_above.splitlines()),
            f".visible .entry {self.name}(",
            parameters,
            f"){self._launch_bounds()}",
            "{",
            *self._declarations(),
            *static,
            "",
            *self.lines,
            "    ret;",
            "}",
        ]
        # PTX is ASCII; in a comment there may be a name of the user's that is not.
        return ("\n".join(lines) + "\n").encode("ascii", "backslashreplace").decode()

    def _launch_bounds(self) -> str:
        bounds = ""
        if any(self.block):
            bounds += "\n.reqntid " + ", ".join(map(str, self.block))
        if self.blocks_per_multiprocessor:
            bounds += f"\n.minnctapersm {self.blocks_per_multiprocessor}"
        return bounds

    def _declarations(self) -> list[str]:
        declared = {prefix: kind for kind, prefix in CLASSES.values()}
        lines = [
            f"    .reg .{declared[prefix]} %{prefix}<{count + 1}>;"
            for prefix, count in self.counts.items()
        ]
        for kind, names in self.named.items():
            for start in range(0, len(names), 6):
                lines.append(f"    .reg .{kind} {', '.join(names[start : start + 6])};")
        return lines
