"""Small PTX kernels for tests: written around the lines of interest, assembled, and run.

    values = result_of("add.u32", np.uint32, a, b)      # one instruction, elementwise
    report, out = run(BODY, x, out=np.zeros(32))        # a whole body; parameters p0, p1, ...

Every text is also given to `ptxas`, so that the tests test PTX as it is.
"""

import functools
import subprocess

import numpy as np
from ptxas import assembler

from minicomp.simulator import Simulator

REGISTERS = """
  .reg .pred %p<20>; .reg .b16 %h<20>; .reg .b32 %r<60>; .reg .b64 %rd<40>;
  .reg .f32 %f<60>; .reg .f64 %fd<20>;
"""
#: each thread's number in the grid, for one-dimensional blocks, in %r50, and 4 times it in %rd30
INDEX = """
  mov.u32 %r51, %ctaid.x; mov.u32 %r52, %ntid.x; mov.u32 %r53, %tid.x;
  mad.lo.u32 %r50, %r51, %r52, %r53; mul.wide.u32 %rd30, %r50, 4;
"""
_PREFIX = {"u2": "%h", "i2": "%h", "u4": "%r", "i4": "%r", "u8": "%rd", "i8": "%rd"}
_PREFIX |= {"f4": "%f", "f8": "%fd"}


@functools.cache
def check_assembles(text, target="sm_80"):
    """Raises AssertionError with ptxas's words if it does not take the text."""
    command = [assembler(), "-arch", target, "-o", "/dev/null", "/dev/stdin"]
    done = subprocess.run(command, input=text, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr + done.stdout + text


def kernel(body, parameters=1, shared="", before="", version="8.0", target="sm_80", directives=""):
    """A module's text, with `body` from line 10 on where `shared` and `before` are one line."""
    names = ", ".join(f".param .u64 p{i}" for i in range(parameters))
    registers = " ".join(REGISTERS.split())
    loads = " ".join(f"ld.param.u64 %rd{i}, [p{i}];" for i in range(parameters))
    return "\n".join(
        [
            f".version {version}",
            f".target {target}",
            ".address_size 64",
            before,
            f".visible .entry kernel({names}) {directives}",
            "{",
            registers,
            shared,
            loads,
            body.strip("\n"),
            "}",
            "",
        ]
    )


def launch(text, *arrays, grid=1, block=32, shared_bytes=0, assemble=True, **options):
    """Run the module's kernel on copies of the arrays: the report, and the arrays afterwards.

    None stands for an array of 4096 bytes never written, which comes back as uint32."""
    if assemble:
        check_assembles(text)
    device = Simulator(**options)
    pointers = [device.allocate(4096 if array is None else array.nbytes) for array in arrays]
    for pointer, array in zip(pointers, arrays):
        if array is not None:
            device.write(pointer, array)
    report = device.launch(device.load(text), "kernel", grid, block, pointers, shared_bytes)
    after = [
        device.read(pointer, 4096).view(np.uint32)
        if array is None
        else device.read(pointer, array.nbytes).view(array.dtype).reshape(array.shape)
        for pointer, array in zip(pointers, arrays)
    ]
    return report, after


def run(body, *arrays, grid=1, block=32, shared_bytes=0, options=None, assemble=True, **text):
    """`launch` of a kernel with this body."""
    text = kernel(body, len(arrays), **text)
    return launch(
        text,
        *arrays,
        grid=grid,
        block=block,
        shared_bytes=shared_bytes,
        assemble=assemble,
        **(options or {}),
    )


def single(opcode, result, *operands, target="sm_80", version="8.0"):
    """The text of a kernel that applies one instruction to its operands' elements: arrays, or
    strings for what stands in the text. Parameters: the arrays, then the result."""
    arrays = [operand for operand in operands if not isinstance(operand, str)]
    lines, names, loaded = [INDEX], [], 0
    lines.append(f"setp.ge.u32 %p9, %r50, {len(arrays[0])}; @%p9 bra end;")
    for operand in operands:
        if isinstance(operand, str):
            names.append(operand)
            continue
        place, code, width = loaded, operand.dtype.str[1:], operand.dtype.itemsize
        loaded += 1
        if operand.dtype == bool:
            name = f"%p{place + 10}"
            lines.append(_load(f"%r{place + 40}", place, 1))
            lines.append(f"setp.ne.u32 {name}, %r{place + 40}, 0;")
        else:
            name = f"{_PREFIX[code]}{place + 10}"
            lines.append(_load(name, place, width))
        names.append(name)
    predicate = np.dtype(result) == bool
    code = np.dtype(result).str[1:]
    target_name = "%p1" if predicate else f"{_PREFIX[code]}15"
    lines.append(f"{opcode} {', '.join([target_name, *names])};")
    if predicate:
        lines.append("selp.u32 %r1, 1, 0, %p1;")
        lines.append(_store("%r1", len(arrays), 1))
    else:
        lines.append(_store(target_name, len(arrays), np.dtype(result).itemsize))
    lines.append("end: ret;")
    body = "\n".join(lines)
    return kernel(body, len(arrays) + 1, target=target, version=version)


def _address(parameter, width):
    return f"mul.wide.u32 %rd31, %r50, {width}; add.u64 %rd32, %rd{parameter}, %rd31; "


def _load(register, parameter, width):
    kind = "u8" if width == 1 else f"b{8 * width}"
    return _address(parameter, width) + f"ld.global.{kind} {register}, [%rd32];"


def _store(register, parameter, width):
    kind = "u8" if width == 1 else f"b{8 * width}"
    return _address(parameter, width) + f"st.global.{kind} [%rd32], {register};"


def result_of(opcode, result, *operands, **options):
    """What one instruction makes of its operands, element by element."""
    text = single(opcode, result, *operands, **options)
    check_assembles(text, options.get("target", "sm_80"))
    arrays = [operand for operand in operands if not isinstance(operand, str)]
    count = len(arrays[0])
    device = Simulator()
    pointers = [device.allocate(array.nbytes) for array in arrays]
    for pointer, array in zip(pointers, arrays):
        device.write(pointer, array)
    pointers.append(device.allocate(count * np.dtype(result).itemsize))
    device.launch(device.load(text), "kernel", -(-count // 128), 128, pointers)
    return device.read(pointers[-1], count * np.dtype(result).itemsize).view(result)


def pairs(values, others=None):
    """Every value with every other, as two arrays."""
    others = values if others is None else others
    a, b = np.meshgrid(values, others)
    return a.ravel().copy(), b.ravel().copy()


def integers(dtype, count=24, seed=0):
    """The corner values of an integer dtype, and random ones of all sizes."""
    info = np.iinfo(dtype)
    random = np.random.default_rng(seed)
    sizes = random.integers(1, info.bits, count)
    signs = [-1, 1] if info.min < 0 else [1]
    values = [int(random.integers(0, 2 ** int(s))) * int(random.choice(signs)) for s in sizes]
    return np.array([0, 1, 2, 3, info.max, info.max - 1, info.min, *signs, *values], dtype)


def floats(dtype, count=40, seed=0):
    """Zeros, infinities, NaN, subnormals, extremes, and random numbers of all sizes."""
    info = np.finfo(dtype)
    random = np.random.default_rng(seed)
    scale = np.exp2(random.uniform(-30, 30, count))
    values = [0.0, 1.0, 0.5, 1.5, 2.5, info.tiny, info.smallest_subnormal, info.max, np.inf]
    values += [3 * info.smallest_subnormal, info.tiny / 4, 1 + info.eps, 1e10, 126.7]
    values = [*values, *(-np.array(values)), np.nan, *(random.standard_normal(count) * scale)]
    return np.array(values, dtype)


def same(a, b):
    """Equal bit by bit, any NaN like any other."""
    if a.dtype.kind != "f":
        return a.dtype == b.dtype and np.array_equal(a, b)
    bits = f"u{a.dtype.itemsize}"
    return bool(np.all((a.view(bits) == b.view(bits)) | (np.isnan(a) & np.isnan(b))))
