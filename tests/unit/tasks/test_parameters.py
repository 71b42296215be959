"""A function's parameters and a job's data, in both directions."""

from __future__ import annotations

from typing import Any

import pytest

from toril import Job, errors
from toril.tasks.parameters import Parameters


def example(to: str, copies: int = 1, *, tags: list[str] | None = None, job: Job = Job.current()) -> None: ...


def test_a_call_becomes_an_object_without_defaults() -> None:
    parameters = Parameters(example)
    assert parameters.context_names == ["job"]
    assert parameters.bind(("a",), {}) == {"to": "a"}
    assert parameters.bind(("a", 2), {"tags": ["x"]}) == {"to": "a", "copies": 2, "tags": ["x"]}


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        ((), {}, "data.to: is missing"),
        (("a", 2, 3), {}, "example takes 2 arguments, 3 were given"),
        (("a",), {"to": "b"}, "data.to: is given twice"),
        (("a",), {"job": 1}, "data.job: is filled in by the worker"),
        (("a",), {"cc": 1}, "data.cc: is unknown; known are to, copies, tags"),
        ((1,), {}, "data.to: must be text"),
        (("a", True), {}, "data.copies: must be a whole number"),
        (("a",), {"tags": "x"}, "data.tags: must be a list or null"),
    ],
)
def test_a_call_that_could_never_run_is_refused(args: tuple[Any, ...], kwargs: dict[str, Any], words: str) -> None:
    with pytest.raises(errors.InvalidPayloadError) as caught:
        Parameters(example).bind(args, kwargs)
    assert words in str(caught.value)


def test_only_what_json_has_a_type_for_is_checked() -> None:
    def loose(number: float, other: bytes, nothing_said, either: int | str = 1) -> None: ...  # type: ignore[no-untyped-def]

    check = Parameters(loose).check
    check({"number": 1, "other": "anything", "nothing_said": [None], "either": "x"})
    with pytest.raises(errors.InvalidPayloadError, match=r"data\.number: must be a number"):
        check({"number": "1", "other": 1, "nothing_said": 1})
    with pytest.raises(errors.InvalidPayloadError, match=r"data\.either: must be a whole number or text"):
        check({"number": 1.5, "other": 1, "nothing_said": 1, "either": None})


def test_keys_without_a_parameter_are_named_when_they_are_no_fault() -> None:
    assert Parameters(example).check({"to": "a", "cc": 1, "job": 2}, refuses_unknown=False) == ["cc", "job"]
    assert Parameters(example).check({"to": "a"}, refuses_unknown=False) == []
    with pytest.raises(errors.InvalidPayloadError, match=r"data\.to: must be text"):
        Parameters(example).check({"cc": 1, "to": 5}, refuses_unknown=False)


def test_other_keys_are_welcome_where_the_function_says_so() -> None:
    def open_minded(to: str, **rest: Any) -> None: ...

    Parameters(open_minded).check({"to": "a", "cc": 1})


@pytest.mark.parametrize("function", [lambda *args: None, eval("lambda a, /: None")])
def test_parameters_without_a_name_are_refused(function: Any) -> None:
    with pytest.raises(errors.InvalidOptionError, match="has no name in a job's data"):
        Parameters(function)
