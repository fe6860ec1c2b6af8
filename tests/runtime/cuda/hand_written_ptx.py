"""PTX for tests of the runtime, written by hand: kernels that add and that copy."""

from minicomp.codegen.ptx_kernel import PTXKernel

HEADER = ".version 7.0\n.target sm_80\n.address_size 64\n"

# out[i] = x[i] + y[i], a thread an element
ADD = (
    HEADER
    + """
.visible .entry add(.param .u64 x, .param .u64 y, .param .u64 out)
{
    .reg .b32 %r<5>;
    .reg .b64 %rd<8>;
    .reg .f32 %f<4>;
    ld.param.u64 %rd1, [x];
    ld.param.u64 %rd2, [y];
    ld.param.u64 %rd3, [out];
    mov.u32 %r1, %ctaid.x;
    mov.u32 %r2, %ntid.x;
    mov.u32 %r3, %tid.x;
    mad.lo.s32 %r4, %r1, %r2, %r3;
    mul.wide.s32 %rd4, %r4, 4;
    add.s64 %rd5, %rd1, %rd4;
    add.s64 %rd6, %rd2, %rd4;
    add.s64 %rd7, %rd3, %rd4;
    ld.global.f32 %f1, [%rd5];
    ld.global.f32 %f2, [%rd6];
    add.rn.f32 %f3, %f1, %f2;
    st.global.f32 [%rd7], %f3;
    ret;
}
"""
)

# out[i] = x[i], through dynamic shared memory, from the far end of what the block asked for
THROUGH_SHARED = (
    HEADER
    + """
.extern .shared .align 16 .b8 dynamic[];
.visible .entry through_shared(.param .u64 x, .param .u64 out)
{
    .reg .b32 %r<6>;
    .reg .b64 %rd<6>;
    ld.param.u64 %rd1, [x];
    ld.param.u64 %rd2, [out];
    mov.u32 %r1, %tid.x;
    mul.wide.s32 %rd3, %r1, 4;
    add.s64 %rd4, %rd1, %rd3;
    add.s64 %rd5, %rd2, %rd3;
    mov.u32 %r2, dynamic;
    mad.lo.s32 %r3, %r1, 4, %r2;
    ld.global.b32 %r4, [%rd4];
    st.shared.b32 [%r3+OFFSET], %r4;
    bar.sync 0;
    ld.shared.b32 %r5, [%r3+OFFSET];
    st.global.b32 [%rd5], %r5;
    ret;
}
"""
)


def add_kernel(elements: int, block: int = 128) -> PTXKernel:
    """Adds float32 arrays of a whole number of blocks."""
    return PTXKernel(ADD, "add", (elements // block, 1, 1), (block, 1, 1))


def shared_kernel(threads: int, shared_bytes: int) -> PTXKernel:
    """Copies one block's worth of 4-byte elements, through the end of its shared memory."""
    text = THROUGH_SHARED.replace("OFFSET", str(shared_bytes - 4 * threads))
    return PTXKernel(text, "through_shared", (1, 1, 1), (threads, 1, 1), shared_bytes)
