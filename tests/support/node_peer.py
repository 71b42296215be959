"""A real BullMQ package in a Node process of its own, and what tests ask of it.

A `NodePeer` lives as long as one wants, across event loops; a `Peer` is its view of one queue for one test.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import subprocess
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from support.redis_server import die_with_parent
from support.waiting import wait_until_async

FOLDER = Path(__file__).resolve().parent.parent / "peers"
PACKAGES = {"5": "bullmq5", "6": "bullmq"}
"""BullMQ's major version → the name under which `tests/peers/package.json` installs it."""
REPLY_SECONDS = 60.0
FINISH_MS = 30_000
"""How long who waits for a job's end waits."""


class PeerError(Exception):
    """What BullMQ threw. `name` is the error's class in JavaScript."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


def reason_not_to_run() -> str | None:
    """Why there are no peers on this machine; None when there are."""
    if shutil.which("node") is None:
        return "no Node.js here: the tests against real BullMQ need Node 20 or newer, then `make setup`"
    missing = [
        name for name in (*PACKAGES.values(), "@bull-board/api") if not (FOLDER / "node_modules" / name).is_dir()
    ]
    if missing:
        return f"tests/peers/node_modules lacks {', '.join(missing)}: run `make setup`"
    return None


class NodePeer:
    """One Node process with one version of BullMQ. It dies with us."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.process = subprocess.Popen(
            ["node", "driver.mjs", PACKAGES[version]],
            cwd=FOLDER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent,
        )
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Future[Any]] = {}
        self._lock = threading.Lock()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    async def request(self, op: str, **fields: Any) -> Any:
        """Ask the driver for one operation. Raises PeerError with what BullMQ threw."""
        return await asyncio.wait_for(asyncio.wrap_future(self.send(op, **fields)), REPLY_SECONDS)

    def send(self, op: str, **fields: Any) -> Future[Any]:
        """Like `request`, but do not wait."""
        assert self.process.stdin is not None
        reply: Future[Any] = Future()
        with self._lock:
            number = next(self._numbers)
            self._waiting[number] = reply
            self.process.stdin.write(json.dumps({"id": number, "op": op, **fields}) + "\n")
            self.process.stdin.flush()
        return reply

    def kill(self) -> None:
        """SIGKILL: no lock is released, no connection closed in good order."""
        self.process.kill()
        self.process.wait()
        self._reader.join()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            reply = json.loads(line)
            waiting = self._waiting.pop(reply["id"])
            if waiting.cancelled():
                continue
            if error := reply.get("error"):
                waiting.set_exception(PeerError(error["name"], error["message"]))
            else:
                waiting.set_result(reply["value"])
        for waiting in self._waiting.values():
            waiting.cancel()


class Handle:
    """One Queue, Worker or QueueEvents in the Node process."""

    def __init__(self, node: NodePeer, number: int) -> None:
        self.node = node
        self.number = number

    async def call(self, method: str, *args: Any) -> Any:
        """Call a method; jobs in the answer are what their `toJSON` gives."""
        return await self.node.request("call", handle=self.number, method=method, args=args)

    async def job(self, job_id: str, method: str = "toJSON", *args: Any) -> Any:
        """Load a job and call one of its methods. Raises PeerError when there is no such job."""
        return await self.node.request("job", handle=self.number, jobId=job_id, method=method, args=args)

    async def add(self, name: str, data: Any = None, **options: Any) -> str:
        """`Queue.add`; answers the job's id."""
        job_id: str = (await self.call("add", name, data, options))["id"]
        return job_id

    async def events(self) -> list[dict[str, Any]]:
        """The events that a QueueEvents or Worker object has emitted so far, in order."""
        events: list[dict[str, Any]] = await self.node.request("events", handle=self.number)
        return events

    async def runs(self) -> list[dict[str, Any]]:
        """What a Worker's function was called with, in order: id, name, attemptsMade, atMs."""
        runs: list[dict[str, Any]] = await self.node.request("runs", handle=self.number)
        return runs

    async def runs_until(self, count: int) -> list[dict[str, Any]]:
        """Wait until a Worker has started so many jobs; answer `runs`."""

        async def probe() -> list[dict[str, Any]]:
            runs = await self.runs()
            return runs if len(runs) >= count else []

        return await wait_until_async(probe, f"{count} runs by a BullMQ worker")

    async def events_until(self, last: str) -> list[dict[str, Any]]:
        """Wait until `last` was emitted; return `events`."""

        async def probe() -> list[dict[str, Any]]:
            events = await self.events()
            return events if any(event["event"] == last for event in events) else []

        return await wait_until_async(probe, f"BullMQ to emit {last}")

    async def close(self, *, force: bool = False) -> None:
        await self.node.request("close", handle=self.number, force=force)


class Peer:
    """One queue as seen through BullMQ."""

    def __init__(self, node: NodePeer, url: str, queue_name: str, *, owns_node: bool = False) -> None:
        self.node = node
        self.version = node.version
        self.url = url
        self.queue_name = queue_name
        self.queue: Handle
        self._owns_node = owns_node
        self._opened: list[Handle] = []
        self.expected_error = ""
        """Part of the one error message that its workers may emit; empty = none."""

    async def start(self) -> None:
        self.queue = await self._open("Queue")

    async def worker(self, **options: Any) -> Handle:
        """Start a Worker; a job's name says what it does (see the driver)."""
        return await self._open("Worker", **options)

    async def listener(self, *own: str) -> Handle:
        """A QueueEvents that starts at the stream's beginning; `own`: names of events that are not BullMQ's."""
        return await self._open("QueueEvents", own=own, lastEventId="0-0")

    async def event_producer(self) -> Handle:
        """A QueueEventsProducer."""
        return await self._open("QueueEventsProducer")

    async def flows(self) -> Handle:
        """A FlowProducer."""
        return await self._open("FlowProducer")

    async def settle(self) -> None:
        """Let a request that was sent before have sent all it had to send: later calls share its connection."""
        for _ in range(2):
            await self.queue.call("getJobCounts")

    async def release(self, name: str) -> None:
        """Let jobs named `gate` with this gate go on."""
        await self.node.request("release", name=name)

    async def until_state(self, job_id: str, state: str) -> dict[str, Any]:
        """Wait until `Job.getState` says so; answer the job's `toJSON`."""

        async def probe() -> bool:
            return bool(await self.queue.job(job_id, "getState") == state)

        await wait_until_async(probe, f"job {job_id} {state}")
        job: dict[str, Any] = await self.queue.job(job_id)
        return job

    async def finished(self, events: Handle, job_id: str) -> Any:
        """`Job.waitUntilFinished`. Raises PeerError as it rejects."""
        return await self.node.request(
            "finished", handle=self.queue.number, events=events.number, jobId=job_id, ttl=FINISH_MS
        )

    async def close(self) -> None:
        """Close what this test has opened; with a process of its own, end that."""
        if self._owns_node:
            if self.node.process.poll() is None:
                self.node.kill()
            return
        problems: list[Any] = []
        for handle in reversed(self._opened):
            problems += [
                event for event in await handle.events() if event["event"] == "error" and not self._expects(event)
            ]
            await handle.close(force=True)
        assert problems == [], "BullMQ met what it cannot read"

    def _expects(self, error: dict[str, Any]) -> bool:
        return self.expected_error != "" and self.expected_error in str(error["message"])

    async def _open(self, kind: str, *, own: Sequence[str] = (), **options: Any) -> Handle:
        options = {"connection": {"url": self.url}, **options}
        number = await self.node.request("open", kind=kind, queue=self.queue_name, options=options, own=own)
        handle = Handle(self.node, number)
        self._opened.append(handle)
        return handle
