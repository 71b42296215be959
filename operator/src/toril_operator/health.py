"""The operator's probes: `/livez` fails for faults of the operator itself, `/readyz` until all objects are listed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from toril import clock, periodic
from toril.telemetry.probe_server import PLAIN, Response
from toril_operator.informer import Informer
from toril_operator.object_cache import Key, Kind
from toril_operator.polling.pollers import Pollers
from toril_operator.work_queue import WorkQueue

HEARTBEAT_SECONDS = 1.0
"""Between two beats of the main loop."""
LONGEST_HEARTBEAT_MS = 30_000
"""A main loop without a beat for so long stands still."""
LONGEST_TURN_MS = 120_000
"""A reconciliation that takes so long is stuck: every call of one has a deadline far below."""


class Health:
    """Neither Redis nor the API server may make `/livez` fail: a new start of the operator would mend neither."""

    def __init__(
        self,
        queues: Mapping[Kind, WorkQueue[Key]],
        pollers: Pollers,
        informer: Informer,
        *,
        have_watches_ended: Callable[[], bool],
    ) -> None:
        """Args: have_watches_ended: whether the watches have ended though the operator goes on."""
        self._queues = queues
        self._pollers = pollers
        self._informer = informer
        self._have_watches_ended = have_watches_ended
        self._beat_ms = clock.monotonic_ms()

    async def beat_loop(self) -> None:
        """Beat every `HEARTBEAT_SECONDS`."""
        await periodic.repeat(periodic.Pace(HEARTBEAT_SECONDS), self.run_once)

    async def run_once(self) -> None:
        """Record that the event loop runs."""
        self._beat_ms = clock.monotonic_ms()

    def livez(self) -> Response:
        problems = [f"the poller of Redis {endpoint} stands still" for endpoint in self._pollers.stuck()]
        if clock.monotonic_ms() - self._beat_ms > LONGEST_HEARTBEAT_MS:
            problems.append("the main loop stands still")
        problems += [
            f"a {kind} is being looked at for too long"
            for kind, queue in self._queues.items()
            if queue.longest_processing_ms() > LONGEST_TURN_MS
        ]
        if self._have_watches_ended():
            problems.append("the watches have ended")
        return (500, PLAIN, "; ".join(problems) + "\n") if problems else (200, PLAIN, "ok\n")

    def readyz(self) -> Response:
        if not self._informer.has_types:
            return 503, PLAIN, "the resources of toril.dev are not there yet\n"
        if not self._informer.listed.is_set():
            reason = f": {self._informer.problem}" if self._informer.problem else ""
            return 503, PLAIN, f"the objects have not been listed yet{reason}\n"
        return 200, PLAIN, "ok\n"
