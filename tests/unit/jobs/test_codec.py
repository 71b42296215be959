"""JSON that every BullMQ client reads, and what is refused."""

from __future__ import annotations

import collections
import enum
import http
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toril import errors
from toril.jobs import codec

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=20,
)  # fmt: skip


@given(json_values)
def test_what_json_can_say_comes_back_equal(value: Any) -> None:
    assert codec.decode(codec.encode(value)) == value


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (math.nan, "data"),
        ({"a": [1, {"b": math.inf}]}, "data.a[1].b"),
        ({"n": 2**53 + 1}, "data.n"),
        ([-(2**60)], "data[0]"),
        ({"t": "\ud800"}, "data.t"),
        ({"k": {1, 2}}, "data.k"),
        ({"o": object()}, "data.o"),
        ({"b": b"raw"}, "data.b"),
        ({(1, 2): 3}, "data"),
        ({1: "a", "1": "b"}, "data"),
        ({"prices": {1: "a"}}, "data.prices"),
        ({"rows": [{}, {"n": 1, None: 2}]}, "data.rows[1]"),
        ([({True: 1},)], "data[0][0]"),
        ({"a": {"b": {1.5: 1}}}, "data.a.b"),
        ({"m": collections.OrderedDict({7: 1})}, "data.m"),
        ({"day": {http.HTTPStatus.OK: 1}}, "data.day"),
    ],
)
@pytest.mark.requirement("T16")
def test_what_others_cannot_read_is_refused_by_its_path(value: Any, path: str) -> None:
    with pytest.raises(errors.InvalidPayloadError) as refusal:
        codec.encode(value)
    assert refusal.value.field == path


class Colour(enum.StrEnum):
    RED = "red"


def test_a_key_that_is_no_text_is_named_in_the_message() -> None:
    with pytest.raises(errors.InvalidPayloadError, match=r"^data\.a: has the key 1, of type int; keys must be text$"):
        codec.encode({"a": {1: 2}})
    with pytest.raises(errors.InvalidPayloadError, match=r"^progress: has the key None, of type NoneType"):
        codec.encode({None: 2}, "progress")


def test_a_key_of_a_kind_of_text_is_text() -> None:
    assert codec.encode({Colour.RED: {Colour.RED: 1}}) == '{"red":{"red":1}}'


def test_a_long_text_of_digits_is_no_large_integer() -> None:
    assert json.loads(codec.encode({"card": "12345678901234567890"})) == {"card": "12345678901234567890"}


def test_endless_nesting_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(errors.InvalidPayloadError):
        codec.encode(value)


def nested(levels: int, innermost: Any, kind: str) -> Any:
    value = innermost
    for _ in range(levels):
        value = (
            collections.OrderedDict(a=0, b=value, c=1)
            if kind == "objects"
            else [value]
            if kind == "arrays"
            else (value,)
        )
    return value


@pytest.mark.parametrize("kind", ["arrays", "objects", "tuples"])
@pytest.mark.parametrize("innermost", [0, "1234567890123456", [], {}])
def test_what_is_nested_too_deeply_is_refused_whatever_it_holds(kind: str, innermost: Any) -> None:
    levels = codec.MAX_DEPTH - isinstance(innermost, list | dict)
    written = codec.encode(nested(levels, innermost, kind))
    assert codec.encode(codec.decode(written)) == written
    for more in (1, 100, 100_000):
        with pytest.raises(errors.InvalidPayloadError, match="more than 200 levels deep"):
            codec.encode(nested(levels + more, innermost, kind))


def test_many_brackets_are_no_deep_nesting() -> None:
    values: list[Any] = [[[] for _ in range(1000)], {"rows": [{"n": [n]} for n in range(1000)]}, ["[{" * 1000]]
    for value in values:
        assert codec.decode(codec.encode(value)) == value


def test_missing_data_reads_as_an_empty_object() -> None:
    assert codec.decode(b"") == {}


@pytest.mark.parametrize("text", ["{", "NaN", "[Infinity]", "'x'"])
def test_text_that_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(errors.InvalidPayloadError):
        codec.decode(text)


def test_a_long_path_is_shortened_in_the_middle() -> None:
    value: Any = {1, 2}
    for _ in range(150):
        value = [{"inner": value}]
    with pytest.raises(errors.InvalidPayloadError) as refused:
        codec.encode(value)
    path = refused.value.field
    assert path.startswith("data[0].inner[0].inner")
    assert path.endswith(".inner[0].inner")
    assert len(path) == 2 * codec.PATH_ENDS + 1
