"""What time it is on the Redis server, by which due times are meant; a worker's own clock may be wrong."""

from __future__ import annotations

from toril import clock
from toril.engine.worker import ActiveJobs


class ServerClock:
    """The server's time, carried on by this process's monotonic clock. Until the first sample: the machine's time."""

    def __init__(self, active: ActiveJobs) -> None:
        self._active = active
        self._offset_ms = clock.now_ms() - clock.monotonic_ms()

    async def sample(self) -> None:
        """Ask the server. Raises what the connection raises; the clock goes on as before then."""
        asked_ms = clock.monotonic_ms()
        server_ms = await self._active.server_time_ms()
        self._offset_ms = server_ms - (asked_ms + clock.monotonic_ms()) // 2

    def now_ms(self) -> int:
        """Unix milliseconds."""
        return clock.monotonic_ms() + self._offset_ms
