"""Random commands on one queue, each by us or by BullMQ, and the same ones on a twin queue by BullMQ alone.

After every few commands both queues must hold the same, key by key, and all clients tell the same counts and states.
The commands follow from a seed, which a failure names: `TEST_SEED=… pytest …` plays them again.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from support import soak
from support.dumps import NOW_MS, dump, without_moments
from support.engine import EngineQueue, open_queue
from support.node_peer import Handle, NodePeer, Peer
from toril import Queue
from toril.jobs.job import JobState
from toril.worker import outcomes

BLOCK = 12
"""Commands between two comparisons."""
LONG_AGO_MS = 1_000_000_000_000
YEAR_MS = 31_536_000_000
HOUR_MS = 3_600_000
WORKER = "worker-1"
STATES = ("waiting", "active", "delayed", "prioritized", "completed", "failed")


@dataclass(frozen=True, slots=True)
class Step:
    """One command, with all that was drawn for it."""

    name: str
    job_id: str = ""
    argument: Any = None
    token: str = ""


OPTIONS: dict[str, list[Any]] = {
    "delay": [1, 1, 2, 10 * YEAR_MS, 11 * YEAR_MS],
    "priority": [1, 2, 3],
    "lifo": [True],
    "jobId": ["a", "b", "c"],
    "attempts": [2, 3],
    "backoff": [1000 * HOUR_MS, {"type": "exponential", "delay": 1000 * HOUR_MS}],
    "removeOnComplete": [True, 2, {"count": 1}, {"age": 86_400}],
    "removeOnFail": [True, 1],
    "stackTraceLimit": [0, 1],
    "keepLogs": [1],
    "deduplication": [
        {}, {"ttl": HOUR_MS}, {"ttl": HOUR_MS, "extend": True}, {"replace": True}, {"keepLastIfActive": True},
    ],
}  # fmt: skip
"""What a new job may ask for."""


class Draw:
    """Draws commands that make sense for what the queue holds now."""

    def __init__(self, seed: int, *, may_pause: bool) -> None:
        self.random = random.Random(seed)
        self.may_pause = may_pause
        self.drawn = 0

    def step(self, queue: EngineQueue) -> Step:
        while True:
            name = self.random.choice(NAMES)
            if step := self._step(name, queue):
                self.drawn += 1
                return step

    def _step(self, name: str, queue: EngineQueue) -> Step | None:
        places = queue.places()
        match COMMANDS[name].needs:
            case "":
                return Step(name, argument=self._argument(name), token=f"t:{self.drawn}")
            case "running" | "paused" as state:
                is_paused = queue.raw.hexists(queue.keys.meta, "paused")
                return Step(name) if self.may_pause and is_paused == (state == "paused") else None
            case "unlocked":
                ids = [job_id for place, ids in places.items() if place != "active" for job_id in ids]
            case "runnable":
                ids = [job_id for place in ("wait", "paused", "prioritized") for job_id in places.get(place, [])]
            case place:
                ids = places.get(place, [])
        if not ids:
            return None
        job_id = self.random.choice(ids)
        return Step(name, job_id, self._argument(name), queue.raw.get(queue.keys.lock(job_id)) or "")

    def _argument(self, name: str) -> Any:
        match name:
            case "add" | "add many":
                return [self._options() for _ in range(1 if name == "add" else 3)]
            case "change delay":
                return HOUR_MS * self.random.randint(1, 1_000_000)
        return self.random.choice(COMMANDS[name].arguments)

    def _options(self) -> dict[str, Any]:
        """Options of a new job. Its due time is long past or far away, whenever this runs."""
        options: dict[str, Any] = {"timestamp": LONG_AGO_MS + self.drawn}
        for name, values in OPTIONS.items():
            if self.random.random() < 0.2:
                options[name] = self.random.choice(values)
        if "delay" in options and options["delay"] > 10:
            options["timestamp"] = NOW_MS
        if "deduplication" in options:
            options["deduplication"] = {"id": self.random.choice("xyz"), **options["deduplication"]}
            if "keepLastIfActive" in options["deduplication"]:
                # BullMQ lets the job that it kept overwrite one that has got its id since; we do not.
                options.pop("jobId", None)
        return options


class Theirs:
    """BullMQ on one queue."""

    def __init__(self, peer: Peer, worker: Handle) -> None:
        self.queue = peer.queue
        self.worker = worker

    async def add_many(self, step: Step) -> list[str]:
        bulk = [{"name": "n", "data": {"n": 1}, "opts": options} for options in step.argument]
        return [job["id"] for job in await self.queue.call("addBulk", bulk)]

    async def take(self, step: Step) -> str | None:
        job = await self.worker.call("getNextJob", step.token, {"block": False})
        return job["id"] if job else None

    async def fail(self, step: Step) -> None:
        request = {"jobId": step.job_id, "message": step.argument, "token": step.token}
        await self.queue.node.request("failJob", handle=self.queue.number, **request)

    async def clean(self, step: Step) -> list[str]:
        state, limit = step.argument
        return sorted(await self.queue.call("clean", 0, limit, state))


class Ours:
    """Our client on one queue; jobs are taken and ended by the engine, as our worker does it."""

    def __init__(self, engine: EngineQueue, queue: Queue) -> None:
        self.engine = engine
        self.queue = queue

    async def add(self, step: Step) -> list[str]:
        return [(await self.queue.add("n", {"n": 1}, step.argument[0])).id]

    async def add_many(self, step: Step) -> list[str]:
        drafts = [self.queue.draft("n", {"n": 1}, options) for options in step.argument]
        return [handle.id for handle in await self.queue.add_bulk(drafts)]

    async def take(self, step: Step) -> str | None:
        jobs = (await self.engine.active.take(1, step.token)).jobs
        return jobs[0].id if jobs else None

    async def extend(self, step: Step) -> None:
        held = await self.engine.active.adopt(step.token, [])
        assert await self.engine.active.extend_locks(held) == set()

    async def complete(self, step: Step) -> None:
        (job,) = await self.engine.active.adopt(step.token, [])
        await self.engine.finish(outcomes.completed(job, step.argument, outcomes.RuleBook().of(job)))

    async def fail(self, step: Step) -> None:
        (job,) = await self.engine.active.adopt(step.token, [])
        problem = ValueError(step.argument)
        await self.engine.finish(outcomes.failed(job, problem, outcomes.RuleBook().of(job), lambda: 0.0))

    async def log(self, step: Step) -> None:
        kept = json.loads(self.engine.hash(step.job_id)["opts"]).get("kl")
        await self.queue.handle(step.job_id).log(step.argument, keep=kept)

    async def clean(self, step: Step) -> list[str]:
        state, limit = step.argument
        return sorted(await self.queue.clean(state, limit=limit))


@dataclass(frozen=True, slots=True)
class Command:
    """One thing that both sides can do."""

    weight: int
    needs: str
    """Where the job has to be, or how the queue; empty = nothing."""
    theirs: Callable[[Theirs, Step], Awaitable[Any]]
    ours: Callable[[Ours, Step], Awaitable[Any]]
    arguments: Sequence[Any] = (None,)
    is_answered: bool = False
    """Both sides must answer the same."""


async def _add(theirs: Theirs, step: Step) -> list[str]:
    return [await theirs.queue.add("n", {"n": 1}, **step.argument[0])]


def _job(method: str, *, with_argument: bool = False) -> Callable[[Theirs, Step], Awaitable[Any]]:
    return lambda on, step: on.queue.job(step.job_id, method, *([step.argument] if with_argument else []))


def _call(method: str, *, with_argument: bool = False) -> Callable[[Theirs, Step], Awaitable[Any]]:
    return lambda on, step: on.queue.call(method, *([step.argument] if with_argument else []))


VALUES = (None, 0, "ünï", {"a": [1, None]})
COMMANDS: dict[str, Command] = {
    "add": Command(8, "", _add, Ours.add, is_answered=True),
    "add many": Command(3, "", Theirs.add_many, Ours.add_many, is_answered=True),
    "take": Command(9, "", Theirs.take, Ours.take, is_answered=True),
    "complete": Command(
        5, "active",
        lambda on, step: on.queue.job(step.job_id, "moveToCompleted", step.argument, step.token, False),
        Ours.complete, VALUES,
    ),
    "fail": Command(5, "active", Theirs.fail, Ours.fail, ("no", "nö\n2")),
    "extend": Command(
        1, "active", lambda on, step: on.queue.job(step.job_id, "extendLock", step.token, HOUR_MS), Ours.extend
    ),
    "pause": Command(2, "running", _call("pause"), lambda on, step: on.queue.pause()),
    "resume": Command(4, "paused", _call("resume"), lambda on, step: on.queue.resume()),
    "promote": Command(2, "delayed", _job("promote"), lambda on, step: on.queue.handle(step.job_id).promote()),
    "change delay": Command(
        1, "delayed", _job("changeDelay", with_argument=True),
        lambda on, step: on.queue.handle(step.job_id).change_delay(step.argument / 1000),
    ),
    "change priority": Command(
        2, "runnable", _job("changePriority", with_argument=True),
        lambda on, step: on.queue.handle(step.job_id).change_priority(**step.argument),
        [{"priority": priority, "lifo": lifo} for priority in range(4) for lifo in (True, False)],
    ),
    "retry failed": Command(
        2, "failed", lambda on, step: on.queue.job(step.job_id, "retry", "failed"),
        lambda on, step: on.queue.handle(step.job_id).retry("failed"),
    ),
    "retry completed": Command(
        1, "completed", lambda on, step: on.queue.job(step.job_id, "retry", "completed"),
        lambda on, step: on.queue.handle(step.job_id).retry("completed"),
    ),
    "remove": Command(1, "unlocked", _job("remove"), lambda on, step: on.queue.handle(step.job_id).remove()),
    "update data": Command(
        1, "unlocked", _job("updateData", with_argument=True),
        lambda on, step: on.queue.handle(step.job_id).update_data(step.argument), VALUES,
    ),
    "progress": Command(
        1, "unlocked", _job("updateProgress", with_argument=True),
        lambda on, step: on.queue.handle(step.job_id).progress(step.argument), VALUES[1:],
    ),
    "log": Command(1, "unlocked", _job("log", with_argument=True), Ours.log, ("row", "zeile 🎉")),
    "promote all": Command(1, "", _call("promoteJobs"), lambda on, step: on.queue.promote_all()),
    "retry all": Command(
        1, "", lambda on, step: on.queue.call("retryJobs", {"state": step.argument}),
        lambda on, step: on.queue.retry_all(step.argument), ("completed", "failed"),
    ),
    "clean": Command(
        1, "", Theirs.clean, Ours.clean,
        [(state, limit) for state in ("completed", "failed", "delayed", "prioritized") for limit in (0, 2)],
        is_answered=True,
    ),
    "drain": Command(
        1, "", _call("drain", with_argument=True), lambda on, step: on.queue.drain(delayed=step.argument), (True, False)
    ),
    "forget deduplication": Command(
        1, "", _call("removeDeduplicationKey", with_argument=True),
        lambda on, step: on.queue.remove_deduplication_key(step.argument), "xyz",
    ),
    "obliterate": Command(
        1, "", lambda on, step: on.queue.call("obliterate", {"force": True}),
        lambda on, step: on.queue.obliterate(force=True),
    ),
}  # fmt: skip
NAMES = [name for name, command in COMMANDS.items() for _ in range(command.weight)]


class Scene:
    """The two queues and all who act on them."""

    def __init__(self, seed: int, versions: tuple[str, ...]) -> None:
        # Two versions that pause one queue lose jobs, whoever else is there.
        self.draw = Draw(seed, may_pause=len(versions) == 1)
        self.who = random.Random(seed)
        self.versions = versions
        self.engine: EngineQueue
        self.twin_engine: EngineQueue
        self.ours: Ours
        self.peers: dict[str, Theirs] = {}
        self.twins: dict[str, Theirs] = {}
        self.history: list[str] = []

    async def open(self, stack: AsyncExitStack, nodes: Callable[[str], NodePeer], url: str, queue_name: str) -> None:
        twin_name = queue_name + "-twin"
        layout: Any = self.versions[-1]
        self.engine = await stack.enter_async_context(open_queue(url, queue_name, layout))
        self.engine.active = self.engine.worker(WORKER, lock_ms=HOUR_MS, layout=layout)
        self.twin_engine = await stack.enter_async_context(open_queue(url, twin_name, layout))
        queue = await stack.enter_async_context(Queue(queue_name, url=url, paused_layout=layout))
        self.ours = Ours(self.engine, queue)
        for version in self.versions:
            for name, actors in ((queue_name, self.peers), (twin_name, self.twins)):
                peer = Peer(nodes(version), url, name)
                await peer.start()
                stack.push_async_callback(peer.close)
                actors[version] = Theirs(peer, await peer.worker(autorun=False, name=WORKER, lockDuration=HOUR_MS))
        self.twins["ours"] = self.twins[self.versions[-1]]

    async def play(self) -> None:
        """One command, on both queues."""
        who = self.who.choice(["ours", "ours", *self.versions])
        step = self.draw.step(self.engine)
        self.history.append(f"{who}: {step}")
        command = COMMANDS[step.name]
        expected = await command.theirs(self.twins[who], step)
        if who == "ours":
            found = await command.ours(self.ours, step)
        else:
            found = await command.theirs(self.peers[who], step)
        if command.is_answered:
            assert found == expected
        if step.name == "obliterate":
            # BullMQ leaves what belongs to deduplication behind; we leave nothing.
            assert who != "ours" or not self.engine.raw.keys(self.engine.keys.base + "*")
            _clear(self.engine)
            _clear(self.twin_engine)
        await self._until_the_clock_ticks()

    async def compare(self) -> None:
        assert differences(stored(self.engine), stored(self.twin_engine)) == {}
        counts = await self.engine.inspector.counts()
        for version in self.versions:
            for theirs in (self.peers[version], self.twins[version]):
                found = await theirs.queue.call("getJobCounts")
                found["waiting"] += found.pop("paused", 0)
                assert found == counts
        for state in STATES:
            for job in (await self.engine.inspector.jobs(JobState(state)))[:5]:
                for version in self.versions:
                    assert await self.peers[version].queue.job(job.id, "getState") == state

    async def _until_the_clock_ticks(self) -> None:
        """Jobs that end within one millisecond are ordered by their ids: no two of these commands share one."""
        start = self.engine.raw.time()
        while _ms(self.engine.raw.time()) <= _ms(start):
            pass


def stored(queue: EngineQueue) -> dict[str, Any]:
    """A dump without moments, and without the stream's cap, which either side writes at other times."""
    found = without_moments(dump(queue))
    found.get("meta", {}).pop("opts.maxLenEvents", None)
    return {name: value for name, value in found.items() if value != {}}


def differences(found: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    """What is not the same, by key: ours beside theirs; of long lists the first entries that differ."""
    different = {}
    for name in sorted(found.keys() | expected.keys()):
        ours, theirs = found.get(name), expected.get(name)
        if ours != theirs:
            if isinstance(ours, list) and isinstance(theirs, list):
                start = next((at for at, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), 0)
                ours, theirs = ours[start : start + 4], theirs[start : start + 4]
            elif isinstance(ours, dict) and isinstance(theirs, dict):
                ours, theirs = (
                    {field: value for field, value in one.items() if other.get(field) != value}
                    for one, other in ((ours, theirs), (theirs, ours))
                )
            different[name] = {"ours": ours, "theirs": theirs}
    return different


def _clear(queue: EngineQueue) -> None:
    if keys := queue.raw.keys(queue.keys.base + "*"):
        queue.raw.delete(*keys)


def _ms(time: tuple[int, int]) -> int:
    return time[0] * 1000 + time[1] // 1000


@pytest.mark.wire(2, 53, 55, 65, 66, 67, 68)
@pytest.mark.parametrize("blocks", soak.lengths(12, 300))
@pytest.mark.parametrize("versions", [("5",), ("6",), ("5", "6")], ids=["bullmq5", "bullmq6", "bullmq5-bullmq6"])
async def test_by_turns(
    nodes: Callable[[str], NodePeer], redis_url: str, queue_name: str, versions: tuple[str, ...], blocks: int
) -> None:
    """The short run always plays the same commands, the long one others each time."""
    seed = int(os.environ.get("TEST_SEED") or (1 if blocks == 12 else random.SystemRandom().randrange(2**32)))
    scene = Scene(seed, versions)
    async with AsyncExitStack() as stack:
        await scene.open(stack, nodes, redis_url, queue_name)
        try:
            for _ in range(blocks):
                for _ in range(BLOCK):
                    await scene.play()
                await scene.compare()
        except BaseException as problem:
            last = "\n".join(scene.history[-40:])
            problem.add_note(f"TEST_SEED={seed}; the last of {len(scene.history)} commands:\n{last}")
            raise
