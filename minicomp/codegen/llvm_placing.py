"""Where a worker of the thread pool wakes up, as LLVM IR: on any CPU but its caller's.

In: the pool's module. Out: two more functions in it,

    void settle_in(i64 index)     # called by worker `index` once, when it starts
    void move_away(i64 index)     # called by who is about to wake it

Left to itself, Linux often wakes a thread on the CPU of the thread that woke it, idle though
others are; in a virtual machine nearly always, since there a CPU that sleeps counts as busy. The
worker then takes the caller's place, looks in vain for more to do, and only after it sleeps again
does the caller go on: a job shared so takes 60 us more instead of half the time. Hence a sleeping
worker's affinity is set before it is woken: all CPUs that it might use at first, less the one that
the caller is on. While the caller stays where it is, that takes no system call.

Others may set it as well (`taskset -a -p` on a running program, say). An affinity that is not the
one set here last is theirs: from then on a worker keeps to those CPUs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llvmlite import ir

from minicomp.codegen.llvm_function import counted_loop
from minicomp.codegen.llvm_types import i32, i64, literal, pointer

if TYPE_CHECKING:
    from minicomp.codegen.llvm_waiting import WaitingModule

#: A set of CPUs, as the system's functions take it: a bit for each of 1024.
WORDS, WORD_BITS = 16, 64
cpu_set_type = ir.ArrayType(i64, WORDS)

NOWHERE = -1


def emit_placing(module: WaitingModule) -> None:
    """Define both functions."""
    for verb in ("get", "set"):
        module.declare(f"pthread_{verb}affinity_np", i32, i64, i64, pointer)
    module.declare("pthread_self", i64)
    module.declare("sched_getcpu", i32)
    _emit_settle_in(module)
    _emit_move_away(module)


def _emit_settle_in(module: WaitingModule) -> None:
    builder, (index,) = module.define(
        "settle_in", "Note who worker `index` is, and where it may run.", index=i64
    )
    thread = module.call(builder, "pthread_self")
    size = literal(i64, WORDS * WORD_BITS // 8)
    for field in ("allowed", "placed"):
        place = module.slot(builder, index, field)
        failed = module.call(builder, "pthread_getaffinity_np", thread, size, place)
    known = builder.icmp_signed("==", failed, literal(i32, 0), "known")
    builder.store_atomic(
        literal(i64, NOWHERE), module.slot(builder, index, "avoided"), "monotonic", 8
    )
    thread = builder.select(known, thread, literal(i64, 0))
    builder.store_atomic(thread, module.slot(builder, index, "thread"), "monotonic", 8)
    builder.ret_void()


def _emit_move_away(module: WaitingModule) -> None:
    builder, (index,) = module.define(
        "move_away", "Let worker `index` run on any CPU but this one.", index=i64
    )
    found = builder.gep(
        builder.alloca(cpu_set_type), [literal(i32, 0), literal(i32, 0)], name="found"
    )
    changes = builder.alloca(i64, name="changes")
    here = builder.zext(module.call(builder, "sched_getcpu"), i64, "here")  # -1 if not known
    avoided = module.slot(builder, index, "avoided")
    thread = builder.load_atomic(
        module.slot(builder, index, "thread"), "monotonic", 8, "thread", typ=i64
    )
    before = builder.load_atomic(avoided, "monotonic", 8, "before", typ=i64)
    unknown = builder.or_(
        builder.icmp_unsigned("==", thread, literal(i64, 0)),
        builder.icmp_unsigned(">=", here, literal(i64, WORDS * WORD_BITS)),
    )
    with builder.if_then(builder.or_(unknown, builder.icmp_unsigned("==", here, before))):
        builder.ret_void()
    bit = builder.shl(literal(i64, 1), builder.urem(here, literal(i64, WORD_BITS)))
    own_word = builder.udiv(here, literal(i64, WORD_BITS), "own_word")
    allowed, placed = (module.slot(builder, index, field) for field in ("allowed", "placed"))
    size = literal(i64, WORDS * WORD_BITS // 8)
    builder.comment("has somebody else placed it since?")
    failed = module.call(builder, "pthread_getaffinity_np", thread, size, found)
    builder.store(literal(i64, 0), changes)
    with counted_loop(builder, literal(i64, 0), literal(i64, WORDS), 1, "compared") as word:
        now, last = (builder.load(builder.gep(words, [word]), typ=i64) for words in (found, placed))
        others = builder.or_(builder.load(changes, typ=i64), builder.xor(now, last))
        builder.store(others, changes)
    is_theirs = builder.and_(
        builder.icmp_signed("==", failed, literal(i32, 0)),
        builder.icmp_unsigned("!=", builder.load(changes, typ=i64), literal(i64, 0)),
        name="is_theirs",
    )
    source = builder.select(is_theirs, found, allowed)
    with counted_loop(builder, literal(i64, 0), literal(i64, WORDS), 1, "word") as word:
        bits = builder.load(builder.gep(source, [word]), typ=i64)
        builder.store(bits, builder.gep(allowed, [word]))
        rest = builder.and_(bits, builder.not_(bit))
        is_own = builder.icmp_unsigned("==", word, own_word)
        builder.store(builder.select(is_own, rest, bits), builder.gep(placed, [word]))
    builder.comment("It fails, and nothing changes, where this is the only CPU there is.")
    module.call(builder, "pthread_setaffinity_np", thread, size, placed)
    builder.store_atomic(here, avoided, "monotonic", 8)
    builder.ret_void()
