"""JSON as every BullMQ client reads it: data, return values and progress.

Stricter than `json`: a value that Node cannot parse, or would change, is refused with its path.
"""

from __future__ import annotations

import json
import math
import re
import types
from json.encoder import c_make_encoder, encode_basestring  # type: ignore[attr-defined]  # the stubs leave it out
from typing import Any, NoReturn

from toril import errors

MAX_SAFE_INTEGER = 2**53
"""JavaScript's numbers are doubles: larger integers arrive changed."""

MAX_DATA_BYTES = 256 * 1024 * 1024
"""Largest data of a job that our clients add, as JSON in UTF-8. Queues may set lower limits (`sizeLimit`)."""
MAX_BYTES = 512 * 1024 * 1024 - 1
"""Largest return value or progress, as JSON in UTF-8: Redis takes no longer text (`proto-max-bulk-len`)."""

PATH_ENDS = 60
"""Characters that an error shows of each end of a long path."""
MAX_LOG_ROW = 65_536
"""Longer log rows are cut, characters."""

MAX_DEPTH = 200
"""Largest nesting of objects and arrays. JSON readers fail at some depth below a thousand levels, Python's at one that
depends on the call stack. Every worker can read 200 levels."""

_MAYBE_LARGE_INTEGER = re.compile(r"[0-9]{16}")
_CONTAINERS = (dict, list, tuple)
_NO_INTEGERS = frozenset((str, bool, float, type(None)))
"""Types that are no integers and contain none."""
_SCALARS = _NO_INTEGERS | {int}
"""Types that contain no other values. Subclasses are checked in the slow way."""
_join = "".join
"""`join` of all keys of an object raises TypeError when one is no text: the fastest check for that."""


def _no_default(value: Any) -> NoReturn:
    raise TypeError(f"a {type(value).__name__} is not JSON")


_pieces = c_make_encoder(None, _no_default, encode_basestring, None, ":", ",", False, False, False)
"""The encoder that `json.dumps` makes anew in each call. It has no check for circular values, which end in a
RecursionError."""


def log_row(row: object) -> str:
    """A row of a job's log as it is stored: lone surrogates are replaced, and long rows are cut."""
    return str(row).encode(errors="replace").decode()[:MAX_LOG_ROW]


def encode(value: Any, field: str = "data") -> str:
    """Write `value` as compact JSON text.

    Args:
        field: how errors name the value, such as `data` or `return value`.

    Raises:
        InvalidPayloadError: not JSON (NaN and infinities included), an integer beyond 2**53, a key that is no text, a
            lone surrogate, more than 200 levels, or larger than `MAX_DATA_BYTES` (data) or `MAX_BYTES`; the error names
            the path inside the value. Nothing has been written.
    """
    try:
        text = "".join(_pieces(value, 0))
        size = len(text) if text.isascii() else len(text.encode())
    except (TypeError, ValueError, RecursionError):
        _refuse(value, field)
    limit = MAX_DATA_BYTES if field == "data" else MAX_BYTES
    if size > limit:
        raise errors.InvalidPayloadError(
            field, f"is {size} bytes as JSON; the limit is {limit}: store it elsewhere and send where it is"
        )
    try:
        if type(value) is dict and _NO_INTEGERS.issuperset(map(type, value.values())):
            _join(value)
            return text
        _try_keys(value)
    except (TypeError, RecursionError):
        _check(value, field, 0)
    if _MAYBE_LARGE_INTEGER.search(text) or _is_too_deep(value, text):
        _check(value, field, 0)
    return text


def decode(text: str | bytes, field: str = "data") -> Any:
    """Read JSON text; missing or empty text is `{}`, as BullMQ reads it.

    Raises:
        InvalidPayloadError: the text is not JSON.
    """
    if not text:
        return {}
    try:
        if isinstance(text, bytes):
            text = text.decode(errors="surrogatepass")
        try:
            value, end = _scan(text, 0)
        except StopIteration:
            return _decoder.decode(text)
        # Text without white space around the value, as JSON encoders write it, ends with the value.
        return value if end == len(text) else _decoder.decode(text)
    except (ValueError, RecursionError) as error:
        raise errors.InvalidPayloadError(field, f"is not JSON ({error})") from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_decoder = json.JSONDecoder(parse_constant=_no_constant)
"""The decoder that `json.loads` makes anew in each call with an option."""
_scan = _decoder.scan_once  # type: ignore[attr-defined]  # the stubs leave it out


def _refuse(value: Any, field: str) -> NoReturn:
    """Find the part of `value` that cannot be written and name it."""
    _check(value, field, 0)
    raise errors.InvalidPayloadError(field, "cannot be written as JSON")


def _try_keys(whole: Any) -> None:
    """Raise TypeError when a key inside is no text, which would be written as text without a word.

    Raises RecursionError for what is nested very deeply.
    """
    if isinstance(whole, dict):
        _join(whole)
        whole = whole.values()
    elif not isinstance(whole, list | tuple):
        return
    if not _SCALARS.issuperset(map(type, whole)):
        for part in whole:
            if type(part) not in _SCALARS:
                _try_keys(part)


def _is_too_deep(value: Any, text: str) -> bool:
    """Whether the value has more than `MAX_DEPTH` levels. Only long texts with many brackets are searched."""
    if len(text) <= 2 * MAX_DEPTH or text.count("[") + text.count("{") <= MAX_DEPTH:
        return False
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            part
            for whole in level
            for part in (whole.values() if isinstance(whole, dict) else whole)
            if type(part) not in _SCALARS and isinstance(part, _CONTAINERS)
        ]
        if not level:
            return False
    return True


def _check(value: Any, path: str, depth: int) -> None:
    """Raise for the first part of `value` that may not be written. Args: depth: number of containers around it."""
    problem = _problem(value)
    if depth == MAX_DEPTH and isinstance(value, _CONTAINERS):
        problem = f"is nested more than {MAX_DEPTH} levels deep"
    if problem is not None:
        raise errors.InvalidPayloadError(_shortened(path), problem)
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                words = f"has the key {repr(key)[:80]}, of type {type(key).__name__}; keys must be text"
                raise errors.InvalidPayloadError(_shortened(path), words)
            _check(inner, f"{path}.{key}", depth + 1)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            _check(inner, f"{path}[{index}]", depth + 1)


def _shortened(path: str) -> str:
    """A path for people: of a long one the first and the last characters."""
    return path if len(path) <= 2 * PATH_ENDS else f"{path[:PATH_ENDS]}…{path[-PATH_ENDS:]}"


def _problem(value: Any) -> str | None:
    """What is wrong with one value, without the values inside; None = nothing."""
    if value is None or isinstance(value, bool | dict | list | tuple):
        return None
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return "holds a lone surrogate, which is no text"
        return None
    if isinstance(value, int):
        return None if abs(value) <= MAX_SAFE_INTEGER else "is an integer beyond 2**53: send it as text"
    if isinstance(value, float):
        return None if math.isfinite(value) else f"is {value}, which JSON does not have"
    if isinstance(value, types.GeneratorType | types.AsyncGeneratorType):
        return "is a generator, which is not JSON: a call does not run a generator's body"
    return f"is a {type(value).__name__}, which is not JSON"
