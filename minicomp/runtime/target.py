"""The CPU that code is generated for.

In: a CPU's name, or nothing for the machine at hand. Out: a `Target`, which code generators ask
for the width of a vector register and the sizes of caches, and the compiler for everything
LLVM wants to know.

    host_target()                    -> Target(triple='x86_64-unknown-linux-gnu', cpu='znver4', ...)
    Target.for_cpu("haswell")        -> the same generators at 256 bits: runs on any newer x86-64
    Target.for_cpu("apple-m1")       -> 128 bits, for reading the assembly on another machine

`MINICOMP_CPU=haswell` in the environment makes `host_target()` answer with an older CPU of the
same architecture, so that its code can be run and timed on a newer one.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import llvmlite.binding as llvm

from minicomp.errors import OptionError

# Bits of the widest vector register of CPUs that can be asked for by name. LLVM has no list to
# look in and ends the process over a name that it does not know, so the names are kept here;
# a `Target` made from its fields takes any other.
X86_64_CPUS = {
    "x86-64": 128,
    "x86-64-v2": 128,
    "x86-64-v3": 256,
    "x86-64-v4": 512,
    "sandybridge": 256,
    "haswell": 256,
    "broadwell": 256,
    "skylake": 256,
    "alderlake": 256,
    "skylake-avx512": 512,
    "cascadelake": 512,
    "icelake-server": 512,
    "sapphirerapids": 512,
    "znver1": 256,
    "znver2": 256,
    "znver3": 256,
    "znver4": 512,
    "znver5": 512,
}
AARCH64_CPUS = {  # NEON; the scalable vectors of some of these are not used
    "cortex-a53": 128,
    "cortex-a72": 128,
    "cortex-a76": 128,
    "neoverse-n1": 128,
    "neoverse-n2": 128,
    "neoverse-v1": 128,
    "neoverse-v2": 128,
    "apple-m1": 128,
    "apple-m2": 128,
    "apple-m3": 128,
}


#: The caches of a core, level 1 (data) and level 2, and the one that cores share, level 3, where
#: nobody tells: those of a Zen 4. Many older CPUs have less of the second.
L1_BYTES, L2_BYTES, L3_BYTES = 32 << 10, 1 << 20, 32 << 20
#: Where Linux describes the caches that CPU 0 uses, a folder for each.
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


@dataclass(frozen=True)
class Target:
    """What code is compiled for: LLVM's triple, CPU name and features, a vector's bits, and the
    bytes of its caches: a core's own two, and the one that cores share."""

    triple: str
    cpu: str
    features: str
    vector_bits: int
    l1_bytes: int = L1_BYTES
    l2_bytes: int = L2_BYTES
    l3_bytes: int = L3_BYTES

    @classmethod
    def for_cpu(cls, cpu: str) -> Target:
        """The target of a CPU by LLVM's name for it. OptionError if the name is not known.

        The triple is this machine's where the architecture is the same, else Linux's.
        """
        for architecture, cpus in (("x86_64", X86_64_CPUS), ("aarch64", AARCH64_CPUS)):
            if cpu in cpus:
                return cls(_triple(architecture), cpu, "", cpus[cpu])
        known = ", ".join([*X86_64_CPUS, *AARCH64_CPUS])
        raise OptionError(f"unknown CPU {cpu!r}; wanted one of {known}")

    @property
    def architecture(self) -> str:
        """`x86_64`, `aarch64`, or whatever else the triple begins with."""
        first = self.triple.partition("-")[0]
        return "aarch64" if first.startswith("arm64") else first


def host_target() -> Target:
    """The CPU of this machine, or the one named by MINICOMP_CPU.

    OptionError where MINICOMP_CPU names one that this machine certainly cannot run.
    """
    return _host_target(os.environ.get("MINICOMP_CPU", ""))


@lru_cache
def _host_target(cpu: str) -> Target:
    features = _host_features()
    host = Target(
        llvm.get_process_triple(),
        llvm.get_host_cpu_name(),
        ",".join(f"{'+' if has else '-'}{name}" for name, has in sorted(features.items())),
        _vector_bits(features),
        *cache_sizes(),
    )
    if not cpu:
        return host
    named = Target.for_cpu(cpu)
    if named.architecture != host.architecture or named.vector_bits > host.vector_bits:
        raise OptionError(
            f"MINICOMP_CPU: {cpu} is {named.architecture} with {named.vector_bits}-bit vectors, "
            f"this machine {host.architecture} with {host.vector_bits}-bit ones; "
            "name an older CPU, or use Target.for_cpu() to read assembly alone"
        )
    return named


def _host_features() -> dict[str, bool]:
    try:
        return dict(llvm.get_host_cpu_features())
    except RuntimeError:
        return {}  # LLVM cannot ask this kind of CPU; its name implies a base set of features


def _vector_bits(features: dict[str, bool]) -> int:
    if features.get("avx512f"):
        return 512
    if features.get("avx"):
        return 256
    return 128  # SSE, and NEON


def cache_sizes(folder: Path = CACHES) -> tuple[int, int, int]:
    """The bytes of a core's level 1 (data) and level 2 caches and of the shared level 3, as Linux
    tells them; the usual ones where it does not."""
    sizes = {"1": L1_BYTES, "2": L2_BYTES, "3": L3_BYTES}
    for cache in folder.glob("index*"):
        try:
            level, kind, size = (
                (cache / name).read_text().strip() for name in ("level", "type", "size")
            )
        except (OSError, UnicodeError):
            continue
        found = re.fullmatch(r"([1-9][0-9]*)([KM])", size)
        if kind != "Instruction" and level in sizes and found:
            sizes[level] = int(found[1]) << (10 if found[2] == "K" else 20)
    return sizes["1"], sizes["2"], sizes["3"]


def _triple(architecture: str) -> str:
    host = llvm.get_process_triple()
    if Target(host, "", "", 0).architecture == architecture:
        return host
    return f"{architecture}-unknown-linux-gnu"
