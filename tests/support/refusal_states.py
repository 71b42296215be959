"""States in which a script that is refused in its middle has much to undo, and calls of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from support import flow_trees, full_redis
from support.engine import EngineQueue
from support.flow_trees import Tree, tree
from support.full_redis import (
    HOUR_MS,
    LATE,
    LONG_AGO_MS,
    ONE,
    Ask,
    Case,
    Jobs,
    Prepare,
    job,
    jobs,
    passes,
)
from toril.engine import flows, scripts
from toril.engine.keys import QueueKeys
from toril.engine.redis.connection import Call
from toril.jobs.outcome import Finish, TakenJob
from toril.jobs.parents import ParentLink
from toril.jobs.queue_defaults import QueueDefaults
from toril.jobs.retention import KeepPolicy
from toril.jobs.schedule import Schedule
from toril.jobs.scheduler import JobTemplate, NextJob

UPPER = "-up"
"""Behind a queue's name: that of the queue of its jobs' parents."""
DUE: dict[str, Any] = {"timestamp": LONG_AGO_MS, "delay": 1000}
URGENT: dict[str, Any] = {"priority": 3}


def case(script: str, prepare: Prepare, ask: Ask) -> Case:
    return passes(script, "", prepare, ask)


def upper_base(queue: EngineQueue) -> str:
    return queue.keys.base.removesuffix(":") + UPPER + ":"


def above(queue: EngineQueue, job_id: str, *children: Tree, **options: Any) -> Tree:
    return {**tree(queue, job_id, *children, **options), "queueName": queue.keys.queue + UPPER}


def split_family(then: str = "", *, children: int = 1, policy: str = "", **parent: Any) -> Prepare:
    """A parent `p` in another queue, with children `c0`…, and what happened to these `then`: as with `jobs`."""

    async def prepare(queue: EngineQueue) -> Jobs:
        options: dict[str, Any] = {policy: True} if policy else {}
        nodes = [tree(queue, f"c{number}", **options) for number in range(children)]
        await flow_trees.add(queue.connection, above(queue, "p", *nodes, **parent))
        return await jobs(then=then)(queue)

    return prepare


def above_alone(job_id: str) -> Prepare:
    """A job in the other queue that waits for another child."""

    async def prepare(queue: EngineQueue) -> Jobs:
        await flow_trees.add(queue.connection, above(queue, job_id, tree(queue, "its-child", delay=HOUR_MS)))
        return []

    return prepare


def both(*prepares: Prepare) -> Prepare:
    async def prepare(queue: EngineQueue) -> Jobs:
        return [held for each in prepares for held in await each(queue)]

    return prepare


def raw(*command: str) -> Prepare:
    """A plain command; `{base}` and `{upper}` stand for the queues' bases."""

    async def prepare(queue: EngineQueue) -> Jobs:
        names = {"base": queue.keys.base, "upper": upper_base(queue)}
        queue.raw.execute_command(
            *[part.replace("{base}", names["base"]).replace("{upper}", names["upper"]) for part in command]
        )
        return []

    return prepare


def taking(count: int, **taker: Any) -> Ask:
    def ask(queue: EngineQueue, held: Jobs) -> Call[Any]:
        return scripts.finish_and_take(queue.keys, scripts.Taker(worker_name="w", **taker), [], count, "next:1")

    return ask


def ending(*ends: Callable[[TakenJob], Finish], take: int = 0, **taker: Any) -> Ask:
    """As `finishing`, by a taker of these settings."""

    def ask(queue: EngineQueue, held: Jobs) -> Call[Any]:
        finishes = [end(job) for end, job in zip(ends, held, strict=True)]
        return scripts.finish_and_take(queue.keys, scripts.Taker(worker_name="w", **taker), finishes, take, "next:1")

    return ask


def completed(held: TakenJob) -> Finish:
    return Finish.completed(held, '"done"')


def dropped(held: TakenJob) -> Finish:
    return Finish.completed(held, '"done"', KeepPolicy(count=0))


def failed(held: TakenJob) -> Finish:
    return Finish.failed(held, "no", '["trace"]')


def failed_among_few(held: TakenJob) -> Finish:
    return Finish.failed(held, "no", '["trace"]', KeepPolicy(count=1, age_seconds=60))


def retried(held: TakenJob) -> Finish:
    return Finish.retry(held, "no", '["trace"]', 0)


def unstarted(held: TakenJob) -> Finish:
    return Finish.requeue(held, has_started=False)


def adding(*options: dict[str, Any], parent: str = "", layout: scripts.Layout = "6") -> Ask:
    def ask(queue: EngineQueue, held: Jobs) -> Call[Any]:
        added = [job(**given) for given in options]
        if parent:
            added = [each.under(ParentLink(parent, "bull:" + queue.keys.queue + UPPER)) for each in added]
        return scripts.add_jobs(queue.keys, added, now_ms=LONG_AGO_MS, layout=layout)

    return ask


def adding_flow(*, again: bool = False, under: str = "") -> Ask:
    def ask(queue: EngineQueue, held: Jobs) -> Call[Any]:
        nodes = [tree(queue, "x0", priority=2), tree(queue, "x1", delay=HOUR_MS), tree(queue, "c0" if again else "x2")]
        parent: dict[str, Any] = {"parent": {"id": under, "queue": queue.keys.qualified_name}} if under else {}
        made = flow_trees.to_node(above(queue, "p2", *nodes, **parent))
        return scripts.add_flow(flows.lay_out([made]), now_ms=LONG_AGO_MS)

    return ask


def once(**options: Any) -> dict[str, Any]:
    return {"deduplication": {"id": "d", **options}}


def upserting(slot_ms: int, seen_ms: int | None, *, keeps_slot: bool = False, **options: Any) -> Ask:
    def ask(queue: EngineQueue, held: Jobs) -> Call[Any]:
        template = JobTemplate.create("echo", {"n": 1}, options)
        made = scripts.Upsert("s", Schedule(every_ms=HOUR_MS), template, seen_ms, slot_ms, keeps_slot=keeps_slot)
        return scripts.upsert_scheduler(queue.keys, made)

    return ask


FAR_MS = 4_000_000_000_000


def scheduled(slot_ms: int = FAR_MS, then: str = "", **options: Any) -> Prepare:
    async def prepare(queue: EngineQueue) -> Jobs:
        await queue.connection.run(upserting(slot_ms, None, **options)(queue, []))
        return await jobs(then=then)(queue)

    return prepare


def advancing(seen_ms: int = LONG_AGO_MS, *, layout: scripts.Layout = "6", **options: Any) -> Ask:
    def ask(queue: EngineQueue, held: Jobs) -> Call[Any]:
        following = NextJob("s", seen_ms, FAR_MS, "echo", '{"n":1}', {"attempts": 0}, **options)
        return scripts.advance_schedulers(queue.keys, [following], layout=layout)

    return ask


async def parked_child(queue: EngineQueue) -> Jobs:
    """A running job with a deduplication id, which a child of `p` in the other queue is to follow."""
    await split_family()(queue)
    await queue.take()
    await queue.add("echo", {}, **once(keepLastIfActive=True))
    held = await queue.take()
    await queue.connection.run(adding(once(keepLastIfActive=True))(queue, []))
    upper = upper_base(queue)
    parent = {"pk": upper + "p", "pd": link_to_parent(queue), "pdk": upper + "p:dependencies"}
    queue.raw.hset(queue.keys.base + "dn:d", mapping=parent)
    return held


async def ending_winner(queue: EngineQueue) -> Jobs:
    """A running child of `p` in the other queue, with a deduplication id and another job that is to follow."""
    held = await parked_child(queue)
    await own_parent(queue, held[0].id)
    return held


async def delayed_winner(queue: EngineQueue) -> Jobs:
    """A delayed job that has the deduplication id `d`, child of `p` in the other queue."""
    await split_family(children=2)(queue)
    await queue.take(2)
    await queue.add("echo", {}, jobId="winner", **LATE, **once())
    await own_parent(queue, "winner")
    return []


def link_to_parent(queue: EngineQueue) -> str:
    return json.dumps({"id": "p", "queueKey": upper_base(queue).removesuffix(":")})


async def own_parent(queue: EngineQueue, job_id: str) -> None:
    """As other libraries link jobs that have a deduplication id."""
    upper = upper_base(queue)
    queue.raw.hset(queue.keys.job(job_id), mapping={"parentKey": upper + "p", "parent": link_to_parent(queue)})
    queue.raw.delete(upper + "p:dependencies")
    queue.raw.sadd(upper + "p:dependencies", queue.keys.job(job_id))


def stalled(count: int) -> Prepare:
    async def prepare(queue: EngineQueue) -> Jobs:
        for _ in range(count):
            await queue.add("echo", {})
        held = await queue.take(count)
        queue.raw.delete(*[queue.keys.lock(each.id) for each in held])
        queue.raw.sadd(queue.keys.stalled, *[each.id for each in held])
        queue.raw.hset(queue.keys.job(held[0].id), "stc", 7)
        return held

    return prepare


def crowd(process: str) -> Prepare:
    """A worker of ours, registered as `pod`, whose process is dead; its three jobs, one of which has a lock still."""

    async def prepare(queue: EngineQueue) -> Jobs:
        await queue.connection.run(full_redis.registering(process)(queue, []))
        for _ in range(3):
            await queue.add("echo", {})
        taker = scripts.Taker(worker_name="pod")
        held = (
            await queue.connection.run(scripts.finish_and_take(queue.keys, taker, [], 3, f"pod:{process}:1"))
        ).taken.jobs
        queue.raw.delete(*[queue.keys.lock(each.id) for each in held[:2]])
        queue.raw.sadd(queue.keys.stalled, *[each.id for each in held])
        queue.raw.hset(queue.keys.base + "toril:workers", "gone", "1 1 before uid/worker")
        return held

    return prepare


async def suspect(queue: EngineQueue) -> Jobs:
    """A running job that was suspected of having ended its worker."""
    job_id = await queue.add("echo", {})
    queue.raw.hset(queue.keys.job(job_id), "torilSuspect", "1")
    return await queue.take()


def repeated(held: TakenJob) -> Finish:
    finish = Finish.completed(held, '"done"')
    finish.is_repeated = True
    return finish


async def odd_job(queue: EngineQueue) -> Jobs:
    """A job that was not new when it was taken, and another that waits."""
    await queue.add("echo", {}, jobId="odd")
    queue.raw.hset(queue.keys.job("odd"), "ats", 3)
    held = await queue.take()
    await queue.add("echo", {})
    return held


async def gone_job(queue: EngineQueue) -> Jobs:
    """Of two that run, one whose hash is gone."""
    held = await jobs(ONE, ONE, then="tt")(queue)
    queue.raw.delete(queue.keys.job(held[0].id))
    return held


def owed(policy: str = "") -> Prepare:
    """A child `c0` that has completed, whose end its parent does not have."""

    async def prepare(queue: EngineQueue) -> Jobs:
        held = await split_family("t")(queue)
        await queue.finish(completed(held[0]))
        upper = upper_base(queue)
        queue.raw.delete(upper + "wait", upper + "p:processed")
        queue.raw.zadd(upper + "waiting-children", {"p": LONG_AGO_MS})
        queue.raw.sadd(upper + "p:dependencies", queue.keys.job("c0"))
        note = {"key": upper + "p", "base": upper, "id": "p", **({"policy": policy} if policy else {})}
        queue.raw.hset(queue.keys.base + "toril:owed", queue.keys.job("c0"), json.dumps(note))
        queue.raw.expire(queue.keys.base + "toril:owed", 30 * 24 * 3600)
        return []

    return prepare


def great_family(then: str = "") -> Prepare:
    """`p` in another queue; of its children one has completed, one failed so that it counts, one so that it does
    not, and others wait."""

    async def prepare(queue: EngineQueue) -> Jobs:
        children = [
            tree(queue, "c0"), tree(queue, "c1", failParentOnFailure=True),
            tree(queue, "c2", continueParentOnFailure=True), tree(queue, "c3", delay=HOUR_MS),
            tree(queue, "c4", tree(queue, "g0")), tree(queue, "c5"),
        ]  # fmt: skip
        await flow_trees.add(queue.connection, above(queue, "p", *children))
        first, second, third = await queue.take(3)
        await queue.finish(completed(first), failed(second))
        await queue.finish(failed(third))
        return await jobs(then=then)(queue)

    return prepare


def on_upper(name: str, *args: Any, **options: Any) -> Ask:
    def ask(queue: EngineQueue, held: Jobs) -> Call[Any]:
        call: Call[Any] = getattr(scripts, name)(QueueKeys(queue.keys.queue + UPPER), *args, **options)
        return call

    return ask


def flow_of_own(**options: Any) -> Prepare:
    """A parent that waits for its only child, in the same queue."""

    async def prepare(queue: EngineQueue) -> Jobs:
        await flow_trees.add(queue.connection, tree(queue, "gp", tree(queue, "p", tree(queue, "c", **options))))
        return []

    return prepare


def writing_defaults(queue: EngineQueue, held: Jobs) -> Call[Any]:
    return scripts.write_defaults(queue.keys, "here", "uid", 1, QueueDefaults(size_limit_bytes=1000))


async def deep_family(queue: EngineQueue) -> Jobs:
    """Three generations in one queue."""
    await flow_trees.add(queue.connection, tree(queue, "gp", tree(queue, "p", tree(queue, "c0"), tree(queue, "c1"))))
    return []
