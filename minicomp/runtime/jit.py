"""The compiler proper: LLVM IR text in, machine code in this process out.

    library = compile_ir(text, exports=["kernel"])
    library.address("kernel")      # an integer, for ctypes or another library's `imports`

The IR is parsed, verified, put through a short list of passes, translated to an object file and
linked by LLVM's ORC JIT. Object files are kept on disk, keyed by the text, or what it would be
generated from, and the target, so that a second process only links. `assembly()` and
`optimized_ir()` show the stages between, also for other targets than this machine.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from weakref import WeakValueDictionary

import llvmlite.binding as llvm

from minicomp.codegen.generated import Generated
from minicomp.disk_cache import DiskCache
from minicomp.errors import InternalError
from minicomp.fingerprint import fingerprint, source_digest
from minicomp.runtime.lifetime import keep_forever
from minicomp.runtime.target import Target, host_target

# What a module may declare, and find in this process, besides the `imports` it is linked with:
# what the thread pool waits with and places its workers by. (LLVM itself adds calls of memcpy, fmod
# and their like.)
PROCESS_FUNCTIONS = frozenset(
    ["clock_gettime", "sched_getcpu", "pthread_self"]
    + [f"pthread_{verb}affinity_np" for verb in ("get", "set")]
    + [f"pthread_mutex_{name}" for name in ("init", "lock", "unlock")]
    + [f"pthread_cond_{name}" for name in ("init", "wait", "signal")]
)


@dataclass
class Statistics:
    """What this process has done so far; a count per way of coming by a library."""

    compiled: int = 0  # translated from IR
    loaded: int = 0  # object file found on disk
    reused: int = 0  # already linked in this process
    compile_seconds: float = 0.0


statistics = Statistics()


class Library:
    """Machine code linked into this process. Its addresses hold while this object lives."""

    def __init__(self, tracker: llvm.ResourceTracker, exports: Sequence[str], needs: object):
        self._tracker = tracker
        self._addresses = {name: tracker[name] for name in exports}
        self._needs = needs  # libraries whose addresses are linked into this one

    def address(self, name: str) -> int:
        """Where the exported function or variable `name` is."""
        return self._addresses[name]


# One lock around all use of LLVM: candidates may be compiled from several threads.
_lock = threading.RLock()
_cache = DiskCache("objects")
_linked: WeakValueDictionary[tuple, Library] = WeakValueDictionary()
_numbers = count()


def compile_ir(
    module: str | Generated,
    exports: Sequence[str],
    target: Target | None = None,
    *,
    imports: Mapping[str, int] | None = None,
    needs: Sequence[Library] = (),
    use_disk_cache: bool = True,
) -> Library:
    """Compile a module of LLVM IR, or find it compiled, and link it.

    `imports` gives the addresses of functions that the module declares; `needs` are the libraries
    they are in, kept alive with the result. Each module is a library of its own, so the names it
    exports need only be its own. InternalError, with the IR line, if LLVM finds the module wrong.
    """
    target = target or host_target()
    symbols = dict(imports or {})
    if isinstance(module, Generated) and not use_disk_cache:
        module = module.text  # nothing is to be taken from earlier than now
    key = _key(module, target)
    memo_key = (key, tuple(exports), tuple(sorted(symbols.items())))
    with _lock:
        library = _linked.get(memo_key)
        if library is not None:
            statistics.reused += 1
            return library
        code = _object_code(key, module, target, symbols, use_disk_cache)
        library = Library(_link(code, exports, symbols), exports, tuple(needs))
        _linked[memo_key] = library
        return library


def assembly(ir_text: str, target: Target | None = None) -> str:
    """The assembly that a module becomes, for this machine or another."""
    with _lock:
        machine = _machine(target or host_target())
        return machine.emit_assembly(_optimized(ir_text, machine))


def optimized_ir(ir_text: str, target: Target | None = None) -> str:
    """A module's IR as code generation gets it."""
    with _lock:
        return str(_optimized(ir_text, _machine(target or host_target())))


def _key(module: str | Generated, target: Target) -> str:
    content = module.key if isinstance(module, Generated) else module
    # The source is in the key for the passes and the options of code generation that are below.
    return fingerprint(source_digest(), llvm.llvm_version_info, target, content)


def _object_code(
    key: str,
    module: str | Generated,
    target: Target,
    imports: Mapping[str, int],
    use_disk_cache: bool,
) -> bytes:
    code = _cache.get(key) if use_disk_cache else None
    if code is not None:
        statistics.loaded += 1
        return code
    start = time.perf_counter()
    machine = _machine(target)
    text = module.text if isinstance(module, Generated) else module
    optimized = _optimized(text, machine)
    _check_declarations(optimized, imports)
    code = machine.emit_object(optimized)
    statistics.compiled += 1
    statistics.compile_seconds += time.perf_counter() - start
    if use_disk_cache:
        _cache.put(key, code)
    return code


def _check_declarations(module: llvm.ModuleRef, imports: Mapping[str, int]) -> None:
    for function in module.functions:
        name = function.name
        known = name in imports or name in PROCESS_FUNCTIONS or name.startswith("llvm.")
        if function.is_declaration and not known:
            raise InternalError(
                f"a generated module calls {name}, which is neither among its imports "
                f"({', '.join(imports) or 'none'}) nor among those found in the process"
            )


@lru_cache
def _initialise_host() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


@lru_cache
def _machine(target: Target) -> llvm.TargetMachine:
    """LLVM's code generator for a target."""
    _initialise_host()
    if target.architecture != Target(llvm.get_process_triple(), "", "", 0).architecture:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
    # Position-independent code of the small model reaches every outside function through a stub
    # beside it, so that an object file holds no address. Level 0 would keep accumulators on the
    # stack; 1, 2 and 3 gave the same code and speed for matmul and pointwise kernels.
    return llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features, opt=2, reloc="pic", codemodel="small"
    )


def _optimized(ir_text: str, machine: llvm.TargetMachine) -> llvm.ModuleRef:
    """Parse, verify, and run the passes."""
    try:
        module = llvm.parse_assembly(ir_text, context=llvm.create_context())
        module.triple = machine.triple
        module.data_layout = str(machine.target_data)
        module.verify()
    except RuntimeError as error:
        message = _with_line(error, ir_text)
        raise InternalError(f"LLVM rejects a generated module: {message}") from error
    # A builder is for one run: it adds to what a run calls back, so that each takes longer.
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options())
    _passes().run(module, builder)
    return module


@lru_cache
def _passes() -> llvm.ModulePassManager:
    """The passes, listed once: LLVM keeps 4 kB of each list that has run.

    The generators emit loops already vectorised and unrolled, so the passes are few: variables to
    registers, without which softmax takes 1.7 times as long and column sums 1.8 times; the test
    of a loop to its bottom, up to a tenth of a short body's time; and what tidies up after them.
    LLVM's own simplification pipeline takes four times as long as these together. It makes the
    same code of matmul, softmax and layer norm; only moving loads out of loops, which is not to
    be had alone, gains a tenth where a generator leaves one inside.
    """
    passes = llvm.create_new_module_pass_manager()
    passes.add_always_inliner_pass()
    passes.add_sroa_pass()
    passes.add_simplify_cfg_pass()
    passes.add_loop_rotate_pass()
    passes.add_instruction_combine_pass()
    passes.add_simplify_cfg_pass()
    keep_forever(passes)
    return passes


def _with_line(error: RuntimeError, ir_text: str) -> str:
    """LLVM's message and, where it quotes an instruction, the number of that line of the IR.

    The parser's own messages have the line number; the verifier's have only the instruction.
    """
    if "error:" in str(error):
        return str(error)
    lines = [line.strip().replace('"', "") for line in ir_text.splitlines()]
    for quoted in str(error).splitlines():
        if quoted.strip() in lines:
            return f"{error} (line {lines.index(quoted.strip()) + 1} of the IR)"
    return str(error)


@lru_cache
def _linker() -> llvm.LLJIT:
    """The ORC JIT of this process.

    JITLink takes the time of the older linker and a fifth of its memory (8 kB a small library).
    """
    _initialise_host()
    jit = llvm.create_lljit_compiler(use_jit_link=True)
    keep_forever(jit)
    return jit


def _link(code: bytes, exports: Sequence[str], imports: Mapping[str, int]) -> llvm.ResourceTracker:
    builder = llvm.JITLibraryBuilder().add_object_img(code).add_current_process()
    for name in exports:
        builder.export_symbol(name)
    for name, address in imports.items():
        builder.import_symbol(name, address)
    try:
        return builder.link(_linker(), f"minicomp.{next(_numbers)}")
    except RuntimeError as error:
        raise InternalError(f"cannot link generated code: {error}") from error


# A child of fork() has a copy of the lock: nobody else may be holding it at that moment.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
    )
