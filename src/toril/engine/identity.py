"""Which process works on a queue: registered in Redis, so that its jobs are found when it has died."""

from __future__ import annotations

from dataclasses import dataclass

from toril.engine import scripts
from toril.engine.keys import QueueKeys
from toril.engine.redis.connection import AsyncConnection

LIFETIME_MS = 3_600_000
"""A process that was not seen for so long is forgotten: its jobs are long given back."""


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process that works on a queue."""

    name: str
    """The worker's; stored on its jobs as `pb`."""
    process: str
    """A uuid, a part of the tokens of its locks."""
    container: str = ""
    """`<uid of the pod>/<name of the container>`, which a process that starts anew in the container shares; empty = not
    known."""

    @property
    def token_prefix(self) -> str:
        """What all tokens of its locks begin with."""
        return f"{self.name}:{self.process}:"


async def register(
    connection: AsyncConnection,
    keys: QueueKeys,
    identity: ProcessIdentity,
    *,
    is_start: bool,
    max_stalled_count: int = 1,
    lifetime_ms: int = LIFETIME_MS,
    layout: scripts.Layout = "6",
) -> list[str]:
    """Register a process, or renew that. At its start the jobs of the process before it in the same container are given
    back, since that process is dead; returns their ids.

    A job that was the only one of the dead process is charged: it has stalled once more, and fails when it has stalled
    more than `max_stalled_count` times. Of several none is charged; each runs alone in its next worker.

    Redis: `register_worker`, one call; writes `toril:workers` (hash: name → since when, last seen when, both Unix
    milliseconds, uuid, container).
    """
    call = scripts.register_worker(
        keys, identity.name, identity.process, identity.container,
        max_stalled_count=max_stalled_count, lifetime_ms=lifetime_ms, is_start=is_start, layout=layout,
    )  # fmt: skip
    return await connection.run(call)
