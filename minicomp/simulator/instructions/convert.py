"""cvt: between integers and floats of all widths, with every rounding mode.

Integers are cut to the narrower width, or clamped with `.sat`. A float that becomes an integer is
rounded as the modifier says (.rni .rzi .rmi .rpi) and always clamped; NaN becomes 0, or the
integer with only the top bit set where a type of 64 bits is involved, as the ISA has it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minicomp.simulator.decode import Action, Form, apply, elementwise, instruction
from minicomp.simulator.formats import MODES, decode, encode
from minicomp.simulator.instructions.floating import canonical, flush, saturate
from minicomp.simulator.types import F32, TYPES, Type

Array = np.ndarray
Function = Callable[[Array], Array]

_INTEGRAL = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}
_PACKED = ("f16x2", "bf16x2")
_PLAIN = ("f16", "bf16", "f32", "f64", "tf32")


@instruction("cvt")
def convert(form: Form) -> Action:
    mode = form.option(*_INTEGRAL, *MODES)
    ftz, sat = bool(form.option("ftz")), bool(form.option("sat"))
    relu = bool(form.option("relu"))
    result, source = form.types(2)
    if result.name in _PACKED and source is F32:
        return _pack(form, result.name, mode, relu)
    for type in (result, source):
        if (not type.integer and type.name not in _PLAIN) or type.kind == "bits":
            form.fail(f"type {type} cannot be converted")
    _check_mode(form, mode, result, source)
    form.arity(2)
    function = _conversion(result, source, mode, ftz=ftz, sat=sat)
    if relu:
        function = _with_relu(form, function, result)
    target = form.destination(0, result, wider=result.integer)
    if source.integer:
        cut, whole = source.dtype, function
        return apply(lambda a: whole(a.astype(cut)), target, form.source(1, source, wider=True))
    return apply(function, target, form.source(1, source))


def _check_mode(form: Form, mode: str, result: Type, source: Type) -> None:
    """Where the ISA asks for a rounding mode, and where it has none."""
    if source.integer and result.integer:
        wrong = mode != ""
    elif result.integer:
        wrong = mode not in _INTEGRAL
    elif source.integer or result.width < source.width or result.name == "tf32":
        wrong = mode not in MODES
    else:
        wrong = mode not in ("", *_INTEGRAL) or (mode != "" and result is not source)
    if wrong or (mode == "rna" and result.name != "tf32"):
        form.fail(f"rounding {mode or 'unsaid'} from {source} to {result}")


def _with_relu(form: Form, function: Function, result: Type) -> Function:
    """Negative results and -0 become 0; only formats kept as bits have this."""
    if result.kind != "half":
        form.fail(f".relu is not for {result}")
    sign, nan = 1 << (result.width - 1), 0x7FFFFFFF if result.width == 32 else 0x7FFF

    def compute(a: Array) -> Array:
        bits = function(a)
        return np.where((bits & sign != 0) & (bits != nan), 0, bits).astype(bits.dtype)

    return compute


def _pack(form: Form, result: str, mode: str, relu: bool) -> Action:
    """Two float32 to a pair: the first operand becomes the upper half."""
    if mode not in ("rn", "rz"):
        form.fail("wanted .rn or .rz")
    element = result.removesuffix("x2")

    def half(a: Array) -> Array:
        value = a.astype(np.float64)
        if relu:
            value = np.where(np.signbit(value) & ~np.isnan(value), 0.0, value)
        return encode(value, element, mode).astype(np.uint32)

    def compute(a: Array, b: Array) -> Array:
        return (half(a) << np.uint32(16)) | half(b)

    return elementwise(form, compute, TYPES[result], F32, F32)


def _conversion(result: Type, source: Type, mode: str, *, ftz: bool, sat: bool) -> Function:
    if source.integer and result.integer:
        return _resized(source, result) if sat else lambda a: a.astype(result.dtype)
    if source.integer:
        return _to_float(result, mode)

    def value(a: Array) -> Array:
        if ftz and source is F32:
            a = flush(a)
        return decode(a, source.name) if source.kind == "half" else a.astype(np.float64)

    if result.integer:
        clamped = _to_integer(result, source)
        return lambda a: clamped(_INTEGRAL[mode](value(a)))
    narrowed = _narrowed(result, "rn" if mode in ("", *_INTEGRAL) else mode)

    def compute(a: Array) -> Array:
        exact = value(a)
        if mode in _INTEGRAL:
            exact = _INTEGRAL[mode](exact)
        if sat:
            exact = saturate(exact)
        converted = narrowed(exact)
        return flush(converted) if ftz and result is F32 else converted

    return compute


def _resized(source: Type, result: Type) -> Function:
    """Integers clamped to the range of another type."""
    low = max(np.iinfo(source.dtype).min, np.iinfo(result.dtype).min)
    high = min(np.iinfo(source.dtype).max, np.iinfo(result.dtype).max)
    return lambda a: np.clip(a, low, high).astype(result.dtype)


def _narrowed(result: Type, mode: str) -> Function:
    if result.name == "f64":
        return lambda exact: exact
    if result is F32 and mode == "rn":
        return lambda exact: canonical(exact.astype(np.float32))
    return lambda exact: encode(exact, result.name, mode)


def _to_float(result: Type, mode: str) -> Function:
    """Integers to floats. 64 bits do not fit float64: the bits below its last are replaced by
    whether there are any (rounding to odd), which later rounding cannot tell apart."""
    if result.name == "f64":
        return lambda a: a.astype(np.float64)
    narrowed = _narrowed(result, mode)

    def compute(a: Array) -> Array:
        if a.dtype.itemsize < 8:
            return narrowed(a.astype(np.float64))
        size = np.where(a < 0, -a, a).view(np.uint64) if a.dtype.kind == "i" else a
        low = size & np.uint64(0x7FF)
        odd = (size >> np.uint64(11)) | (low != 0)
        exact = np.where(size >> np.uint64(53) != 0, odd.astype(np.float64) * 2048.0, size)
        return narrowed(np.where(a < 0, -exact, exact))

    return compute


def _to_integer(result: Type, source: Type) -> Function:
    limits = np.iinfo(result.dtype)
    wide = source.name == "f64" or result.width == 64
    nan = (1 << (result.width - 1)) if wide else 0
    nan = nan - (1 << result.width) if nan > limits.max else nan

    def compute(whole: Array) -> Array:
        low, high = whole <= float(limits.min), whole >= float(limits.max)
        inside = np.where(low | high | np.isnan(whole), 0.0, whole).astype(result.dtype)
        inside = np.where(low, limits.min, np.where(high, limits.max, inside))
        return np.where(np.isnan(whole), nan, inside).astype(result.dtype)

    return compute
