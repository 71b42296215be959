"""The part of `Queue` that registers functions to be called around a worker's life and around each job."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, Self, TypeVar

from toril.tasks.context import Job
from toril.tasks.parameters import refuse_generator

L = TypeVar("L", bound=Callable[[], Any])
J = TypeVar("J", bound=Callable[[Job], Any])
C = TypeVar("C", bound=Callable[[Job, Any], Any])
H = TypeVar("H", bound=Callable[[Job, BaseException], Any])


@dataclass(slots=True)
class HookFunctions:
    """The functions of a queue, by the moment that they are called at, each in the order of registration."""

    start: list[Callable[[], Any]] = field(default_factory=list)
    stop: list[Callable[[], Any]] = field(default_factory=list)
    before: list[Callable[[Job], Any]] = field(default_factory=list)
    after: list[Callable[[Job], Any]] = field(default_factory=list)
    completed: list[Callable[[Job, Any], Any]] = field(default_factory=list)
    attempt_failed: list[Callable[[Job, BaseException], Any]] = field(default_factory=list)
    exhausted: list[Callable[[Job, BaseException], Any]] = field(default_factory=list)

    def extend(self, others: Self) -> None:
        """Add the functions of another `Queue` object of the same name."""
        for each in fields(self):
            getattr(self, each.name).extend(getattr(others, each.name))


class HookMethods:
    """Decorators of `Queue`, for plain and `async` functions; docs/processors.md says when and where each is called."""

    hooks: HookFunctions

    def on_start(self, function: L, /) -> L:
        """Have a function called once when a worker of this queue starts, before it takes jobs: `@queue.on_start`.

        What it raises ends the worker with code 1. A plain function runs in a thread.
        """
        return _add(self.hooks.start, function)

    def on_stop(self, function: L, /) -> L:
        """Have a function called once when a worker ends: its jobs have ended or were given back.

        It has 10 s. What it raises is logged. A plain function runs in a thread.
        """
        return _add(self.hooks.stop, function)

    def before_job(self, function: J, /) -> J:
        """Have a function called before each attempt, where that will run: in its thread, or on the event loop.

        What it raises fails the attempt, as if the job's own function had raised it.
        """
        return _add(self.hooks.before, function)

    def after_job(self, function: J, /) -> J:
        """Have a function called after each attempt, however that ended, where it ran. Redis does not know the end yet.

        What it raises is logged and changes nothing.
        """
        return _add(self.hooks.after, function)

    def on_completed(self, function: C, /) -> C:
        """Have a function called when a job has completed, with the job and what it returned, as it is stored."""
        return _add(self.hooks.completed, function)

    def on_attempt_failed(self, function: H, /) -> H:
        """Have a function called for each failed attempt, the last one too, with the job and its error."""
        return _add(self.hooks.attempt_failed, function)

    def on_exhausted(self, function: H, /) -> H:
        """Have a function called once when a job has failed for good: no attempts left, or an error without another.

        The function runs in the worker, after the failure is recorded, with the job and its error; plain functions run
        in a thread. A worker that is killed in that moment does not call it. A worker with a thousand ended jobs whose
        functions have not run yet does not call it either. To miss no failure, read the queue's events. The same holds
        for `on_completed` and `on_attempt_failed`.
        """
        return _add(self.hooks.exhausted, function)


F = TypeVar("F", bound=Callable[..., Any])


def _add(functions: list[Callable[..., Any]], function: F) -> F:
    refuse_generator(function)
    functions.append(function)
    return function
