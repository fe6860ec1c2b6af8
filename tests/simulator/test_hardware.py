"""The simulator's instructions against a GPU's, bit by bit, on random and special operands.

What the ISA leaves open (division by zero, approximations) is not compared.
"""

import numpy as np
import pytest
from ptx_kernels import floats, integers, pairs, result_of, same, single

from minicomp.codegen.ptx_kernel import PTXKernel

pytestmark = pytest.mark.cuda

INTEGERS = {f"{k}{w}": np.dtype(f"{'iu'[k == 'u']}{w // 8}") for k in "us" for w in (16, 32, 64)}
FLOATS = {"f32": np.dtype(np.float32), "f64": np.dtype(np.float64)}
AMOUNTS = np.array([0, 1, 5, 15, 16, 31, 32, 33, 63, 64, 255, 256 + 3, 2**32 - 1], np.uint32)


def on_gpu(gpu, opcode, result, *operands, **options):
    """What `result_of` gives, from the GPU."""
    text = single(opcode, result, *operands, **options)
    arrays = [operand for operand in operands if not isinstance(operand, str)]
    count = len(arrays[0])
    kernel = PTXKernel(text, "kernel", (-(-count // 128), 1, 1), (128, 1, 1))
    out = np.zeros(count, result)
    buffers = [gpu.to_device(_words(array)) for array in [*arrays, out]]
    function = gpu.load(kernel)
    pointers = [buffer.__cuda_array_interface__["data"][0] for buffer in buffers]
    gpu.launch(function, pointers, gpu.current_stream())
    data = np.asarray(gpu.to_host(buffers[-1])).view(np.uint8)
    return data[: out.nbytes].view(result)


def _words(array):
    """The array's bytes as int32, which every driver takes."""
    data = array.view(np.uint8)
    return np.concatenate([data, np.zeros(-len(data) % 4, np.uint8)]).view(np.int32)


def agree(gpu, opcode, result, *operands, **options):
    ours = result_of(opcode, result, *operands, **options)
    theirs = on_gpu(gpu, opcode, result, *operands, **options)
    if not same(ours, theirs):
        bits = f"u{ours.dtype.itemsize}"
        place = int(np.flatnonzero(ours.view(bits) != theirs.view(bits))[0])
        values = [operand if isinstance(operand, str) else operand[place] for operand in operands]
        pytest.fail(f"{opcode} of {values}: {ours[place]!r} here, {theirs[place]!r} on the GPU")


@pytest.mark.parametrize("type", INTEGERS)
def test_integer_arithmetic(gpu, type):
    dtype = INTEGERS[type]
    a, b = pairs(integers(dtype))
    c = np.resize(integers(dtype, seed=1), len(a))
    for name in ("add", "sub", "min", "max", "mul.lo", "mul.hi", "setp.lt", "setp.ge"):
        agree(gpu, f"{name}.{type}", bool if name[:4] == "setp" else dtype, a, b)
    agree(gpu, f"mad.lo.{type}", dtype, a, b, c)
    agree(gpu, f"mad.hi.{type}", dtype, a, b, c)
    some = b != 0
    agree(gpu, f"div.{type}", dtype, a[some], b[some])
    agree(gpu, f"rem.{type}", dtype, a[some], b[some])
    amount = np.resize(AMOUNTS, len(a))
    agree(gpu, f"shr.{type}", dtype, a, amount)
    if type[0] == "s":
        agree(gpu, f"abs.{type}", dtype, a)
        agree(gpu, f"neg.{type}", dtype, a)


def test_bits(gpu):
    for width in (32, 64):
        dtype = np.dtype(f"u{width // 8}")
        a, b = pairs(integers(dtype))
        # The ISA counts the low 8 bits of a position; on 64 bits the GPU looks at all of them.
        start = np.resize(AMOUNTS[: 13 if width == 32 else 11], len(a))
        length = np.resize(AMOUNTS[:7], len(a))
        for name in ("u", "s"):
            agree(gpu, f"bfe.{name}{width}", dtype, a, start, length)
            agree(gpu, f"bfind.{name}{width}", np.dtype(np.uint32), a)
            agree(gpu, f"bfind.shiftamt.{name}{width}", np.dtype(np.uint32), a)
        agree(gpu, f"bfi.b{width}", dtype, a, b, start, length)
        agree(gpu, f"shl.b{width}", dtype, a, start)
        agree(gpu, f"brev.b{width}", dtype, a)
        agree(gpu, f"popc.b{width}", np.dtype(np.uint32), a)
        agree(gpu, f"clz.b{width}", np.dtype(np.uint32), a)
    a, b = pairs(integers(np.uint32))
    c = np.resize(integers(np.uint32, seed=1), len(a))
    agree(gpu, "prmt.b32", np.dtype(np.uint32), a, b, c)
    agree(gpu, "lop3.b32", np.dtype(np.uint32), a, b, c, "0x2D")
    for mode in ("clamp", "wrap"):
        for side in "lr":
            amount = np.resize(AMOUNTS, len(a))
            agree(gpu, f"shf.{side}.{mode}.b32", np.dtype(np.uint32), a, b, amount)


@pytest.mark.parametrize("type", FLOATS)
def test_float_arithmetic(gpu, type):
    dtype = FLOATS[type]
    a, b = pairs(floats(dtype))
    c = np.resize(floats(dtype, seed=1), len(a))
    for name in ("add", "sub", "mul", "div.rn", "min", "max", "copysign"):
        agree(gpu, f"{name}.{type}", dtype, a, b)
    agree(gpu, f"fma.rn.{type}", dtype, a, b, c)
    for name in ("sqrt.rn", "rcp.rn", "neg", "abs"):
        agree(gpu, f"{name}.{type}", dtype, a)
    for name in ("finite", "infinite", "number", "notanumber", "normal", "subnormal"):
        agree(gpu, f"testp.{name}.{type}", bool, a)
    for name in ("eq", "ne", "lt", "equ", "neu", "geu", "num", "nan"):
        agree(gpu, f"setp.{name}.{type}", bool, a, b)
    if type == "f32":
        for name in ("add.ftz", "mul.ftz", "min.ftz", "max.NaN", "min.NaN", "mul.sat", "add.sat"):
            agree(gpu, f"{name}.f32", dtype, a, b)
        agree(gpu, "fma.rn.ftz.f32", dtype, a, b, c)
        agree(gpu, "fma.rn.sat.f32", dtype, a, b, c)


def test_float32_results_that_are_no_numbers(gpu):
    a, b = pairs(np.array([np.nan, np.inf, -np.inf, 0.0, 1.0], np.float32))
    for name in ("add.f32", "mul.f32", "div.rn.f32", "min.f32", "max.NaN.f32"):
        ours = result_of(name, np.float32, a, b).view(np.uint32)
        np.testing.assert_array_equal(ours, on_gpu(gpu, name, np.float32, a, b).view(np.uint32))


@pytest.mark.parametrize("form", ["f16", "bf16"])
def test_half_precision_arithmetic(gpu, form):
    bits = np.random.default_rng(0).integers(0, 1 << 16, (3, 4000)).astype(np.uint16)
    names = ["fma.rn", "min", "max", "neg", "abs"] + ["add", "sub", "mul"] * (form == "f16")
    for name in names:
        count = {"fma.rn": 3, "neg": 1, "abs": 1}.get(name, 2)
        ours = result_of(f"{name}.{form}", np.uint16, *bits[:count])
        theirs = on_gpu(gpu, f"{name}.{form}", np.uint16, *bits[:count])
        nan = (ours & 0x7FFF) > (0x7C00 if form == "f16" else 0x7F80)
        np.testing.assert_array_equal(ours[~nan], theirs[~nan], err_msg=name)


@pytest.mark.parametrize("mode", ["rni", "rzi", "rmi", "rpi"])
def test_floats_to_integers(gpu, mode):
    for source, dtype in FLOATS.items():
        edges = 2.0 ** np.array([15, 16, 31, 32, 63, 64])
        a = np.concatenate([floats(dtype), edges, -edges, edges - 0.5, np.arange(-3, 3, 0.5)])
        for result, kind in INTEGERS.items():
            agree(gpu, f"cvt.{mode}.{result}.{source}", kind, a.astype(dtype))
        agree(gpu, f"cvt.{mode}.{source}.{source}", dtype, a.astype(dtype))


@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
def test_conversions_to_floats(gpu, mode):
    for source, kind in INTEGERS.items():
        agree(gpu, f"cvt.{mode}.f32.{source}", FLOATS["f32"], integers(kind, 200))
    a = floats(np.float64, 500)
    agree(gpu, f"cvt.{mode}.f32.f64", FLOATS["f32"], a)
    if mode in ("rn", "rz"):
        b = floats(np.float32, 2000)
        for form in ("f16", "bf16"):
            agree(gpu, f"cvt.{mode}.{form}.f32", np.dtype(np.uint16), b)
            agree(gpu, f"cvt.{mode}.{form}x2.f32", np.dtype(np.uint32), b, b[::-1].copy())
            agree(gpu, f"cvt.{mode}.relu.{form}x2.f32", np.dtype(np.uint32), b, b[::-1].copy())


def test_integers_to_integers(gpu):
    for source, dtype in INTEGERS.items():
        for result, kind in INTEGERS.items():
            agree(gpu, f"cvt.{result}.{source}", kind, integers(dtype))
            limits, own = np.iinfo(kind), np.iinfo(dtype)
            if not (limits.min <= own.min and own.max <= limits.max):
                agree(gpu, f"cvt.sat.{result}.{source}", kind, integers(dtype))


def test_tf32_rounding(gpu):
    a = floats(np.float32, 2000)
    ours = result_of("cvt.rna.tf32.f32", np.uint32, a) & 0xFFFFE000
    theirs = on_gpu(gpu, "cvt.rna.tf32.f32", np.uint32, a) & 0xFFFFE000
    finite = np.isfinite(a)
    np.testing.assert_array_equal(ours[finite], theirs[finite])
