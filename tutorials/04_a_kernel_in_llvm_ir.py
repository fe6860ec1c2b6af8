# %% [markdown]
# # 4. A fused kernel in LLVM IR, line by line
#
# LLVM is a library of compilers: it takes a language close to machine code, LLVM IR, and turns it
# into instructions for the machine at hand. minicomp writes that language through the package
# llvmlite. This chapter reads what it writes.

# %% [markdown]
# ## What is the code of the simplest fused kernel?

# %%
import numpy as np

import minicomp
from minicomp.codegen.llvm_loops import emit_loop_kernel
from minicomp.kernels import LoopSchedule
from minicomp.kernels.program import build_program
from minicomp.passes import optimize
from minicomp.passes.fuse import fuse
from minicomp.passes.materialize import materialize
from minicomp.runtime.target import Target


def kernel_of(function, *arrays):
    graph = materialize(optimize(minicomp.trace(function, *arrays)))
    (call,) = build_program(graph, fuse(graph)).calls
    return call.kernel


x = np.zeros(1024, np.float32)
kernel = kernel_of(lambda x, y: np.maximum(x + y, 0), x, x)
target = Target.for_cpu("haswell")  # any will do: text is only written here, not run
text = emit_loop_kernel(kernel, LoopSchedule("inner", vector_width=1, unroll=1), target)
body = text[text.index("entry:") : text.index("\n}")]
print(body)
# > entry:
# >   ; LoopSchedule(vector_axis=inner vector_width=1 unroll=1 rows=1 streams=False aligns=False prefetch=0 tile= grain=1)
# >   ; kernel add_maximum(x: f32[1024], y: f32[1024], maximum: f32[1024] written)
# >   ;   for o0 in 1024:  # parallel
# >   ;     maximum[o0] = maximum(add(x[o0], y[o0]), 0.0)
# >   br label %"start"
# > start:
# >   br label %"row.head"
# > row.head:
# >   %"row" = phi  i64 [%"begin", %"start"], [%"row.next", %"row.body"]
# >   %".13" = icmp slt i64 %"row", %"end"
# >   br i1 %".13", label %"row.body", label %"row.done"
# > row.body:
# >   %".15" = getelementptr float, ptr %"x", i64 %"row"
# >   %".16" = load float, ptr %".15", align 4
# >   %".17" = getelementptr float, ptr %"y", i64 %"row"
# >   %".18" = load float, ptr %".17", align 4
# >   %".19" = fadd float %".16", %".18"
# >   %".20" = fcmp ugt float %".19", 0x0000000000000000
# >   %".21" = select  i1 %".20", float %".19", float 0x0000000000000000
# >   %".22" = getelementptr float, ptr %"maximum", i64 %"row"
# >   store float %".21", ptr %".22", align 4
# >   %"row.next" = add nsw i64 %"row", 1
# >   br label %"row.head"
# > row.done:
# >   ret void

# %% [markdown]
# **Learned.** From the top:
#
# - After `;` stands a comment: minicomp writes the schedule and the kernel above its code.
# - A name with a colon begins a *block*, which runs from its first line to its last, a jump (`br`)
#   or the end (`ret`).
# - Names begin with `%`; those like `%".15"` are numbers that nobody chose. `i64` is the type of
#   64-bit integers, `i1` of one bit, `ptr` of addresses. `nsw` and `align` are promises to LLVM: no
#   overflow, and an address that is a multiple of 4.
# - `%row` counts the rows from `begin` to `end`, a share that the caller hands out: threads get
#   different shares. There are no variables in LLVM IR, only values that are defined once, so a
#   loop's counter is a `phi`: `begin` when control comes from the block `start`, the next number
#   when it comes from the loop's own body. `icmp slt` compares, `br i1` jumps on the answer.
# - `getelementptr` is address arithmetic: the address of `x[row]`. `load` reads it.
# - `fadd` adds; `fcmp ugt` and `select` are `maximum(.., 0)`: take the sum if it is greater than 0
#   *or unordered*, which is to say NaN: as in NumPy, NaN goes through. Numbers stand there as the
#   bits of a double, in hexadecimal, so that none is rounded; with all bits zero it is 0.0.
# - `store` writes. The sum was never in memory: that is what fusion is for.
#
# **In the source.** [`emit_loop_kernel`](../minicomp/codegen/llvm_loops.py) makes the loops,
# [`ScalarVisitor`](../minicomp/codegen/scalar.py) what happens to one element, and
# [`LLVMEmitter`](../minicomp/codegen/llvm_emitter.py) has a method per operation.

# %% [markdown]
# ## How do eight elements go at once?

# %%
wide = emit_loop_kernel(kernel, LoopSchedule("outer", vector_width=8, unroll=1), target)
print(wide[wide.index("o0.body:") : wide.index("o0.done:")])
# > o0.body:
# >   %".23" = getelementptr float, ptr %"x", i64 %"o0"
# >   %".24" = load <8 x float>, ptr %".23", align 4
# >   %".25" = getelementptr float, ptr %"y", i64 %"o0"
# >   %".26" = load <8 x float>, ptr %".25", align 4
# >   %".27" = fadd <8 x float> %".24", %".26"
# >   %".28" = fcmp ugt <8 x float> %".27", splat (float 0x0000000000000000)
# >   %".29" = select  <8 x i1> %".28", <8 x float> %".27", <8 x float> splat (float 0x0000000000000000)
# >   %".30" = getelementptr float, ptr %"maximum", i64 %"o0"
# >   store <8 x float> %".29", ptr %".30", align 4
# >   %"o0.next" = add nsw i64 %"o0", 8
# >   br label %"o0.head"
# >

# %% [markdown]
# **Learned.** The same kernel under another schedule. `<8 x float>` is a vector of eight lanes, as
# wide as the registers of a CPU with AVX2; the counter goes up by 8. Nothing else has changed: the
# code that emits `fadd` does not know how many lanes there are. (`splat` is a number in all lanes.)
#
# **In the source.** [`LoopSchedule`](../minicomp/kernels/kernel.py);
# [`schedule_loops`](../minicomp/codegen/loop_schedule.py) picks one for the machine, and
# [`spans`](../minicomp/codegen/llvm_row_sweeps.py) cuts a loop that is no multiple of 8 into
# pieces.

# %% [markdown]
# ## How does a row become one number?

# %%
kernel = kernel_of(lambda x: x.sum(axis=1), np.zeros((4, 800), np.float32))
text = emit_loop_kernel(kernel, LoopSchedule("inner", vector_width=4, unroll=2), target)
start, stop = text.index("i0.body:"), text.index("i0.done:")
print(text[start:stop])
print(text[stop : text.index("row.done:")])
# > i0.body:
# >   %".22" = add i64 %"i0", 4
# >   %".23" = mul i64 %"row", 800
# >   %".24" = add i64 %".23", %"i0"
# >   %".25" = getelementptr float, ptr %"x", i64 %".24"
# >   %".26" = load <4 x float>, ptr %".25", align 4
# >   %".28" = load <4 x float>, ptr %"r0"
# >   %".29" = fadd <4 x float> %".28", %".26"
# >   store <4 x float> %".29", ptr %"r0"
# >   %".31" = mul i64 %"row", 800
# >   %".32" = add i64 %".31", %".22"
# >   %".33" = getelementptr float, ptr %"x", i64 %".32"
# >   %".34" = load <4 x float>, ptr %".33", align 4
# >   %".36" = load <4 x float>, ptr %"r0.1"
# >   %".37" = fadd <4 x float> %".36", %".34"
# >   store <4 x float> %".37", ptr %"r0.1"
# >   %"i0.next" = add nsw i64 %"i0", 8
# >   br label %"i0.head"
# >
# > i0.done:
# >   %".40" = load <4 x float>, ptr %"r0"
# >   %".41" = load <4 x float>, ptr %"r0.1"
# >   %".42" = fadd <4 x float> %".40", %".41"
# >   %".43" = shufflevector <4 x float> %".42", <4 x float> poison, <2 x i32> <i32 0, i32 1>
# >   %".44" = shufflevector <4 x float> %".42", <4 x float> poison, <2 x i32> <i32 2, i32 3>
# >   %".45" = fadd <2 x float> %".43", %".44"
# >   %".46" = extractelement <2 x float> %".45", i32 0
# >   %".47" = extractelement <2 x float> %".45", i32 1
# >   %".48" = fadd float %".46", %".47"
# >   %".49" = getelementptr float, ptr %"sum", i64 %"row"
# >   store float %".48", ptr %".49", align 4
# >   %"row.next" = add nsw i64 %"row", 1
# >   br label %"row.head"
# >

# %% [markdown]
# **Learned.** `%r0` and `%r0.1` are *accumulators*, four lanes each. Each addition has to wait for
# the one before it on the same accumulator, some four cycles; with two of them (`unroll=2`) the CPU
# works on two additions at a time. After the loop they are added up, halves to halves, until one
# number is left: `shufflevector` picks some lanes (of two vectors, but `poison` says that no second
# one is needed), `extractelement` picks one. The sums are formed in another order than Python's, so
# the last digits may differ: that is the price of lanes, and mostly the result is the more exact
# one.
#
# The accumulators look like memory (`load`, `store`), which is easy to write; LLVM's first pass
# turns them into registers.
#
# **In the source.** [`Accumulators`](../minicomp/codegen/llvm_reduce.py).

# %% [markdown]
# ## No machine has an instruction for `exp`. What then?

# %%
kernel = kernel_of(np.exp, x)
text = emit_loop_kernel(kernel, LoopSchedule("inner", vector_width=1, unroll=1), target)
start, stop = text.index("load float"), text.index("store float")
print(*text[start:stop].splitlines()[1:-1], sep="\n")
# >   %".16" = fcmp ogt float %".15", 0x4056400000000000
# >   %".17" = select  i1 %".16", float 0x4056400000000000, float %".15"
# >   %".18" = fcmp olt float %".17", 0xC05A000000000000
# >   %".19" = select  i1 %".18", float 0xC05A000000000000, float %".17"
# >   %".20" = call float @"llvm.fma.f32"(float %".19", float 0x3FF7154760000000, float 0x4168000000000000)
# >   %".21" = fsub float %".20", 0x4168000000000000
# >   %".22" = call float @"llvm.fma.f32"(float %".21", float 0xBFE62E4300000000, float %".19")
# >   %".23" = call float @"llvm.fma.f32"(float %".21", float 0x3E205C6100000000, float %".22")
# >   %".24" = call float @"llvm.fma.f32"(float 0x3F56A4E840000000, float %".23", float 0x3F81239820000000)
# >   %".25" = call float @"llvm.fma.f32"(float %".24", float %".23", float 0x3FA5558AE0000000)
# >   %".26" = call float @"llvm.fma.f32"(float %".25", float %".23", float 0x3FC5554920000000)
# >   %".27" = call float @"llvm.fma.f32"(float %".26", float %".23", float 0x3FDFFFFFC0000000)
# >   %".28" = call float @"llvm.fma.f32"(float %".27", float %".23", float 0x3FF0000000000000)
# >   %".29" = call float @"llvm.fma.f32"(float %".28", float %".23", float 0x3FF0000000000000)
# >   %".30" = fcmp olt float %".21", 0x0000000000000000
# >   %".31" = select  i1 %".30", float 0x41680017E0000000, float 0x41680007E0000000
# >   %".32" = fadd float %".21", %".31"
# >   %".33" = bitcast float %".32" to i32
# >   %".34" = shl i32 %".33", 23
# >   %".35" = bitcast i32 %".34" to float
# >   %".36" = select  i1 %".30", float 0x3BF0000000000000, float 0x43F0000000000000
# >   %".37" = fmul float %".29", %".35"
# >   %".38" = fmul float %".37", %".36"
# >   %".39" = getelementptr float, ptr %"exp", i64 %"row"

# %% [markdown]
# **Learned.** Some twenty instructions without a branch, so all lanes can go the same way. It rests
# on `exp(x) = 2**n * exp(r)`, with `n` the whole number nearest to `x / log(2)` and `r` what is
# left:
#
# - the first four lines clamp `x` to [-104, 89], at whose ends the result already is 0 or infinite;
# - the next two find `n`: multiply by `1 / log(2)`, add a number so large that no digits after the
#   point are left, subtract it again;
# - the next two `fma` (multiply and add, rounded once) form `r = x - n * log(2)`, with `log(2)` in
#   two parts so that nothing is lost;
# - then a polynomial in `r`, one `fma` a term (Horner's rule);
# - the rest builds `2**n` by putting `n` into the exponent bits of a float, and multiplies.
#
# The error is at most 2 units in the last place, measured by the tests over the whole range.
#
# **In the source.**
# [minicomp/codegen/math_exponential.py](../minicomp/codegen/math_exponential.py), written once over
# the protocol [`Arithmetic`](../minicomp/codegen/emitter.py), for every back end.

# %% [markdown]
# ## What does the machine get in the end?

# %%
from minicomp.runtime.jit import assembly

for cpu in ("haswell", "apple-m1"):
    lines = assembly(wide, Target.for_cpu(cpu)).splitlines()
    code = [line.split()[0] for line in lines if line.startswith("\t") and "\t." not in line]
    print(f"{cpu}:", *code[: code.index("ret" if cpu == "apple-m1" else "retq")])
# ~ haswell: cmpq vxorps movq vmovups vaddps vcmpnleps vandps vmovups addq cmpq incq cmpq vzeroupper
# ~ apple-m1: cmp mov mov mov mov ldp ldp fadd fadd fcmle bic fcmle bic add stp cmp add cmp

# %% [markdown]
# **Learned.** One text, two machines. On the first, the loop is `vmovups` (load eight floats),
# `vaddps` (add eight more), a comparison and a mask for the maximum, and `vmovups` again to store;
# the second has registers of four floats, so LLVM splits each vector in two. What is left counts
# the rounds of the loop. minicomp decides what is computed and in which order; registers and
# instructions are LLVM's part.
#
# **In the source.** [`assembly`](../minicomp/runtime/jit.py) and
# [`compile_ir`](../minicomp/runtime/jit.py); a compiled module has `llvm_ir()` and `assembly()`,
# and `MINICOMP_DEBUG=kernels,llvm,asm` prints all of it.

# %% [markdown]
# ## How does Python call it?

# %%
import ctypes

from minicomp.runtime.cpu_kernels import loop_kernel
from minicomp.runtime.target import host_target

kernel = kernel_of(lambda x: x / x.sum(axis=1, keepdims=True), np.zeros((4, 3), np.float32))
compiled = loop_kernel(kernel, host_target())
function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(compiled.address)

x, out = np.arange(12, dtype=np.float32).reshape(4, 3), np.zeros((4, 3), np.float32)
arguments = (ctypes.c_void_p * 2)(x.ctypes.data, out.ctypes.data)
function(ctypes.addressof(arguments), 1, 3)  # rows 1 and 2 alone
print(out)
# > [[0.         0.         0.        ]
# >  [0.25       0.33333334 0.4166667 ]
# >  [0.2857143  0.33333334 0.3809524 ]
# >  [0.         0.         0.        ]]

# %% [markdown]
# **Learned.** A compiled kernel is an address. It takes a table of pointers, one per argument, and
# the rows to do. Nothing in it checks anything: the compiler has checked shapes and dtypes before,
# once, and the addresses it is given are its caller's word.
#
# **In the source.** [`CpuKernel`](../minicomp/runtime/cpu_kernels.py); in a compiled module
# one native function calls all kernels in turn
# ([`emit_program`](../minicomp/codegen/llvm_program.py)), and
# [minicomp/runtime/threads.py](../minicomp/runtime/threads.py) shares out the rows.
#
# Next: [who multiplies the matrices](05_choosing_a_matmul.py).
