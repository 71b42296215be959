"""A worker's call to Redis while it is under way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from toril.engine.redis.connection import Call
from toril.engine.worker import FinishReply
from toril.worker.attempt import Attempt


@dataclass(slots=True, eq=False)
class InFlightCall:
    """A call under way, as a `protocol.Answer`. The connection calls `land` once: with the reply as it comes, or with
    the failure when the loop comes round."""

    batch: list[Attempt]
    """What it ends."""
    count: int
    """How many jobs it may bring."""
    call: Call[FinishReply]
    sent_at: float
    land: Callable[[InFlightCall, Any, Exception | None], None]

    def done(self) -> bool:
        return False

    def set_result(self, reply: Any) -> None:
        self.land(self, reply, None)

    def set_exception(self, problem: Exception) -> None:
        asyncio.get_running_loop().call_soon(self.land, self, None, problem)
