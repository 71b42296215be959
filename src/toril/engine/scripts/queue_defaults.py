"""The script that writes a queue's defaults."""

from __future__ import annotations

from toril.engine.keys import QueueKeys
from toril.engine.redis.connection import Call
from toril.jobs.queue_defaults import QueueDefaults

ANOTHERS = -1
"""The code of defaults that belong to another owner."""
LATER = -2
"""The code of defaults of a later generation."""


def write_defaults(keys: QueueKeys, scope: str, uid: str, generation: int | None, defaults: QueueDefaults) -> Call[int]:
    """Write a queue's defaults; without any, or without a generation, remove them.

    Its answer is 1 when something was changed, 0 when nothing was to be changed, else `ANOTHERS` or `LATER`.
    """
    number = "" if generation is None else generation
    return Call("write_defaults", [keys.defaults], [scope, uid, number, *defaults.to_texts()], int)
