"""The worker's probes: `/livez` follows the main loop, `/readyz` whether it can work, `/metrics` what it did."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from toril.telemetry.probe_server import PLAIN, HttpProbe, Response
from toril.worker.heartbeat import Heartbeat
from toril.worker.metrics import CONTENT_TYPE, Metrics


def build_probe(heartbeat: Heartbeat, not_ready: Callable[[], str], metrics: Metrics) -> HttpProbe:
    """Build the server.

    Args:
        not_ready: says why the worker does not take jobs now; empty = it does. Never Redis's health: a worker that
            waits for Redis is as ready as it can be, and restarting it helps nobody.
    """

    def livez() -> Response:
        if heartbeat.is_alive:
            return 200, PLAIN, "ok\n"
        return 503, PLAIN, f"the main loop has not gone round for {heartbeat.age_ms / 1000:.0f} s\n"

    def readyz() -> Response:
        why = not_ready()
        return (503, PLAIN, f"{why}\n") if why else (200, PLAIN, "ok\n")

    async def expose() -> Response:
        return 200, CONTENT_TYPE, await asyncio.to_thread(metrics.exposition)

    return HttpProbe({"/livez": livez, "/readyz": readyz, "/metrics": expose})
