"""numpy's scalars and arrays, saved without importing numpy."""

from __future__ import annotations

import re
import sys
from base64 import b64encode
from binascii import a2b_base64
from math import prod
from typing import Any, Final

from supersteps.checkpoint.codec.builtins import EncodeWalk, encode_float, encode_int, encode_str
from supersteps.checkpoint.codec.plain import TAG, VALUE
from supersteps.checkpoint.codec.plans import CopyWalk
from supersteps.checkpoint.codec.trouble import Trouble, short
from supersteps.typing import display_name, type_name

MAX_ARRAY_BYTES: Final = 16 * 1024 * 1024
"""Larger arrays belong in a file or an object store, and their path in the message."""

_DTYPE: Final = re.compile(r"[<>|](b1|[iu][1248]|f[248]|c(8|16)|[SU][1-9]\d{0,8}|[mM]8(\[\w+\])?)")
_TIMES: Final = "mM"


class ScalarPlan:
    """One type of numpy's scalars, by its `.item()`: `{"$": "numpy:float64", "$value": 1.5}`."""

    def __init__(self, cls: Any) -> None:
        self._cls = cls
        self._tag = type_name(cls)

    def encode(self, walk: EncodeWalk, value: Any, depth: int) -> Any:
        kind = value.dtype.kind
        if not _is_portable(value.dtype):
            raise Trouble(_refusal(value, "use a Python number, or a float64"))
        if kind in _TIMES:
            number = int(value.view("i8"))
            return {TAG: self._tag, VALUE: number, "dtype": value.dtype.str}
        item = value.item()
        match item:
            case bool():
                coded: Any = item
            case int():
                coded = encode_int(walk, item, depth)
            case float():
                coded = encode_float(walk, item, depth)
            case str():
                coded = encode_str(walk, item, depth)
            case _:  # complex, bytes
                coded = walk.table[type(item)](walk, item, depth + 1)
        return {TAG: self._tag, VALUE: coded}

    def revive(self, node: dict[str, Any]) -> Any:
        item, code = node.get(VALUE), node.get("dtype")
        shaped = node.keys() == ({TAG, VALUE} if code is None else {TAG, VALUE, "dtype"})
        if not shaped or type(item) not in (bool, int, float, complex, str, bytes):
            raise Trouble(f"a saved {short(self._tag)} needs a number or text under {VALUE!r}")
        if code is None:
            made = self._cls(item)
        else:
            numpy = sys.modules["numpy"]
            made = numpy.array(item, "i8").view(_checked(code))[()]
        if type(made) is not self._cls:
            raise Trouble(f"{short(item)} is not a valid {display_name(self._cls)}")
        return made

    def copy(self, walk: CopyWalk, value: Any, depth: int) -> Any:
        return value if _is_portable(value.dtype) else walk.copy_unknown(value)


class ArrayPlan:
    """Arrays of numbers, times and text: bytes, dtype and shape."""

    def __init__(self, cls: Any) -> None:
        self._cls = cls
        self._tag = type_name(cls)

    def encode(self, walk: EncodeWalk, value: Any, depth: int) -> Any:
        if not _is_portable(value.dtype):
            raise Trouble(_refusal(value, "use an array of numbers, or value.tolist()"))
        if value.nbytes > MAX_ARRAY_BYTES:
            raise Trouble(
                f"it is an array of {value.nbytes:,} bytes, and arrays of up to "
                f"{MAX_ARRAY_BYTES:,} are saved; write it to a file and send the path"
            )
        coded = {TAG: self._tag, "dtype": value.dtype.str, "shape": list(value.shape)}
        order = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
        if order == "F":
            coded["order"] = order
        return {**coded, "v": b64encode(value.tobytes(order)).decode("ascii")}

    def revive(self, node: dict[str, Any]) -> Any:
        shape, order = node.get("shape"), node.get("order", "C")
        if (
            node.keys() - {"order"} != {TAG, "dtype", "shape", "v"}
            or type(shape) is not list
            or not all(type(length) is int and length >= 0 for length in shape)
            or type(node["v"]) is not str
            or order not in ("C", "F")
        ):
            raise Trouble(f"a saved {short(self._tag)} needs a dtype, a shape and bytes")
        data = a2b_base64(node["v"], strict_mode=True)
        dtype = _checked(node["dtype"])
        if prod(shape) * dtype.itemsize != len(data):
            raise Trouble(f"{len(data)} bytes are not an array of {short(node['dtype'])} {shape}")
        made = self._cls(shape, dtype, buffer=bytearray(data) or None, order=order)
        return made.copy(order)

    def copy(self, walk: CopyWalk, value: Any, depth: int) -> Any:
        return value.copy("K") if _is_portable(value.dtype) else walk.copy_unknown(value)


def _is_portable(dtype: Any) -> bool:
    """Return whether a dtype is portable: no objects, records, long doubles."""
    return _DTYPE.fullmatch(dtype.str) is not None and dtype.names is None and not dtype.shape


def _checked(code: Any) -> Any:
    if type(code) is not str or _DTYPE.fullmatch(code) is None:
        raise Trouble(f"{short(code)} is not a supported dtype")
    return sys.modules["numpy"].dtype(code)


def _refusal(value: Any, remedy: str) -> str:
    return f"its dtype {short(str(value.dtype))} is not the same on every machine; {remedy}"
