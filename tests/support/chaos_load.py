"""Jobs for a queue under attack: several producers, every kind of job, and the reckoning at the end."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Any

from support import chaos, invariants
from support.engine import EngineQueue
from support.node_peer import Handle, PeerError
from support.redis_server import RedisServer
from support.waiting import wait_until_async
from toril import errors
from toril.jobs.job import NewJob
from toril.jobs.options import JobOptions


class Load:
    """Adds jobs whose ids are its own, so that it may repeat what was not acknowledged."""

    def __init__(self, queue: EngineQueue, fleet: chaos.Fleet, *, seed: int, pause_seconds: float) -> None:
        """Args: pause_seconds: after ten jobs."""
        self.acknowledged: set[str] = set()
        self._queue = queue
        self._fleet = fleet
        self._random = random.Random(seed)
        self._pause_seconds = pause_seconds

    async def add_ours(self, count: int) -> None:
        """Through Toril's producer, ten in a call."""
        for first in range(0, count, 10):
            jobs = [
                NewJob.create("logged", self._data(), JobOptions.from_bullmq({**self._options(), "jobId": f"ours-{n}"}))
                for n in range(first, min(first + 10, count))
            ]
            ids = await self._until_acknowledged(lambda jobs=jobs: self._queue.producer.add(jobs))
            self.acknowledged |= {*ids}

    async def add_theirs(self, queue: Handle, count: int) -> None:
        """Through a BullMQ Queue, ten in a call."""
        for first in range(0, count, 10):
            jobs = [
                {
                    "name": "logged",
                    "data": self._data(),
                    "opts": {**self._options(), "jobId": f"bullmq{queue.node.version}-{n}"},
                }
                for n in range(first, min(first + 10, count))
            ]
            added = await self._until_acknowledged(lambda jobs=jobs: queue.call("addBulk", jobs))
            self.acknowledged |= {job["id"] for job in added}

    async def add_flows(self, flows: Handle, count: int) -> None:
        """Through a BullMQ FlowProducer: parents with three children each."""
        for number in range(count):
            children = [self._node(f"child-{number}-{place}") for place in range(3)]
            async with self._fleet.redis_is_wanted:
                await flows.call("add", {**self._node(f"parent-{number}"), "children": children})
            self.acknowledged |= {f"parent-{number}", *(child["opts"]["jobId"] for child in children)}
            await asyncio.sleep(self._pause_seconds)

    def _node(self, job_id: str) -> dict[str, Any]:
        options = {**self._options(), "jobId": job_id}
        return {"name": "logged", "queueName": self._queue.keys.queue, "data": self._data(), "opts": options}

    def _data(self) -> dict[str, Any]:
        """One of eight fails at its first attempt."""
        chance = self._random
        return {"log": str(self._fleet.log), "ms": chance.randrange(5, 60), "fails": int(chance.random() < 1 / 8)}

    def _options(self) -> dict[str, Any]:
        chance = self._random
        options: dict[str, Any] = {"attempts": 3, "backoff": {"type": "fixed", "delay": chance.choice([0, 150])}}
        kind = chance.random()
        if kind < 0.2:
            options["delay"] = chance.randrange(1, 2000)
        elif kind < 0.5:
            options["priority"] = chance.randrange(1, 4)
        return options

    async def _until_acknowledged(self, add: Any) -> Any:
        while True:
            await asyncio.sleep(self._pause_seconds)
            with contextlib.suppress(errors.RedisError, PeerError):
                return await add()


async def reckon(queue: EngineQueue, server: RedisServer, fleet: chaos.Fleet, load: Load, what: str) -> chaos.Verdict:
    """Wait until everything has ended; fail unless all is as it must be. Prints what happened."""
    total = len(load.acknowledged)

    async def is_done() -> bool:
        return sum((await queue.inspector.counts()).values()) == (await queue.inspector.counts())["completed"] == total

    try:
        await wait_until_async(is_done, f"{total} jobs to end", timeout_seconds=120, interval_seconds=0.2)
    finally:
        verdict = chaos.judge(fleet.log, fleet.plan)
        print(f"\n{what}: {fleet.report(verdict)}", *[*verdict.twice.values()][:10], sep="\n")
    with server.client() as client:
        stored = invariants.assert_sound(client, queue.keys.queue)
    completed = {*stored.containers["completed"]}
    lost, unexpected = load.acknowledged - completed, completed - load.acknowledged
    assert (lost, unexpected) == (set(), set())
    problems = [f"{words}\n  {[event for event in stored.events if event.get('jobId') == job_id]}"
            for job_id, words in verdict.twice.items()]  # fmt: skip
    assert not problems, "started again without a reason: " + "\n".join(problems[:10])
    assert verdict.started == completed
    ended = [event["jobId"] for event in stored.events if event["event"] == "completed"]
    assert sorted(ended) == sorted(completed), "each has ended once"
    strangers = {job_id: fields["returnvalue"] for job_id, fields in stored.jobs.items()
                 if int(fields["returnvalue"]) not in verdict.ended_by[job_id]}  # fmt: skip
    assert strangers == {}, "results that no end of the job explains"
    return verdict
