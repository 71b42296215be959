"""What functions of users raise: the errors inside groups, their words, and letting go of what they hold."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator

MAX_REASON = 16_384
"""Longer reasons are cut, characters."""
MAX_LEAVES = 20
"""So many errors of a group are named in its reason."""


def leaves_of(error: BaseException) -> Iterator[BaseException]:
    """The error itself; of a group (`asyncio.TaskGroup`, anyio) the errors in it and in the groups in it, in order."""
    waiting = [error]
    while waiting:
        each = waiting.pop()
        if isinstance(each, BaseExceptionGroup):
            waiting += reversed(each.exceptions)
        else:
            yield each


def reason_of(error: BaseException) -> str:
    """What people read: the error's own words, else the name of its class; of a group, also what is in it."""
    words = _words(error) or type(error).__name__
    if isinstance(error, BaseExceptionGroup):
        leaves = list(itertools.islice(leaves_of(error), MAX_LEAVES + 1))
        named = [f"{type(leaf).__name__}: {_words(leaf)}".removesuffix(": ") for leaf in leaves[:MAX_LEAVES]]
        words += ": " + "; ".join(named + ["…"] * (len(leaves) > MAX_LEAVES))
    return storable(words)[:MAX_REASON]


def let_go(error: BaseException) -> None:
    """Free what the functions that an error came through held in their variables.

    Each traceback holds frames, and frames hold variables: all of that would stay until Python's collector of cycles
    runs, which goes by the number of objects and not by their size.
    """
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        waiting += (each.__cause__, each.__context__)
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions
        # A class of users may refuse it.
        with contextlib.suppress(Exception):
            each.__traceback__ = None


def storable(text: str) -> str:
    """Text that is UTF-8: lone surrogates become question marks."""
    return text.encode(errors="replace").decode()


def _words(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException:
        # An exception whose text cannot be made is still a failure to be told.
        return ""
