"""The stream of events stays as short as the queue says, whichever script writes to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from support import flow_trees
from support.engine import EngineQueue
from support.flow_trees import tree
from toril.engine import administration, lua_loader, operations, scripts
from toril.engine.maintenance import recover_stalled
from toril.engine.redis.connection import Call
from toril.engine.worker import Finish
from toril.jobs.schedule import Schedule
from toril.jobs.scheduler import JobTemplate

HOUR_MS = 3_600_000
MAX_EVENTS = 10
OLDER_EVENTS = 1000
BLOCK = 100
"""Redis cuts a stream in blocks of so many entries."""


async def nothing(queue: EngineQueue) -> str:
    return ""


async def delayed(queue: EngineQueue) -> str:
    return await queue.add(delay=HOUR_MS)


async def due(queue: EngineQueue) -> str:
    return await queue.add(delay=1, timestamp=1000)


async def failed(queue: EngineQueue) -> str:
    job_id = await queue.add()
    await queue.finish(Finish.failed(await queue.take_one(), "no", "[]"))
    return job_id


async def stalled_job(queue: EngineQueue) -> str:
    job_id = await queue.add()
    await queue.take()
    queue.raw.delete(queue.keys.lock(job_id))
    queue.raw.sadd(queue.keys.stalled, job_id)
    return job_id


async def restarted(queue: EngineQueue) -> str:
    await queue.connection.run(registering(queue, "before"))
    await queue.add()
    await queue.worker("pod").take(1, "pod:before:1")
    return ""


def registering(queue: EngineQueue, process: str) -> Call[list[str]]:
    return scripts.register_worker(
        queue.keys, "pod", process, "uid/worker", max_stalled_count=1, lifetime_ms=HOUR_MS, is_start=True
    )


async def paused(queue: EngineQueue) -> str:
    await queue.producer.pause()
    return ""


async def flow(queue: EngineQueue) -> str:
    await flow_trees.add(queue.connection, tree(queue, "p", tree(queue, "c")))
    return "c"


async def scheduler(queue: EngineQueue) -> str:
    await queue.schedulers.upsert("s", Schedule(every_ms=HOUR_MS), JobTemplate.create("n"))
    return "s"


async def scheduler_with_a_delayed_job(queue: EngineQueue) -> str:
    await scheduler(queue)
    await queue.schedulers.advance_due(also_waiting=True)
    return "s"


Scene = tuple[Callable[[EngineQueue], Awaitable[str]], Callable[[EngineQueue, str], Call[Any] | Awaitable[Any]]]
SCENES: dict[str, Scene] = {
    "add_jobs": (nothing, lambda queue, _: queue.add()),
    "add_flow": (nothing, lambda queue, _: flow(queue)),
    "finish_and_take": (EngineQueue.add, lambda queue, _: queue.finish(take=1)),
    "recover_stalled": (stalled_job, lambda queue, _: recover_stalled.run_once(queue.connection, queue.keys)),
    "register_worker": (restarted, lambda queue, _: registering(queue, "now")),
    "pause": (nothing, lambda queue, _: scripts.pause(queue.keys)),
    "resume": (paused, lambda queue, _: scripts.resume(queue.keys)),
    "promote_job": (delayed, lambda queue, job_id: scripts.promote_job(queue.keys, job_id)),
    "promote_due": (due, lambda queue, _: scripts.promote_due(queue.keys)),
    "change_delay": (delayed, lambda queue, job_id: scripts.change_delay(queue.keys, job_id, 1)),
    "retry_job": (failed, lambda queue, job_id: scripts.retry_job(queue.keys, job_id, "failed")),
    "requeue_jobs": (failed, lambda queue, _: scripts.requeue_jobs(queue.keys, "failed", count=1)),
    "remove_job": (failed, lambda queue, job_id: scripts.remove_job(queue.keys, job_id, with_children=True, count=1)),
    "remove_children": (flow, lambda queue, _: scripts.remove_children(queue.keys, "p", count=9)),
    "leave_parent": (flow, lambda queue, job_id: scripts.leave_parent(queue.keys, job_id)),
    "sweep_jobs": (
        nothing,
        lambda queue, _: scripts.sweep_jobs(queue.keys, "wait", skip=0, count=1, emits_cleaned=True),
    ),
    "obliterate": (nothing, lambda queue, _: scripts.obliterate(queue.keys, force=False, count=1)),
    "update_progress": (failed, lambda queue, job_id: scripts.update_progress(queue.keys, job_id, "1")),
    "upsert_scheduler": (nothing, lambda queue, _: scheduler(queue)),
    "advance_schedulers": (scheduler, lambda queue, _: queue.schedulers.advance_due(also_waiting=True)),
    "remove_scheduler": (scheduler_with_a_delayed_job, lambda queue, name: queue.schedulers.remove(name)),
}
"""What must be there, and the call that tells an event."""


def tells_events(script: str) -> bool:
    """As its header says."""
    source = lua_loader.load(script).source
    return "\n-- Events:" in source and "\n-- Events: none" not in source


def test_every_script_that_tells_events_has_its_scene() -> None:
    assert set(SCENES) == set(filter(tells_events, lua_loader.names()))


def fill(queue: EngineQueue) -> None:
    """More events than are to be kept."""
    with queue.raw.pipeline() as pipeline:
        pipeline.hset(queue.keys.meta, "opts.maxLenEvents", MAX_EVENTS)
        for _ in range(OLDER_EVENTS):
            pipeline.xadd(queue.keys.events, {"event": "older"})
        pipeline.execute()


def is_trimmed(queue: EngineQueue) -> bool:
    """Whether something was told, and the rest cut."""
    names = queue.event_names()
    return names[-1] != "older" and len(names) <= MAX_EVENTS + BLOCK


@pytest.mark.parametrize("script", SCENES)
async def test_each_script_trims_what_it_writes_to(queue: EngineQueue, script: str) -> None:
    prepare, act = SCENES[script]
    job_id = await prepare(queue)
    fill(queue)
    call = act(queue, job_id)
    await (queue.connection.run(call) if isinstance(call, Call) else call)
    assert is_trimmed(queue)


@pytest.mark.parametrize("cap", ["10", "many", "1e999", "-1", "10.5"])
async def test_an_event_of_ones_own(queue: EngineQueue, cap: str) -> None:
    """A cap that is no number counts as not set, as in the scripts."""
    fill(queue)
    queue.raw.hset(queue.keys.meta, "opts.maxLenEvents", cap)
    await operations.execute(queue.connection, administration.publish_event(queue.keys, "mine", {"a": "1"}))
    assert queue.events()[-1] == {"event": "mine", "a": "1"}
    assert is_trimmed(queue) == (cap == "10")
