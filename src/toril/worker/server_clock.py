"""What time it is on the Redis server, by which due times are meant; a worker's own clock may be wrong."""

from __future__ import annotations

from toril import clock


class ServerClock:
    """The server's time, carried on by this process's monotonic clock. Until the first sample: the machine's time."""

    def __init__(self) -> None:
        self._offset_ms = clock.now_ms() - clock.monotonic_ms()

    def note(self, server_ms: int, asked_ms: int, answered_ms: int) -> None:
        """Take a sample: the server's time, and our monotonic time before and after asking for it."""
        self._offset_ms = server_ms - (asked_ms + answered_ms) // 2

    def now_ms(self) -> int:
        """Unix milliseconds."""
        return clock.monotonic_ms() + self._offset_ms
