"""Awaits what a job's function returned, and keeps processes that the job forked out of the worker's event loop."""

from __future__ import annotations

import contextvars
import inspect
import types
from collections.abc import Coroutine, Generator
from typing import Any

from toril.worker import forks

_PLAIN = frozenset({type(None), str, int, float, bool, dict, list, tuple})


class Awaitable:
    """What a function in a thread returned, to be awaited on the loop, and the context that this belongs to."""

    __slots__ = ("context", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self.context = contextvars.copy_context()

    def drop(self) -> None:
        """It will not be awaited."""
        if isinstance(self.value, types.CoroutineType):
            self.value.close()


def is_awaitable(value: Any) -> bool:
    """Whether a result is not there yet, as of a plain function around an `async def`."""
    kind = type(value)
    return kind not in _PLAIN and (kind is types.CoroutineType or inspect.isawaitable(value))


@types.coroutine
def drive(coroutine: Coroutine[Any, Any, Any], waits_for: Any) -> Generator[Any, Any, Any]:
    """Await the rest of a coroutine whose last step has returned `waits_for`.

    Each step is driven from here, for one reason: a step may come back in a process that the job has forked. There the
    event loop is a copy of the worker's and would run the worker's other jobs a second time.
    """
    try:
        while True:
            if forks.is_child:
                forks.end_child(forks.CANNOT_WAIT)
            try:
                sent = yield waits_for
            except GeneratorExit:
                coroutine.close()
                raise
            except BaseException as thrown:
                waits_for = coroutine.throw(thrown)
            else:
                waits_for = coroutine.send(sent)
    except StopIteration as stop:
        return stop.value


async def as_coroutine(awaitable: Any) -> Any:
    """Anything that can be awaited, as a coroutine."""
    return await awaitable
