"""States in which a script that is refused in its middle has much to undo: beyond those of `full_redis`."""

from __future__ import annotations

import json
from typing import Any

from support import flow_trees, full_redis
from support.engine import EngineQueue
from support.flow_trees import Tree, tree
from support.full_redis import HOUR_MS, LATE, LONG_AGO_MS, ONE, Ask, Case, Jobs, Prepare, finishing, job, jobs, on, passes
from toril.engine import scripts
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
        options = {policy: True} if policy else {}
        nodes = [tree(queue, f"c{number}", **options) for number in range(children)]
        await flow_trees.add(queue.connection, above(queue, "p", *nodes, **parent))
        return await jobs(then=then)(queue)

    return prepare


def both(*prepares: Prepare) -> Prepare:
    async def prepare(queue: EngineQueue) -> Jobs:
        return [held for each in prepares for held in await each(queue)]

    return prepare


def raw(*command: str) -> Prepare:
    """A plain command; `{base}` and `{upper}` stand for the queues' bases."""

    async def prepare(queue: EngineQueue) -> Jobs:
        names = {"base": queue.keys.base, "upper": upper_base(queue)}
        queue.raw.execute_command(*[part.replace("{base}", names["base"]).replace("{upper}", names["upper"]) for part in command])
        return []

    return prepare


def taking(count: int, **taker: Any) -> Ask:
    def ask(queue: EngineQueue, held: Jobs) -> Call[Any]:
        return scripts.take_jobs(queue.keys, scripts.Taker(worker_name="w", **taker), count, "next:1")

    return ask


def ending(*ends: Finish | Any, take: int = 0, **taker: Any) -> Ask:
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


def adding_flow(*, again: bool = False) -> Ask:
    def ask(queue: EngineQueue, held: Jobs) -> Call[Any]:
        nodes = [tree(queue, "x0", priority=2), tree(queue, "x1", delay=HOUR_MS), tree(queue, "c0" if again else "x2")]
        made = flow_trees.to_node(above(queue, "p2", *nodes))
        from toril.engine import flows

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


def owed(queue_base: str = "{base}") -> Prepare:
    """A child `c0` that has completed, of which its parent was not told."""

    async def prepare(queue: EngineQueue) -> Jobs:
        held = await split_family("t")(queue)
        await queue.finish(completed(held[0]))
        upper = upper_base(queue)
        queue.raw.delete(upper + "wait", upper + "p:processed")
        queue.raw.zadd(upper + "waiting-children", {"p": LONG_AGO_MS})
        queue.raw.sadd(upper + "p:dependencies", queue.keys.job("c0"))
        note = {"key": upper + "p", "base": upper, "id": "p"}
        queue.raw.hset(queue.keys.base + "toril:owed", queue.keys.job("c0"), json.dumps(note))
        queue.raw.expire(queue.keys.base + "toril:owed", 30 * 24 * 3600)
        return []

    return prepare


def great_family(then: str = "") -> Prepare:
    """`p` in another queue; of its children one has completed, one failed so that it counts, one so that it does not, and
    others wait."""

    async def prepare(queue: EngineQueue) -> Jobs:
        children = [
            tree(queue, "c0"), tree(queue, "c1", failParentOnFailure=True), tree(queue, "c2", continueParentOnFailure=True),
            tree(queue, "c3", **LATE), tree(queue, "c4", tree(queue, "g0")), tree(queue, "c5"),
        ]  # fmt: skip
        await flow_trees.add(queue.connection, above(queue, "p", *children))
        first, second, third = await queue.take(3)
        await queue.finish(completed(first), failed(second))
        await queue.finish(failed(third))
        return await jobs(then=then)(queue)

    return prepare


def on_upper(name: str, *args: Any, **options: Any) -> Ask:
    def ask(queue: EngineQueue, held: Jobs) -> Call[Any]:
        from toril.engine.keys import QueueKeys

        return getattr(scripts, name)(QueueKeys(queue.keys.queue + UPPER), *args, **options)

    return ask


def flow_of_own(**options: Any) -> Prepare:
    """A parent that waits for its only child, in the same queue."""

    async def prepare(queue: EngineQueue) -> Jobs:
        await flow_trees.add(queue.connection, tree(queue, "gp", tree(queue, "p", tree(queue, "c", **options))))
        return []

    return prepare


def writing_defaults(queue: EngineQueue, held: Jobs) -> Call[Any]:
    return scripts.write_defaults(queue.keys, "here", "uid", 1, QueueDefaults(size_limit_bytes=1000))


MANY = (ONE, ONE, URGENT, {**DUE, **URGENT}, DUE, LATE)
CAP = raw("HDEL", "{base}meta", "opts.maxLenEvents")
LIMITED = raw("HSET", "{base}meta", "max", "100", "duration", "60000", "concurrency", "50")
_POLICIES = (
    "failParentOnFailure", "continueParentOnFailure", "ignoreDependencyOnFailure", "removeDependencyOnFailure",
)  # fmt: skip

ADDING = [
    case("add_jobs", both(jobs(), CAP), adding(ONE, {"jobId": "a"}, {"lifo": True}, LATE, URGENT, once())),
    case("add_jobs", jobs({"jobId": "a"}), adding({"jobId": "a"}, ONE, {"jobId": "b", "lifo": True}, {"jobId": "c"})),
    case("add_jobs", split_family(), adding(ONE, LATE, URGENT, parent="p")),
    case("add_jobs", split_family("c", children=2), adding({"jobId": "c0"}, {"jobId": "c1"}, parent="p")),
    case("add_jobs", both(split_family("c", children=1), raw("DEL", "{upper}wait"), raw("ZADD", "{upper}waiting-children", "1", "p")),
         adding({"jobId": "c0"}, parent="p")),
    case("add_jobs", jobs({**LATE, **once()}), adding(once(replace=True, ttl=5000), ONE)),
    case("add_jobs", delayed_winner, adding({**LATE, **once(replace=True)}, ONE)),
    case("add_jobs", jobs({**LATE, **once(ttl=HOUR_MS)}), adding(once(replace=True, ttl=HOUR_MS), layout="5")),
    case("add_jobs", jobs(once(ttl=HOUR_MS)), adding(once(extend=True, ttl=2 * HOUR_MS), ONE, layout="5")),
    case("add_jobs", jobs({**LATE, **once()}), adding({"delay": 5000, **once(reschedule=True)}, ONE)),
    case("add_jobs", both(jobs(once()), raw("DEL", "{base}1"), raw("DEL", "{base}wait"), raw("HSET", "{base}dn:d", "name", "x")),
         adding(once(), ONE)),
    case("add_jobs", full_redis.parked, adding(once(keepLastIfActive=True), ONE)),
    case("add_flow", jobs(ONE, then="P"), adding_flow()),
    case("add_flow", both(split_family("c", children=2), CAP), adding_flow()),
    case("add_flow", both(jobs({"jobId": "c0"}, then="c")), adding_flow(again=True)),
    case("upsert_scheduler", scheduled(), upserting(FAR_MS, FAR_MS, keeps_slot=True)),
    case("upsert_scheduler", scheduled(), upserting(FAR_MS + 1, FAR_MS, priority=2)),
    case("upsert_scheduler", scheduled(LONG_AGO_MS, priority=2), upserting(LONG_AGO_MS + 1, LONG_AGO_MS)),
    case("upsert_scheduler", scheduled(LONG_AGO_MS, lifo=True), upserting(LONG_AGO_MS + 1, LONG_AGO_MS)),
    case("advance_schedulers", both(scheduled(LONG_AGO_MS, then="t"), CAP), advancing()),
    case("advance_schedulers", scheduled(LONG_AGO_MS, then="t"), advancing(layout="5")),
    case("advance_schedulers", both(scheduled(LONG_AGO_MS, then="t"), raw("HSET", f"{{base}}repeat:s:{FAR_MS}", "name", "x")), advancing()),
    case("advance_schedulers", both(scheduled(LONG_AGO_MS, then="t"), raw("HDEL", "{base}repeat:s", "name", "data", "ic")), advancing()),
    case("update_progress", both(jobs({"jobId": "own"}), CAP), on("update_progress", "own", "2")),
    case("add_log", both(jobs({"jobId": "own"}), raw("RPUSH", "{base}own:logs", "a", "b")), on("add_log", "own", "row", 1)),
]  # fmt: skip

TAKING = [
    case("take_jobs", jobs(*MANY), taking(9)),
    case("take_jobs", both(jobs(*MANY), CAP), taking(1)),
    case("take_jobs", both(jobs(*MANY), LIMITED), taking(9)),
    case("take_jobs", both(jobs(*MANY), raw("SET", "{base}limiter", "5", "PX", "600000"), LIMITED), taking(9)),
    case("take_jobs", both(jobs(*MANY), raw("SET", "{base}limiter", "no"), LIMITED), taking(2)),
    case("take_jobs", jobs(*MANY), taking(2, limiter=scripts.Limiter(5, 60_000))),
    case("take_jobs", both(jobs(ONE), raw("RPUSH", "{base}wait", "gone", "gone2"), raw("ZADD", "{base}delayed", "1", "gone3")), taking(3)),
    case("take_jobs", both(raw("RPUSH", "{base}wait", "gone")), taking(1)),
    case("take_jobs", both(jobs(ONE, ONE, then="P"), raw("RPUSH", "{base}wait", "other")), taking(3)),
    case("take_jobs", both(jobs(ONE, ONE), raw("HSET", "{base}meta", "paused", "1", "version", "bullmq:5.1.1")), taking(3)),
    case("take_jobs", both(jobs(ONE), raw("HSET", "{base}1", "ats", "2", "pb", "other", "processedOn", "5", "defa", "x")), taking(3)),
    case("take_jobs", both(jobs(*MANY), raw("HSET", "{base}toril:draining", "w", "1")), taking(3)),
    case("take_jobs", both(jobs(*MANY), raw("SET", "{base}pc", "none")), taking(3)),
    case("finish_and_take", both(jobs(*MANY, then="tt"), raw("RPUSH", "{base}wait", "gone")), ending(completed, completed, take=9)),
    case("finish_and_take", both(jobs(ONE, ONE, ONE, then="tt"), raw("RPUSH", "{base}wait", "gone")), ending(completed, completed, take=2)),
    case("finish_and_take", both(jobs(ONE, ONE, ONE, then="tt"), raw("LPUSH", "{base}wait", "gone")), ending(completed, completed, take=2)),
    case("finish_and_take", both(jobs(ONE, then="t"), raw("RPUSH", "{base}wait", "gone")), ending(completed, take=1)),
]  # fmt: skip

FINISHING = [
    case("finish_and_take", both(jobs(ONE, ONE, ONE, ONE, then="ttt"), LIMITED), ending(completed, failed, retried, take=5)),
    case("finish_and_take", both(jobs(*MANY, then="ttt"), CAP), ending(completed, failed, retried, metrics_minutes=2)),
    case("finish_and_take", both(jobs(ONE, ONE, then="tt"), raw("HSET", "{base}metrics:completed", "count", "5", "prevTS", "9", "prevCount", "1"),
         raw("RPUSH", "{base}metrics:completed:data", "1", "2")), ending(completed, dropped, metrics_minutes=3)),
    case("finish_and_take", jobs(ONE, URGENT, {"lifo": True}, then="ttt"), ending(unstarted, unstarted, Finish.requeue)),
    case("finish_and_take", jobs({"attempts": 3}, {"attempts": 3, "priority": 2}, DUE, then="tt"), ending(retried, retried, take=1)),
    case("finish_and_take", both(jobs(ONE, then="t"), raw("HSET", "{base}1", "defa", "x", "atm", "0", "failedReason", "old")), ending(failed)),
    case("finish_and_take", jobs(ONE, ONE, ONE, ONE, then="fftt"), ending(failed_among_few, failed_among_few)),
    case("finish_and_take", split_family("ft", children=2), ending(failed_among_few)),
    case("finish_and_take", both(jobs(ONE, then="t"), raw("SET", "{base}limiter", "5", "PX", "600000")), ending(lambda held: Finish.limit(held, 0))),
    case("finish_and_take", jobs(ONE, ONE, then="t"), ending(lambda held: Finish.limit(held, HOUR_MS), take=1)),
    case("finish_and_take", both(jobs(ONE, then="t")), ending(Finish.wait_for_children)),
    case("finish_and_take", jobs(ONE, then="t"), ending(lambda held: Finish.delay(held, HOUR_MS), take=1)),
    case("finish_and_take", parked_child, ending(completed)),
    case("finish_and_take", ending_winner, ending(completed)),
    case("finish_and_take", jobs(once(), ONE, then="t"), ending(failed, take=1)),
    *(case("finish_and_take", split_family("t", policy=policy, **options), ending(failed))
      for policy in _POLICIES for options in (ONE, URGENT, LATE)),
    *(case("finish_and_take", split_family("t", **options), ending(end)) for end in (completed, dropped) for options in (ONE, URGENT, LATE)),
    case("finish_and_take", both(split_family("t", policy="failParentOnFailure"), raw("ZREM", "{upper}waiting-children", "p"),
         raw("ZADD", "{upper}delayed", "1", "p")), ending(failed)),
    case("finish_and_take", both(split_family("t"), raw("SET", "{upper}wait", "x")), ending(completed)),
    case("extend_locks", jobs(ONE, ONE, ONE, then="tst"), full_redis.renewing),
    case("recover_stalled", both(stalled(3), CAP), full_redis.recovering),
    case("recover_stalled", both(stalled(2), raw("HSET", "{base}1", "rjk", "s"), raw("LPUSH", "{base}active", "gone"), raw("SADD", "{base}stalled", "gone")),
         full_redis.recovering),
    case("recover_stalled", owed(), full_redis.recovering),
]  # fmt: skip

STEERING = [
    case("promote_due", jobs(*MANY), on("promote_due")),
    case("pause", both(jobs(ONE, ONE), raw("RPUSH", "{base}paused", "x")), on("pause", layout="5")),
    case("resume", both(jobs(ONE, then="P"), raw("RPUSH", "{base}wait", "x")), on("resume")),
    case("resume", jobs(LATE, then="p"), on("resume")),
    case("set_limits", both(jobs(ONE), LIMITED), on("set_limits", {"concurrency": None, "max": 5, "duration": None})),
    case("change_priority", jobs({"jobId": "own"}, ONE), on("change_priority", "own", 4, lifo=True)),
    case("change_priority", jobs(ONE, {"jobId": "own"}, ONE, then="P"), on("change_priority", "own", 4)),
    case("change_priority", jobs({"jobId": "own", **URGENT}, ONE), on("change_priority", "own", 0)),
    case("change_delay", both(jobs({"jobId": "own", **LATE}, LATE), CAP), on("change_delay", "own", 5000)),
    case("retry_job", split_family("f"), on("retry_job", "c0", "failed")),
    *(case("retry_job", split_family("f", policy=policy, children=2), on("retry_job", "c0", "failed", reset_attempts_made=True))
      for policy in _POLICIES[:2]),
    case("retry_job", split_family("c", children=2), on("retry_job", "c0", "completed", reset_attempts_started=True)),
    case("requeue_jobs", both(split_family("ff", children=2, policy="continueParentOnFailure"), raw("ZADD", "{base}failed", "1", "gone")),
         on("requeue_jobs", "failed", count=10)),
    case("leave_parent", split_family(**URGENT), on("leave_parent", "c0")),
    *(case("write_defaults", prepare, writing_defaults) for prepare in (jobs(), raw("HSET", "{base}toril:defaults", "sizeLimit", "5"))),
    *(case("flag_workers", prepare, on("flag_workers", ["w", "x"], HOUR_MS))
      for prepare in (jobs(), raw("HSET", "{base}toril:draining", "x", "1"))),
]  # fmt: skip

REMOVING = [
    case("remove_job", great_family(), on_upper("remove_job", "p", with_children=True, count=100)),
    case("remove_job", great_family(), on_upper("remove_job", "p", with_children=True, count=2)),
    case("remove_job", split_family(children=1), on("remove_job", "c0", with_children=True, count=9)),
    case("remove_job", jobs({"jobId": "own", **once()}, then="P"), on("remove_job", "own", with_children=False, count=9)),
    case("remove_children", great_family(), on_upper("remove_children", "p", count=100)),
    case("remove_children", great_family(), on_upper("remove_children", "p", count=1)),
    *(case("sweep_jobs", jobs(ONE, ONE, ONE, ONE, once()), on("sweep_jobs", "wait", skip=skip, count=2, tell=True)) for skip in (0, 1, 3)),
    case("sweep_jobs", both(jobs(ONE, ONE, ONE, then="tts")), on("sweep_jobs", "active", cutoff_ms=FAR_MS, skip=0, count=3)),
    *(case("sweep_jobs", flow_of_own(**options), on("sweep_jobs", place, skip=0, count=9))
      for options, place in ((LATE, "delayed"), (ONE, "wait"), (URGENT, "prioritized"), (ONE, "waiting-children"))),
    case("sweep_jobs", split_family(), on("sweep_jobs", "wait", skip=0, count=9)),
    case("sweep_jobs", jobs(ONE, ONE, then="ff"), on("sweep_jobs", "failed", cutoff_ms=FAR_MS, skip=0, count=9)),
    case("obliterate", jobs(*MANY, ONE, ONE, then="cft"), on("obliterate", force=True, count=100, is_last=True)),
    case("obliterate", both(great_family(), CAP), on("obliterate", force=True, count=3)),
    case("obliterate", both(flow_of_own(), jobs(ONE, then="P")), on("obliterate", force=True, count=100)),
    case("remove_scheduler", scheduled(), on("remove_scheduler", "s")),
]  # fmt: skip

RICH_CASES = [*ADDING, *TAKING, *FINISHING, *STEERING, *REMOVING]
