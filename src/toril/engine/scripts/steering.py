"""Scripts that act on a queue as a whole."""

from __future__ import annotations

from collections.abc import Mapping

from toril.engine.connection import Call, Part
from toril.engine.keys import QueueKeys
from toril.engine.scripts.shared import Layout


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
