"""What Toril's workers run in the benchmark: one queue for each kind of function."""

from __future__ import annotations

import asyncio
import time

from toril import Queue

async_none = Queue("async-none")
def_none = Queue("def-none")
inline_none = Queue("inline-none")
async_wait = Queue("async-wait")
def_wait = Queue("def-wait")
async_latency = Queue("async-latency")
def_latency = Queue("def-latency")


@async_none.task(name="send")
async def send(to: str, subject: str, body: str) -> None:
    """Does nothing, on the event loop."""


@def_none.task(name="send")
def send_in_thread(to: str, subject: str, body: str) -> None:
    """Does nothing, in a thread."""


@inline_none.task(name="send", inline=True)
def send_inline(to: str, subject: str, body: str) -> None:
    """Does nothing, as a plain call on the event loop."""


@async_wait.task(name="send")
async def wait(ms: int) -> int:
    """Waits, and returns how long that took, microseconds."""
    began = time.monotonic_ns()
    await asyncio.sleep(ms / 1000)
    return (time.monotonic_ns() - began) // 1000


@def_wait.task(name="send")
def wait_in_thread(ms: int) -> int:
    """Waits, and returns how long that took, microseconds."""
    began = time.monotonic_ns()
    time.sleep(ms / 1000)
    return (time.monotonic_ns() - began) // 1000


@async_latency.task(name="send")
async def measure(added_us: int) -> int:
    """Returns how long ago the job was added, microseconds, by the clock that all processes of a machine share."""
    return time.monotonic_ns() // 1000 - added_us


@def_latency.task(name="send")
def measure_in_thread(added_us: int) -> int:
    """As `measure`, in a thread."""
    return time.monotonic_ns() // 1000 - added_us
