"""The thread pool, as LLVM IR: what `runtime.threads` compiles and parks its workers in.

In: the target's architecture, the number of its monotonic clock, whether workers can be placed on
CPUs (`llvm_placing`). Out: the text of a module around this function, which generated code calls
to spread a kernel's units over the threads:

    void minicomp_parallel_for(ptr kernel, ptr args, i64 units, i64 grain, i64 threads)

How a job is shared. Units are cut into chunks of at least `grain`, up to `CHUNKS_PER_THREAD` a
thread. Every thread owns a queue, a contiguous share of the chunks; it empties its own, then
helps with the others'. Owning keeps the same rows in the same core's cache from one kernel to
the next; helping means that a worker which wakes late, or loses its core to another process,
delays a job by one chunk at most: the caller can finish it with no help at all. A kernel that
wants one chunk a thread says so by a grain of units / threads.

Why it is safe. A queue is one 64-bit word, (job number << 16 | chunks not yet claimed), and a
claim is a compare-and-swap that takes 1 from it. The description of the job is rewritten only
once every chunk of the last job has been claimed and finished, so all queues are empty then; and
words never repeat, as job numbers grow. Hence a claim that succeeds proves that the description
read before it was that of a job still running. A worker that is late by a whole job, or by many,
finds nothing to claim, and nobody waits for it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from llvmlite import ir

from minicomp.codegen.llvm_function import counted_loop
from minicomp.codegen.llvm_types import i32, i64, literal, pointer, void
from minicomp.codegen.llvm_waiting import WaitingModule, forever, line_type
from minicomp.codegen.native_plan import MAX_THREADS

CHUNKS_PER_THREAD = 4
CLAIM_BITS = 16  # of a queue's word; enough for CHUNKS_PER_THREAD, and job numbers last for ever

#: The words that describe a job, all in one line. Addresses are kept as integers.
JOB = ("kernel", "args", "units", "chunks", "threads")

kernel_type = ir.FunctionType(void, [pointer, i64, i64])
grow_type = ir.FunctionType(void, [i64])


def emit_thread_pool(architecture: str, monotonic_clock: int, places_workers: bool) -> str:
    """The module's text; `places_workers` where the system is Linux. It exports

    - `minicomp_parallel_for`, see above;
    - `minicomp_worker(i64 index)`, in which worker `index`, counted from 1, spends its life;
    - `minicomp_pool_reset()`, to be called before all else, and in the child after a fork;
    - `minicomp_pool_stop()`, which makes all workers return;
    - the variables `workers`, how many there are; `limit`, how many threads there may be, the
      caller counted; `grow`, the address of `void grow(i64 threads)`, called when a job wants
      more workers than there are and `limit` allows; `parked`, 1 to send spinning workers to
      sleep until the next job.
    """
    pool = _Pool(architecture, monotonic_clock, places_workers)
    pool.emit_run_chunks()
    pool.emit_publish()
    pool.emit_parallel_for()
    pool.emit_worker()
    pool.emit_stop()
    pool.emit_reset()
    return str(pool.module)


class _Pool(WaitingModule):
    """The module under construction: one method per function of the pool."""

    def __init__(self, architecture: str, monotonic_clock: int, places_workers: bool):
        super().__init__(architecture, monotonic_clock, places_workers)
        self.variable("epoch", i64)  # grows with each job; what idle workers watch
        self.variable("done", i64)  # number of the last job finished; what a caller watches
        self.variable("unfinished", i64)  # chunks of the job at hand that are not finished
        self.variable("busy", i64)  # 1 while a caller has the pool
        self.variable("stopping", i64)
        self.variable("queues", ir.ArrayType(line_type, MAX_THREADS))
        self.variable("job", line_type)
        for name in ("workers", "limit", "grow"):
            self.variable(name, i64, linkage="")

    def queue(self, builder: ir.IRBuilder, index: ir.Value) -> ir.Value:
        """Where thread `index` has its queue."""
        return self.element(builder, "queues", index, ir.Constant(i32, 0), name="queue")

    def job_word(self, builder: ir.IRBuilder, name: str) -> ir.Value:
        """Where a word of the job's description is."""
        return self.element(builder, "job", ir.Constant(i32, JOB.index(name)))

    def job(self, builder: ir.IRBuilder, name: str) -> ir.Value:
        return builder.load_atomic(self.job_word(builder, name), "monotonic", 8, name, typ=i64)

    def share(
        self, builder: ir.IRBuilder, part: ir.Value, whole: ir.Value, parts: ir.Value
    ) -> ir.Value:
        """Where part number `part` begins when `whole` is cut evenly into `parts`."""
        return builder.udiv(builder.mul(part, whole), parts)

    def each_thread(self, builder: ir.IRBuilder) -> AbstractContextManager[ir.Value]:
        return counted_loop(builder, literal(i64, 0), literal(i64, MAX_THREADS), 1, "index")

    # --- doing a job ----------------------------------------------------------------------------

    def emit_run_chunks(self) -> None:
        """run_chunks(index): thread `index` empties its own queue, then all the others'."""
        builder, (index,) = self.define(
            "run_chunks", "Empty the queue of thread `index`, then all the others.", index=i64
        )
        threads = self.job(builder, "threads")
        with counted_loop(builder, literal(i64, 0), threads, 1, "turn") as turn:
            owner = builder.urem(builder.add(index, turn), threads, "owner")
            queue = self.queue(builder, owner)
            with forever(builder, "claim") as claiming:
                word = builder.load_atomic(queue, "acquire", 8, "word", typ=i64)
                left = builder.and_(word, literal(i64, (1 << CLAIM_BITS) - 1), "left")
                with builder.if_then(builder.icmp_unsigned("==", left, literal(i64, 0))):
                    builder.branch(claiming.end)
                builder.comment("Read the job first: a claim proves that it was this one.")
                job = {name: self.job(builder, name) for name in JOB}
                with builder.if_then(builder.icmp_unsigned(">=", index, job["threads"])):
                    builder.comment("This job wants fewer threads than there are.")
                    builder.ret_void()
                rest = builder.sub(word, literal(i64, 1), "rest")
                claim = builder.cmpxchg(queue, word, rest, "acq_rel", "monotonic")
                with builder.if_then(builder.extract_value(claim, 1, "claimed")):
                    self.run_chunk(builder, job, owner, left)
                    self.finish_chunk(builder, word)
        builder.ret_void()

    def run_chunk(
        self, builder: ir.IRBuilder, job: dict[str, ir.Value], owner: ir.Value, left: ir.Value
    ) -> None:
        """The first of the `left` chunks in the queue of `owner`: call the kernel on its units."""
        one, units, chunks = literal(i64, 1), job["units"], job["chunks"]
        stop = self.share(builder, builder.add(owner, one), chunks, job["threads"])
        chunk = builder.sub(stop, left, "chunk")
        begin = self.share(builder, chunk, units, chunks)
        end = self.share(builder, builder.add(chunk, one), units, chunks)
        kernel = builder.inttoptr(job["kernel"], kernel_type.as_pointer(), "kernel")
        args = builder.inttoptr(job["args"], pointer, "args")
        builder.call(kernel, [args, begin, end])

    def finish_chunk(self, builder: ir.IRBuilder, word: ir.Value) -> None:
        """Count a chunk as done; after the last one, tell the caller."""
        unfinished = self.module.globals["unfinished"]
        before = builder.atomic_rmw("sub", unfinished, literal(i64, 1), "acq_rel", "before")
        with builder.if_then(builder.icmp_unsigned("==", before, literal(i64, 1))):
            number = builder.lshr(word, literal(i64, CLAIM_BITS), "number")
            self.store(builder, "done", number, "seq_cst")
            self.call(builder, "wake", literal(i64, 0))

    # --- giving out a job -----------------------------------------------------------------------

    def emit_publish(self) -> None:
        """publish(number): fill the queues of the job described, and call the workers."""
        builder, (number,) = self.define(
            "publish", "Fill the queues of the job described, and call the workers.", number=i64
        )
        threads, chunks = self.job(builder, "threads"), self.job(builder, "chunks")
        self.store(builder, "parked", literal(i64, 0))
        self.store(builder, "unfinished", chunks)
        tag = builder.shl(number, literal(i64, CLAIM_BITS), "tag")
        with counted_loop(builder, literal(i64, 0), threads, 1, "owner") as owner:
            start = self.share(builder, owner, chunks, threads)
            stop = self.share(builder, builder.add(owner, literal(i64, 1)), chunks, threads)
            word = builder.or_(tag, builder.sub(stop, start), "word")
            builder.store_atomic(word, self.queue(builder, owner), "release", 8)
        builder.atomic_rmw("add", self.module.globals["epoch"], literal(i64, 1), "seq_cst")
        with counted_loop(builder, literal(i64, 1), threads, 1, "worker") as worker:
            self.call(builder, "wake", worker)
        builder.ret_void()

    def emit_parallel_for(self) -> None:
        """minicomp_parallel_for(kernel, args, units, grain, threads)."""
        builder, (kernel, args, units, grain, threads) = self.define(
            "minicomp_parallel_for",
            kernel=kernel_type.as_pointer(),
            args=pointer,
            units=i64,
            grain=i64,
            threads=i64,
        )
        zero, one = literal(i64, 0), literal(i64, 1)
        alone = ir.Block(builder.function, name="alone")
        parts = builder.sdiv(units, larger(builder, grain, one), "parts")
        wanted = smaller(builder, parts, threads)
        with builder.if_then(builder.icmp_signed("<=", wanted, one)):
            builder.branch(alone)
        present = self.threads_present(builder, wanted)
        with builder.if_then(builder.icmp_signed("<=", present, one)):
            builder.branch(alone)
        builder.comment("A pool in use, perhaps by the kernel that this call is nested in, has")
        builder.comment("work for all its threads: do this job here rather than wait for them.")
        claim = builder.cmpxchg(self.module.globals["busy"], zero, one, "acquire", "monotonic")
        with builder.if_then(builder.not_(builder.extract_value(claim, 1))):
            builder.branch(alone)

        chunks = smaller(builder, parts, builder.mul(present, literal(i64, CHUNKS_PER_THREAD)))
        addresses = (builder.ptrtoint(kernel, i64), builder.ptrtoint(args, i64))
        for name, value in zip(JOB, (*addresses, units, chunks, present), strict=True):
            builder.store_atomic(value, self.job_word(builder, name), "monotonic", 8)
        last = self.load(builder, "done")
        self.call(builder, "publish", builder.add(last, one, "number"))
        self.call(builder, "run_chunks", zero)
        self.call(builder, "wait_while_equal", self.module.globals["done"], last, zero)
        self.store(builder, "busy", zero, "release")
        builder.ret_void()

        builder.function.blocks.append(alone)
        builder.position_at_end(alone)
        with builder.if_then(builder.icmp_signed(">", units, zero)):
            builder.call(kernel, [args, zero, units])
        builder.ret_void()

    def threads_present(self, builder: ir.IRBuilder, wanted: ir.Value) -> ir.Value:
        """How many threads, up to `wanted`, there are; Python starts the missing ones first."""
        one = literal(i64, 1)
        present = builder.add(self.load(builder, "workers"), one, "present")
        possible = smaller(builder, wanted, self.load(builder, "limit"))
        with builder.if_then(builder.icmp_signed("<", present, possible)):
            grow = builder.inttoptr(self.load(builder, "grow"), grow_type.as_pointer())
            builder.call(grow, [wanted])
        return smaller(builder, wanted, builder.add(self.load(builder, "workers"), one))

    # --- a worker's life ------------------------------------------------------------------------

    def emit_worker(self) -> None:
        """minicomp_worker(index): help with the job at hand, wait for the next, and again."""
        builder, (index,) = self.define("minicomp_worker", index=i64)
        if self.places_workers:
            self.call(builder, "settle_in", index)
        with forever(builder, "job"):
            builder.comment("Note the epoch first: a job given out after this ends the waiting.")
            seen = self.load(builder, "epoch", "acquire")
            stopping = self.load(builder, "stopping", "acquire")
            with builder.if_then(builder.icmp_unsigned("!=", stopping, literal(i64, 0))):
                builder.ret_void()
            self.call(builder, "run_chunks", index)
            self.call(builder, "wait_while_equal", self.module.globals["epoch"], seen, index)
        builder.unreachable()

    def emit_stop(self) -> None:
        """minicomp_pool_stop(): let all workers return, after the chunks they are at."""
        builder, _ = self.define("minicomp_pool_stop")
        self.store(builder, "stopping", literal(i64, 1), "seq_cst")
        builder.atomic_rmw("add", self.module.globals["epoch"], literal(i64, 1), "seq_cst")
        with self.each_thread(builder) as index:
            self.call(builder, "wake", index)
        builder.ret_void()

    def emit_reset(self) -> None:
        """minicomp_pool_reset(): a pool without workers or work, whatever was there before."""
        builder, _ = self.define("minicomp_pool_reset")
        zero = literal(i64, 0)
        for name in ("workers", "busy", "stopping", "parked", "done"):
            self.store(builder, name, zero)
        self.store(builder, "limit", literal(i64, MAX_THREADS))
        null = ir.Constant(pointer, None)
        with self.each_thread(builder) as index:
            builder.store(zero, self.queue(builder, index))
            builder.store(zero, self.slot(builder, index, "asleep"))
            builder.store(zero, self.slot(builder, index, "thread"))
            self.call(builder, "pthread_mutex_init", self.slot(builder, index, "mutex"), null)
            self.call(builder, "pthread_cond_init", self.slot(builder, index, "condition"), null)
        builder.ret_void()


def smaller(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    return builder.select(builder.icmp_signed("<", a, b), a, b)


def larger(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    return builder.select(builder.icmp_signed(">", a, b), a, b)
