"""Scripts that act on a queue as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toril.engine.connection import Call, Part
from toril.engine.keys import QueueKeys
from toril.engine.scripts.shared import Layout, texts


def pause(keys: QueueKeys, *, layout: Layout = "6") -> Call[bool]:
    """Pause the queue; answers whether it was running."""
    return Call("pause", [keys.wait, keys.paused, keys.meta, keys.marker, keys.events], [layout], bool)


def resume(keys: QueueKeys) -> Call[bool]:
    """Resume the queue; answers whether it was paused."""
    names = [
        keys.wait, keys.paused, keys.meta, keys.marker, keys.events, keys.prioritized, keys.delayed,
    ]  # fmt: skip
    return Call("resume", names, [], bool)


def set_limits(keys: QueueKeys, limits: Mapping[str, int | None], *, layout: Layout = "6") -> Call[bool]:
    """Set fields of `meta` that limit the queue (`concurrency`, `max`, `duration`); None removes one."""
    args: list[Part] = [keys.base, layout]
    for field, value in limits.items():
        args += [field, "" if value is None else value]
    return Call("set_limits", [keys.meta], args, bool)


def requeue_jobs(
    keys: QueueKeys, state: str, *, count: int, until_ms: int | None = None, layout: Layout = "6"
) -> Call[tuple[int, int, int]]:
    """Let failed, completed or delayed jobs run now; answers how many were moved, how many are left, and `until_ms`."""

    def parse(reply: Any) -> tuple[int, int, int]:
        return reply[0], reply[1], int(reply[2])

    args: list[Part] = [keys.base, layout, state, count, "" if until_ms is None else until_ms]
    return Call("requeue_jobs", [keys.meta], args, parse)


def sweep_jobs(
    keys: QueueKeys,
    place: str,
    *,
    skip: int,
    count: int,
    cutoff_ms: int | None = None,
    tell: bool = False,
    layout: Layout = "6",
) -> Call[tuple[int, list[str]]]:
    """Remove jobs of one window of a place; answers where the next one begins (−1 = there is none), and their ids."""

    def parse(reply: Any) -> tuple[int, list[str]]:
        return reply[0], texts(reply[1:])

    cutoff: Part = "" if cutoff_ms is None else cutoff_ms
    return Call("sweep_jobs", [keys.meta], [keys.base, layout, place, cutoff, skip, count, "1" if tell else "0"], parse)


def obliterate(keys: QueueKeys, *, force: bool, count: int, is_last: bool = False, layout: Layout = "6") -> Call[int]:
    """Remove up to `count` jobs of a queue, and in the last round its own keys; answers the script's code."""
    args: list[Part] = [keys.base, layout, "1" if force else "0", count, "1" if is_last else "0"]
    return Call("obliterate", [keys.meta], args, int)
