"""How a thread of the pool waits and is woken, as LLVM IR; and what the pool's module is made of.

In: the target's architecture, the number of its monotonic clock, and whether the system lets
threads be placed on CPUs as Linux does. Out: a module with

    void wait_while_equal(ptr word, i64 old, i64 index)    # returns once *word is not `old`
    void wake(i64 index)                                   # after changing the word

Waiting is spinning for a short while, then sleeping on a condition variable, one per thread, so
that just the threads that are wanted are woken. pthread's are on every system with threads, and
on Linux they are a futex with a few instructions around it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from llvmlite import ir

from minicomp.codegen.llvm_function import counted_loop
from minicomp.codegen.llvm_placing import cpu_set_type, emit_placing
from minicomp.codegen.llvm_types import i8, i32, i64, literal, pointer, void
from minicomp.codegen.native_plan import MAX_THREADS

# The kernels of a program follow each other within microseconds, the calls of a model often
# within some tens; a sleeping worker takes 5 to 50 us to wake up.
SPIN_NANOSECONDS = 50_000
LOOKS_PER_CLOCK_READING = 16

# Words that different threads write are kept this far apart: two cache lines, since x86 CPUs
# fetch lines in pairs.
LINE = 128
line_type = ir.ArrayType(i64, LINE // 8)

# Enough for a pthread_mutex_t or a pthread_cond_t of Linux (40 to 48 bytes) and macOS (64).
pthread_object_type = ir.ArrayType(i8, 64)
#: A thread's slot: what it sleeps on, whether it does; who it is, the CPU that its last caller
#: was on, those that it may run on, and those that it was last let run on (`llvm_placing`).
SLOT = {
    "mutex": pthread_object_type,
    "condition": pthread_object_type,
    "asleep": line_type,
    "thread": i64,
    "avoided": i64,
    "allowed": cpu_set_type,
    "placed": cpu_set_type,
}

PAUSE = {
    "x86_64": ("llvm.x86.sse2.pause", ()),
    "aarch64": ("llvm.aarch64.hint", (literal(i32, 1),)),  # yield
}


@dataclass(frozen=True)
class Endless:
    """A loop that only branches to `end` leave."""

    start: ir.Block
    end: ir.Block


@contextmanager
def forever(builder: ir.IRBuilder, name: str) -> Iterator[Endless]:
    """An endless loop around what is emitted inside; afterwards the builder stands behind it."""
    # The end is appended after the body, so that the text reads in the order of execution.
    loop = Endless(builder.append_basic_block(name), ir.Block(builder.function, name=f"{name}.end"))
    builder.branch(loop.start)
    builder.position_at_end(loop.start)
    yield loop
    if not builder.block.is_terminated:
        builder.branch(loop.start)
    builder.function.blocks.append(loop.end)
    builder.position_at_end(loop.end)


class WaitingModule:
    """A module with the functions above; `llvm_threads` puts the pool into it.

    Variables that threads share are 64-bit words, read and written by atomic instructions.
    """

    def __init__(self, architecture: str, monotonic_clock: int, places_workers: bool):
        self.module = ir.Module(name="minicomp thread pool", context=ir.Context())
        self.architecture = architecture
        self.monotonic_clock = monotonic_clock
        self.places_workers = places_workers
        slot = self.module.context.get_identified_type("slot")
        slot.set_body(*SLOT.values())
        self.variable("slots", ir.ArrayType(slot, MAX_THREADS))  # where each thread sleeps
        self.variable("parked", i64, linkage="")  # 1: do not spin
        for kind, verbs in (("mutex", ("lock", "unlock")), ("cond", ("signal",))):
            self.declare(f"pthread_{kind}_init", i32, pointer, pointer)
            for verb in verbs:
                self.declare(f"pthread_{kind}_{verb}", i32, pointer)
        self.declare("pthread_cond_wait", i32, pointer, pointer)
        self.declare("clock_gettime", i32, i32, pointer)
        self.emit_nanoseconds()
        self.emit_wait_while_equal()
        if places_workers:
            emit_placing(self)
        self.emit_wake()

    # --- building blocks ------------------------------------------------------------------------

    def variable(self, name: str, kind: ir.Type, linkage: str = "internal") -> None:
        """A variable, zero at first, on lines of its own."""
        variable = ir.GlobalVariable(self.module, kind, name)
        variable.linkage = linkage
        variable.initializer = ir.Constant(kind, None)
        variable.align = LINE

    def declare(self, name: str, returns: ir.Type, *arguments: ir.Type) -> None:
        ir.Function(self.module, ir.FunctionType(returns, arguments), name)

    def define(
        self, name: str, *comments: str, returns: ir.Type = void, **arguments: ir.Type
    ) -> tuple[ir.IRBuilder, list[ir.Value]]:
        """A new function: a builder in its entry block, behind the comments, and its arguments.

        Functions that only the pool calls are internal to the module.
        """
        function = ir.Function(self.module, ir.FunctionType(returns, arguments.values()), name)
        if not name.startswith("minicomp_"):
            function.linkage = "internal"
        for argument, argument_name in zip(function.args, arguments, strict=True):
            argument.name = argument_name
        builder = ir.IRBuilder(function.append_basic_block("entry"))
        for comment in comments:
            builder.comment(comment)
        return builder, list(function.args)

    def call(self, builder: ir.IRBuilder, name: str, *arguments: ir.Value) -> ir.Value:
        return builder.call(self.module.globals[name], arguments)

    def load(self, builder: ir.IRBuilder, name: str, ordering: str = "monotonic") -> ir.Value:
        return builder.load_atomic(self.module.globals[name], ordering, 8, name, typ=i64)

    def store(
        self, builder: ir.IRBuilder, name: str, value: ir.Value, ordering: str = "monotonic"
    ) -> None:
        builder.store_atomic(value, self.module.globals[name], ordering, 8)

    def element(
        self, builder: ir.IRBuilder, table: str, *place: ir.Value, name: str = ""
    ) -> ir.Value:
        """Where an element of a table is."""
        whole = self.module.globals[table]
        return builder.gep(whole, [ir.Constant(i32, 0), *place], inbounds=True, name=name)

    def slot(self, builder: ir.IRBuilder, index: ir.Value, field: str) -> ir.Value:
        """Where thread `index` has a field of its slot."""
        number = ir.Constant(i32, list(SLOT).index(field))
        inner = [ir.Constant(i32, 0)] * isinstance(SLOT[field], ir.ArrayType)
        return self.element(builder, "slots", index, number, *inner, name=field)

    def pause(self, builder: ir.IRBuilder) -> None:
        """Tell the core that this is a spin loop: it saves power, and its sibling's time."""
        if self.architecture not in PAUSE:
            return
        name, arguments = PAUSE[self.architecture]
        if name not in self.module.globals:
            self.declare(name, void, *[argument.type for argument in arguments])
        self.call(builder, name, *arguments)

    # --- the functions --------------------------------------------------------------------------

    def emit_nanoseconds(self) -> None:
        """nanoseconds(): the monotonic clock. The cycle counter is no help: AArch64 hides it."""
        builder, _ = self.define("nanoseconds", returns=i64)
        time = builder.alloca(line_type, name="time")  # struct timespec, and to spare
        self.call(builder, "clock_gettime", literal(i32, self.monotonic_clock), time)
        zero, one = ir.Constant(i32, 0), ir.Constant(i32, 1)
        seconds = builder.load(builder.gep(time, [zero, zero]), "seconds", typ=i64)
        rest = builder.load(builder.gep(time, [zero, one]), "rest", typ=i64)
        builder.ret(builder.add(builder.mul(seconds, literal(i64, 10**9)), rest))

    def emit_wait_while_equal(self) -> None:
        """wait_while_equal(word, old, index): thread `index` waits until a word is not `old`."""
        builder, (word, old, index) = self.define(
            "wait_while_equal",
            f"Spin for {SPIN_NANOSECONDS // 1000} us, unless told to park, and then sleep.",
            word=i64.as_pointer(),
            old=i64,
            index=i64,
        )
        start = self.call(builder, "nanoseconds")
        with forever(builder, "spin") as spinning:
            looks = literal(i64, LOOKS_PER_CLOCK_READING)
            with counted_loop(builder, literal(i64, 0), looks, 1, "look"):
                now = builder.load_atomic(word, "acquire", 8, "now", typ=i64)
                with builder.if_then(builder.icmp_unsigned("!=", now, old)):
                    builder.ret_void()
                self.pause(builder)
            spent = builder.sub(self.call(builder, "nanoseconds"), start, "spent")
            long = builder.icmp_signed(">", spent, literal(i64, SPIN_NANOSECONDS))
            parked = builder.icmp_unsigned("!=", self.load(builder, "parked"), literal(i64, 0))
            builder.cbranch(builder.or_(long, parked), spinning.end, spinning.start)

        builder.comment("`asleep` is set before the word is read, and whoever changes the word")
        builder.comment("reads `asleep` after that, so that one of the two sees the other.")
        mutex = self.slot(builder, index, "mutex")
        condition = self.slot(builder, index, "condition")
        asleep = self.slot(builder, index, "asleep")
        self.call(builder, "pthread_mutex_lock", mutex)
        builder.store_atomic(literal(i64, 1), asleep, "seq_cst", 8)
        with forever(builder, "sleep") as sleeping:
            now = builder.load_atomic(word, "seq_cst", 8, "now", typ=i64)
            with builder.if_then(builder.icmp_unsigned("!=", now, old)):
                builder.branch(sleeping.end)
            self.call(builder, "pthread_cond_wait", condition, mutex)
        builder.store_atomic(literal(i64, 0), asleep, "monotonic", 8)
        self.call(builder, "pthread_mutex_unlock", mutex)
        builder.ret_void()

    def emit_wake(self) -> None:
        """wake(index): thread `index`, if it sleeps, looks again at the word it waits for."""
        builder, (index,) = self.define("wake", index=i64)
        flag = builder.load_atomic(self.slot(builder, index, "asleep"), "seq_cst", 8, typ=i64)
        with builder.if_then(builder.icmp_unsigned("!=", flag, literal(i64, 0))):
            if self.places_workers:
                self.call(builder, "move_away", index)
            mutex = self.slot(builder, index, "mutex")
            condition = self.slot(builder, index, "condition")
            self.call(builder, "pthread_mutex_lock", mutex)
            self.call(builder, "pthread_cond_signal", condition)
            self.call(builder, "pthread_mutex_unlock", mutex)
        builder.ret_void()
