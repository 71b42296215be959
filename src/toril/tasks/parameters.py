"""Binds a function's parameters to the keys of a job's data, in both directions."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from toril import errors
from toril.tasks.context import Job

_JSON_TYPES: dict[Any, tuple[type, ...]] = {
    str: (str,),
    int: (int,),
    float: (int, float),
    bool: (bool,),
    None: (type(None),),
    type(None): (type(None),),
    list: (list, tuple),
    dict: (dict,),
}
_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", type(None): "null",
          list: "a list", tuple: "a list", dict: "an object"}  # fmt: skip
MAX_SHAPES = 64
"""Of the data of one function, remembered: those of tasks that take any keys may be without number."""
_EXAMPLES: dict[type, Any] = {str: "text", int: 1, float: 1.5, bool: True, type(None): None, list: [], dict: {}}


class Parameters:
    """A function's parameters as keys of one JSON object.

    Parameters whose default is `Job.current()` are not part of the data. Annotations that JSON has a type for (`str`,
    `int`, `float`, `bool`, `list`, `dict`, `None` and unions of them) are checked, all others are left to the function.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        """Raises: InvalidOptionError: `*args` or positional-only parameters, which have no name in the data."""
        self._function = function
        self.context_names: list[str] = []
        self._positional: list[str] = []
        self._names: list[str] = []
        self._required: set[str] = set()
        self._takes_any = False
        for name, parameter in inspect.signature(function).parameters.items():
            self._note(name, parameter)
        self._checks: dict[str, tuple[type, ...]] | None = None
        self._fitting: set[tuple[object, ...]] = set()
        """Keys and types of values of data that fit: most jobs of a task look alike, and need no look at each key."""

    def _note(self, name: str, parameter: inspect.Parameter) -> None:
        if parameter.kind is parameter.VAR_KEYWORD:
            self._takes_any = True
            return
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY):
            raise errors.InvalidOptionError(
                f"{self._function.__name__}({name})", "has no name in a job's data: use parameters with names"
            )
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            self._positional.append(name)
        if isinstance(parameter.default, Job):
            self.context_names.append(name)
            return
        self._names.append(name)
        if parameter.default is parameter.empty:
            self._required.add(name)

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Turn a call's arguments into a job's data. Defaults are left out: they are the function's to fill in.

        Raises:
            InvalidPayloadError: the function could not be called like this; names the parameter.
        """
        if len(args) > len(self._positional):
            raise errors.InvalidPayloadError(
                "data", f"{self._function.__name__} takes {len(self._positional)} arguments, {len(args)} were given"
            )
        data = {**dict(zip(self._positional, args, strict=False)), **kwargs} if args else dict(kwargs)
        if len(data) < len(args) + len(kwargs):
            twice = next(name for name in self._positional[: len(args)] if name in kwargs)
            raise errors.InvalidPayloadError(f"data.{twice}", "is given twice")
        for name in self.context_names:
            if name in data:
                raise errors.InvalidPayloadError(f"data.{name}", "is filled in by the worker")
        self.check(data)
        return data

    def check(self, data: Any, *, refuses_unknown: bool = True) -> list[str]:
        """Refuse data that does not fit; returns the keys that the function has no parameter for.

        Args:
            refuses_unknown: whether such keys are refused too.

        Raises:
            InvalidPayloadError: not an object, a missing or unknown key, or a value of another JSON type; names it.
        """
        if not isinstance(data, dict):
            names = ", ".join(self._names) or "no keys"
            raise errors.InvalidPayloadError("data", f"must be an object with {names}")
        shape = (*data, *map(type, data.values()))
        if shape in self._fitting:
            return []
        unknown = self._find_unknown(data, refuses_unknown=refuses_unknown)
        if not unknown:
            if len(self._fitting) >= MAX_SHAPES:
                self._fitting.clear()
            self._fitting.add(shape)
        return unknown

    def _find_unknown(self, data: dict[str, Any], *, refuses_unknown: bool) -> list[str]:
        unknown: list[str] = []
        if not self._required <= data.keys():
            missing = next(name for name in self._names if name in self._required and name not in data)
            raise errors.InvalidPayloadError(f"data.{missing}", "is missing")
        checks = self._checks
        if checks is None:
            checks = self._checks = self._make_checks()
        for name, value in data.items():
            accepted = checks.get(name)
            if accepted is not None and type(value) in accepted:
                continue
            if accepted is None:
                if self._takes_any or name in self._names:
                    continue
                if refuses_unknown:
                    known = ", ".join(self._names) or "none"
                    raise errors.InvalidPayloadError(f"data.{name}", f"is unknown; known are {known}")
                unknown.append(name)
            elif not isinstance(value, accepted) or (isinstance(value, bool) and bool not in accepted):
                raise errors.InvalidPayloadError(f"data.{name}", f"must be {_in_words(accepted)}")
        return unknown

    def example(self) -> dict[str, Any]:
        """Data that fits: what is required, with a plain value of its type each. For showing how a job looks."""
        checks = self._make_checks()
        kinds = {name: checks.get(name, (str,))[0] for name in self._names if name in self._required}
        return {name: _EXAMPLES.get(kind, "text") for name, kind in kinds.items()}

    def _make_checks(self) -> dict[str, tuple[type, ...]]:
        """Made at first use: annotations may name things that are defined after the function."""
        try:
            hints = typing.get_type_hints(self._function)
        except Exception:
            # An annotation that cannot be evaluated is no reason not to run the job.
            return {}
        found = ((name, _accepted(hints[name])) for name in self._names if name in hints)
        return {name: accepted for name, accepted in found if accepted is not None}


def refuse_generator(function: Callable[..., Any]) -> None:
    """Raises InvalidOptionError for a generator, also an asynchronous one: calling it runs nothing."""
    called = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004
    for each in (function, called):
        code = getattr(each, "__code__", None)
        if inspect.isasyncgenfunction(each) or (
            # `types.coroutine` makes of a generator what can be awaited.
            inspect.isgeneratorfunction(each) and not (code and code.co_flags & inspect.CO_ITERABLE_COROUTINE)
        ):
            name = str(getattr(function, "__name__", type(function).__name__))
            raise errors.InvalidOptionError(
                name, "is a generator, whose body a call does not run: use `return`, no `yield`"
            )


def _accepted(annotation: Any) -> tuple[type, ...] | None:
    """The Python types of JSON values that an annotation allows; None when it says nothing about JSON."""
    if annotation in (int, float) or annotation in _JSON_TYPES:
        return _JSON_TYPES[annotation]
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        parts = [_accepted(part) for part in typing.get_args(annotation)]
        known = [part for part in parts if part is not None]
        return tuple(dict.fromkeys(sum(known, ()))) if len(known) == len(parts) else None
    return _JSON_TYPES.get(origin) if origin in (list, dict) else None


def _in_words(accepted: tuple[type, ...]) -> str:
    shown = [kind for kind in accepted if not (kind is int and float in accepted)]
    return " or ".join(dict.fromkeys(_WORDS[kind] for kind in shown))
