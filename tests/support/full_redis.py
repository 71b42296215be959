"""Every script of ours for a Redis at `maxmemory`: a state where it has something to do, and BullMQ's call then.

`CASES` is what the tests run and what the table in docs/at-least-once.md is made of.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from support.engine import EngineQueue
from toril.engine import flows, scripts
from toril.engine.flows import Node
from toril.engine.redis.connection import Call
from toril.engine.scripts import Limiter, Taker
from toril.jobs.job import JobState, NewJob
from toril.jobs.options import JobOptions
from toril.jobs.outcome import Finish, TakenJob
from toril.jobs.parents import ParentLink
from toril.jobs.queue_defaults import QueueDefaults
from toril.jobs.retention import KeepPolicy
from toril.jobs.schedule import Schedule
from toril.jobs.scheduler import JobTemplate, NextJob

Jobs = list[TakenJob]
Prepare = Callable[[EngineQueue], Awaitable[Jobs]]
"""Makes the state; returns the jobs that are taken then, in order."""
Ask = Callable[[EngineQueue, Jobs], Call[Any]]
LONG_AGO_MS = 1_000_000_000_000
HOUR_MS = 3_600_000
TOKEN = "test:1"
"""Of the first take on an `EngineQueue`."""


@dataclass(frozen=True, slots=True)
class Case:
    """One call of a script in a state."""

    script: str
    words: str
    """What is done, in the words of the page; cases of the same words share a row."""
    prepare: Prepare
    ask: Ask
    passes: bool = True
    """Whether it is carried out when Redis is full; else it is refused and nothing is written."""
    theirs: tuple[Any, ...] = ()
    """BullMQ's call: `queue`, `worker`, `flows` or a job's id; the method; its arguments. Empty = there is none."""
    they_pass: bool = True
    """Whether BullMQ's call is carried out when Redis is full."""
    is_read: bool = False
    """Whether nothing is written by it at all."""


def jobs(*options: dict[str, Any], then: str = "") -> Prepare:
    """A queue with jobs of these options, and what happened `then`: for each letter one is taken and c completed,
    f failed, t left running, l left running with a lock of an hour, s without a lock; p pauses the queue, P as BullMQ 5
    does."""

    async def prepare(queue: EngineQueue) -> Jobs:
        held: Jobs = []
        for given in options:
            await queue.add("echo", {"n": 1}, **given)
        for letter in then:
            if letter in "pP":
                await queue.connection.run(scripts.pause(queue.keys, layout="6" if letter == "p" else "5"))
                continue
            job = await queue.take_one()
            if letter == "c":
                await queue.finish(Finish.completed(job, '{"a":1}'))
            elif letter == "f":
                await queue.finish(Finish.failed(job, "no", '["trace"]'))
            else:
                held.append(job)
                if letter == "s":
                    queue.raw.delete(queue.keys.lock(job.id))
                elif letter == "l":
                    queue.raw.pexpire(queue.keys.lock(job.id), HOUR_MS)
        return held

    return prepare


def family(then: str = "", *, policy: str = "") -> Prepare:
    """A job `parent` that waits for its two children `a` and `b`, and what happened `then`: as with `jobs`."""

    async def prepare(queue: EngineQueue) -> Jobs:
        options = {policy: True} if policy else {}
        children = [Node(queue.keys, job(jobId=job_id, **options)) for job_id in "ab"]
        root = Node(queue.keys, job(jobId="parent"), children)
        await queue.connection.run(scripts.add_flow(flows.lay_out([root]), now_ms=LONG_AGO_MS))
        return await jobs(then=then)(queue)

    return prepare


async def parked(queue: EngineQueue) -> Jobs:
    """A running job with a deduplication id, and another that is to follow it."""
    deduplication = {"id": "d", "keepLastIfActive": True}
    await queue.add("echo", {"n": 1}, deduplication=deduplication)
    held = await queue.take()
    assert await queue.add("echo", {"n": 2}, deduplication=deduplication) == held[0].id
    return held


def scheduled(then: str = "") -> Prepare:
    """A queue with a scheduler `s`, whose first job is there at once."""

    async def prepare(queue: EngineQueue) -> Jobs:
        await queue.connection.run(upsert(queue, []))
        return await jobs(then=then)(queue)

    return prepare


def upsert(queue: EngineQueue, held: Jobs, seen_ms: int | None = None) -> Call[Any]:
    slot_ms = LONG_AGO_MS if seen_ms is None else seen_ms + HOUR_MS
    made = scripts.Upsert("s", Schedule(every_ms=HOUR_MS), JobTemplate("echo"), seen_ms, slot_ms, keeps_slot=False)
    return scripts.upsert_scheduler(queue.keys, made)


def advance(queue: EngineQueue, held: Jobs) -> Call[Any]:
    following = NextJob("s", LONG_AGO_MS, LONG_AGO_MS + HOUR_MS, "echo", "{}", {"attempts": 0})
    return scripts.advance_schedulers(queue.keys, [following])


def job(**options: Any) -> NewJob:
    return NewJob.create("echo", {"n": 1}, JobOptions.from_bullmq(options))


def adding(*options: dict[str, Any]) -> Ask:
    return lambda queue, held: scripts.add_jobs(queue.keys, [job(**given) for given in options], now_ms=LONG_AGO_MS)


def adding_child(queue: EngineQueue, held: Jobs) -> Call[Any]:
    return scripts.add_jobs(
        queue.keys, [job().under(ParentLink(held[0].id, queue.keys.qualified_name))], now_ms=LONG_AGO_MS
    )


def adding_flow(queue: EngineQueue, held: Jobs) -> Call[Any]:
    root = Node(queue.keys, job(jobId="parent"), [Node(queue.keys, job(jobId="child"))])
    return scripts.add_flow(flows.lay_out([root]), now_ms=LONG_AGO_MS)


def finishing(*make: Callable[[TakenJob], Finish], take: int = 0, taker: Taker | None = None) -> Ask:
    return lambda queue, held: scripts.finish_and_take(
        queue.keys,
        taker or queue.active.taker,
        [end(job) for end, job in zip(make, held, strict=True)],
        take,
        "next:1",
    )


def on(name: str, *args: Any, **options: Any) -> Ask:
    """A script that takes the queue's keys and these."""
    return lambda queue, held: getattr(scripts, name)(queue.keys, *args, **options)


def completed(held: TakenJob) -> Finish:
    return Finish.completed(held, '"done"')


def failed(held: TakenJob) -> Finish:
    return Finish.failed(held, "no", '["trace"]')


async def due_by_schedule(queue: EngineQueue) -> Jobs:
    """A job of a scheduler that has just come due. BullMQ's take makes the next one too."""
    await scheduled()(queue)
    job_id = queue.raw.rpop(queue.keys.wait)
    queue.raw.zadd(queue.keys.delayed, {job_id: LONG_AGO_MS * 4096})
    return []


async def running_parent(queue: EngineQueue) -> Jobs:
    """A running job `parent` with a child that waits."""
    await queue.add("echo", {"n": 1}, jobId="parent")
    held = await queue.take()
    await queue.connection.run(adding_child(queue, held))
    return held


def upserting_again(queue: EngineQueue, held: Jobs) -> Call[Any]:
    return upsert(queue, held, seen_ms=LONG_AGO_MS)


def renewing(queue: EngineQueue, held: Jobs) -> Call[Any]:
    return scripts.extend_locks(queue.keys, held, 30_000)


def recovering(queue: EngineQueue, held: Jobs) -> Call[Any]:
    return scripts.recover_stalled(queue.keys, max_stalled_count=1, interval_ms=1000)


async def stalled(queue: EngineQueue) -> Jobs:
    """A job that has been found without a lock once."""
    held = await jobs(OWN, then="s")(queue)
    queue.raw.sadd(queue.keys.stalled, held[0].id)
    return held


async def restarted(queue: EngineQueue) -> Jobs:
    """A job of a process that is registered, and that has died."""
    await queue.connection.run(registering("before")(queue, []))
    await queue.add("echo", {"n": 1}, **OWN)
    return (await queue.worker("pod").take(1, "pod:before:1")).jobs


def registering(process: str, *, is_start: bool = True) -> Ask:
    return lambda queue, held: scripts.register_worker(
        queue.keys, "pod", process, "uid/worker", max_stalled_count=1, lifetime_ms=HOUR_MS, is_start=is_start
    )


def taking(queue: EngineQueue, held: Jobs) -> Call[Any]:
    return scripts.finish_and_take(queue.keys, queue.active.taker, [], 1, "next:1")


def writing_defaults(generation: int | None) -> Ask:
    given = QueueDefaults.create({"attempts": 3})
    return lambda queue, held: scripts.write_defaults(queue.keys, "cluster", "uid", generation, given)


async def with_defaults(queue: EngineQueue) -> Jobs:
    await queue.connection.run(writing_defaults(1)(queue, []))
    return []


def flagging(queue: EngineQueue, held: Jobs) -> Call[Any]:
    return scripts.flag_workers(queue.keys, ["worker-1"], 60_000)


async def with_flags(queue: EngineQueue) -> Jobs:
    await queue.connection.run(scripts.flag_workers(queue.keys, ["worker-2"], HOUR_MS))
    return []


def keeping(count: int) -> Callable[[TakenJob], Finish]:
    return lambda held: Finish.completed(held, "1", KeepPolicy(count=count))


ONE: dict[str, Any] = {}
DUE = {"timestamp": LONG_AGO_MS, "delay": 1000}
LATE = {"delay": HOUR_MS}
OWN = {"jobId": "own"}
URGENT = {"priority": 1}
ONCE = {"deduplication": {"id": "d"}}
LATEST = {"deduplication": {"id": "d", "keepLastIfActive": True}}
THEIR_SCHEDULER = ("queue", "upsertJobScheduler", "s", {"every": HOUR_MS}, {"name": "echo"})
THEIR_TAKE = ("worker", "getNextJob", "next:1", {"block": False})
QUEUE = "{queue}"
"""In BullMQ's arguments: the queue's own name."""
THEIR_CHECK = ("worker", "moveStalledJobsToWait")


def their_add(options: dict[str, Any]) -> tuple[Any, ...]:
    return ("queue", "add", "echo", {"n": 1}, options)


def refused(script: str, words: str, prepare: Prepare, ask: Ask, *theirs: Any, they_pass: bool = False) -> Case:
    return Case(script, words, prepare, ask, passes=False, theirs=theirs, they_pass=they_pass)


def passes(script: str, words: str, prepare: Prepare, ask: Ask, *theirs: Any, they_pass: bool = True) -> Case:
    return Case(script, words, prepare, ask, theirs=theirs, they_pass=they_pass)


def reads(script: str, ask: Ask, *theirs: Any) -> Case:
    return Case(script, "read jobs, counts and schedulers", jobs(OWN, then="t"), ask, theirs=theirs, is_read=True)


_ADDED = "add a job, alone or among many"
_FINISHED = "complete or fail a job; take the next"
_AGAIN = "let a failed attempt be followed by another"
_BACK = "give a running job back, put it off, or let it wait for its children"
_BROUGHT = "what an end brings along: a parent that runs, a job that waited for its deduplication id"
_REGISTERED = "register a worker, and take back the jobs of the one before it in its container"
_POLICIES = (
    "failParentOnFailure", "continueParentOnFailure", "ignoreDependencyOnFailure", "removeDependencyOnFailure",
)  # fmt: skip
_THEIR_CHILD = {"name": "echo", "queueName": QUEUE, "opts": {"jobId": "child"}}
_THEIR_FLOW = {"name": "echo", "queueName": QUEUE, "opts": {"jobId": "parent"}, "children": [_THEIR_CHILD]}

CASES = [
    *(refused("add_jobs", _ADDED, jobs(), adding(options), *their_add(options))
      for options in (ONE, OWN, LATE, URGENT, {"lifo": True}, ONCE)),
    refused("add_jobs", _ADDED, jobs(OWN), adding(OWN), *their_add(OWN)),
    refused("add_jobs", _ADDED, jobs(ONE, then="p"), adding(ONE), *their_add(ONE)),
    refused("add_jobs", _ADDED, jobs(ONE, then="P"), adding(ONE), *their_add(ONE)),
    refused("add_jobs", _ADDED, jobs({**LATE, **ONCE}), adding(ONCE), *their_add(ONCE)),
    refused("add_jobs", _ADDED, parked, adding(LATEST), *their_add(LATEST)),
    refused("add_jobs", _ADDED, jobs(), adding(ONE, LATE, OWN), "queue", "addBulk", [{"name": "echo", "data": {}}] * 3),
    refused("add_jobs", "add a child to a running job", jobs(ONE, then="t"), adding_child,
            *their_add({"parent": {"id": "1", "queue": f"bull:{QUEUE}"}})),
    refused("add_flow", "add a flow", jobs(), adding_flow, "flows", "add", _THEIR_FLOW),
    refused("upsert_scheduler", "store a job scheduler", jobs(), upsert, *THEIR_SCHEDULER),
    refused("upsert_scheduler", "store a job scheduler", scheduled(then="t"), upserting_again, *THEIR_SCHEDULER,
            they_pass=True),
    refused("advance_schedulers", "make the next job of a job scheduler", due_by_schedule, advance, *THEIR_TAKE),
    refused("update_data", "replace a job's data", jobs(OWN, then="t"), on("update_data", "own", "2"),
            "own", "updateData", 2),
    refused("update_progress", "store progress", jobs(OWN, then="t"), on("update_progress", "own", "2"),
            "own", "updateProgress", 2),
    refused("add_log", "append to a job's log", jobs(OWN, then="t"), on("add_log", "own", "row", None),
            "own", "log", "row"),

    refused("write_defaults", "store a queue's defaults", jobs(ONE), writing_defaults(1)),

    passes("write_defaults", "remove a queue's defaults", with_defaults, writing_defaults(None)),
    *(passes("finish_and_take", "take jobs", prepare, taking, *THEIR_TAKE, they_pass=can)
      for prepare, can in (
          (jobs(ONE), False), (jobs(URGENT), False), (jobs(DUE), True), (jobs({**DUE, **URGENT}), True),
          (jobs(DUE, then="p"), True))),
    passes("finish_and_take", _FINISHED, jobs(OWN, ONE, then="t"), finishing(completed, take=1),
           "own", "moveToCompleted", "done", TOKEN, False),
    passes("finish_and_take", _FINISHED, jobs(OWN, then="t"), finishing(completed),
           "own", "moveToCompleted", "done", TOKEN, False),
    passes("finish_and_take", _FINISHED, jobs(ONE, ONE, ONE, then="tt"), finishing(completed, failed, take=2)),
    passes("finish_and_take", _FINISHED, jobs(OWN, then="t"), finishing(failed), "own", "failJob", TOKEN),
    *(passes("finish_and_take", _FINISHED, jobs(ONE, ONE, then="ct"), finishing(keeping(count))) for count in (0, 1)),
    passes("finish_and_take", _FINISHED, jobs(ONE, ONE, ONE, then="tt"),
           finishing(completed, failed, take=1, taker=Taker(metrics_minutes=5, limiter=Limiter(10, 60_000)))),
    passes("finish_and_take", _AGAIN, jobs({**OWN, "attempts": 3}, DUE, then="t"),
           finishing(lambda held: Finish.retry(held, "no", "[]", 0)), "own", "failJob", TOKEN),
    passes("finish_and_take", _AGAIN, jobs({**OWN, "attempts": 3, "backoff": 60_000}, then="t"),
           finishing(lambda held: Finish.retry(held, "no", "[]", 60_000)), "own", "failJob", TOKEN),
    *(passes("finish_and_take", _BACK, jobs({**OWN, **given}, then="t"), finishing(Finish.requeue),
             "own", "moveToWait", TOKEN) for given in (ONE, URGENT)),
    passes("finish_and_take", _BACK, jobs(OWN, then="t"),
           finishing(lambda held: Finish.requeue(held, has_started=False))),
    passes("finish_and_take", _BACK, jobs(OWN, then="t"), finishing(lambda held: Finish.limit(held, 60_000))),
    passes("finish_and_take", _BACK, jobs(OWN, then="t"), finishing(lambda held: Finish.delay(held, 60_000)),
           "own", "moveToDelayed", 4_000_000_000_000, TOKEN),
    passes("finish_and_take", _BACK, running_parent, finishing(Finish.wait_for_children),
           "parent", "moveToWaitingChildren", TOKEN),
    passes("finish_and_take", _BROUGHT, family(then="ct"), finishing(completed),
           "b", "moveToCompleted", "done", "test:3", False),
    *(passes("finish_and_take", _BROUGHT, family(then="ct", policy=policy), finishing(failed),
             "b", "failJob", "test:3") for policy in _POLICIES),
    passes("finish_and_take", _BROUGHT, parked, finishing(completed), "1", "moveToCompleted", "done", TOKEN, False),
    passes("extend_locks", "renew a lock", jobs(OWN, then="l"), renewing, "own", "extendLock", TOKEN, 30_000,
           they_pass=False),
    passes("extend_locks", "renew a lock", jobs(OWN, then="s"), renewing),
    passes("recover_stalled", "give stalled jobs back", stalled, recovering, *THEIR_CHECK, they_pass=False),
    passes("register_worker", _REGISTERED, jobs(ONE), registering("now")),
    passes("register_worker", _REGISTERED, jobs(ONE), registering("now", is_start=False)),
    passes("register_worker", _REGISTERED, restarted, registering("now")),
    passes("promote_due", "let the delayed jobs run that are due", jobs(DUE, LATE), on("promote_due")),
    *(passes("promote_job", "let a delayed job run now", jobs({**OWN, **LATE, **given}),
             on("promote_job", "own"), "own", "promote") for given in (ONE, URGENT)),
    passes("requeue_jobs", "let all delayed jobs run now", jobs(LATE, LATE),
           on("requeue_jobs", "delayed", count=10), "queue", "promoteJobs", they_pass=False),
    *(passes("retry_job", "let finished jobs run again", jobs({**OWN, **given}, then=then),
             on("retry_job", "own", state), "own", "retry", state)
      for given in (ONE, URGENT) for then, state in (("f", "failed"), ("c", "completed"))),
    *(passes("requeue_jobs", "let finished jobs run again", jobs(ONE, ONE, then=then * 2),
             on("requeue_jobs", state, count=10), "queue", "retryJobs", {"state": state})
      for then, state in (("f", "failed"), ("c", "completed"))),
    passes("change_delay", "change a job's delay or priority", jobs({**OWN, **LATE}), on("change_delay", "own", 60_000),
           "own", "changeDelay", 60_000),
    *(passes("change_priority", "change a job's delay or priority", jobs({**OWN, **given}, then=then),
             on("change_priority", "own", 2), "own", "changePriority", {"priority": 2})
      for given, then in ((ONE, ""), (URGENT, ""), (LATE, ""), (ONE, "t"))),
    passes("pause", "pause a queue", jobs(ONE), on("pause"), "queue", "pause", they_pass=False),
    passes("pause", "pause a queue", jobs(ONE), on("pause", layout="5")),
    passes("resume", "resume a queue", jobs(ONE, then="p"), on("resume"), "queue", "resume"),
    passes("resume", "resume a queue", jobs(ONE, then="P"), on("resume")),
    passes("set_limits", "set limits of a queue", jobs(ONE), on("set_limits", {"concurrency": 2}),
           "queue", "setGlobalConcurrency", 2, they_pass=False),
    passes("set_limits", "set limits of a queue", jobs(ONE), on("set_limits", {"max": 2, "duration": 1000}),
           "queue", "setGlobalRateLimit", 2, 1000, they_pass=False),
    *(passes("flag_workers", "flag workers that are to take nothing more", prepare, flagging)
      for prepare in (jobs(ONE), with_flags)),
    passes("remove_job", "remove jobs and job schedulers", jobs(OWN),
           on("remove_job", "own", with_children=True, count=10), "own", "remove"),
    passes("remove_job", "remove jobs and job schedulers", family(),
           on("remove_job", "parent", with_children=True, count=10), "parent", "remove"),
    passes("remove_job", "remove jobs and job schedulers", family(),
           on("remove_job", "a", with_children=True, count=1), "a", "remove"),
    passes("remove_children", "remove jobs and job schedulers", family(),
           on("remove_children", "parent", count=10), "parent", "removeUnprocessedChildren"),
    passes("leave_parent", "remove jobs and job schedulers", family(then="c"), on("leave_parent", "b"),
           "b", "removeChildDependency"),
    passes("sweep_jobs", "remove jobs and job schedulers", jobs(ONE, ONE),
           on("sweep_jobs", "wait", skip=0, count=10, emits_cleaned=True), "queue", "drain"),
    passes("sweep_jobs", "remove jobs and job schedulers", jobs(ONE, then="c"),
           on("sweep_jobs", "completed", skip=0, count=10), "queue", "clean", 0, 0, "completed"),
    passes("obliterate", "remove a queue with all that it holds", jobs(ONE, ONE),
           on("obliterate", force=False, count=10), "queue", "obliterate", they_pass=False),
    passes("remove_scheduler", "remove jobs and job schedulers", scheduled(), on("remove_scheduler", "s"),
           "queue", "removeJobScheduler", "s"),

    reads("adopt_jobs", on("adopt_jobs", "test:", [])),
    reads("read_signals", lambda queue, held: scripts.read_signals([queue.keys])),
    reads("read_job", on("read_job", "own"), "own", "getState"),
    reads("read_children", on("read_children", "own"), "own", "getDependencies"),
    reads("read_jobs", on("read_jobs", JobState.ACTIVE, first=0, last=-1), "queue", "getActive"),
    reads("count_priorities", on("count_priorities", [0, 1]), "queue", "getCountsPerPriority", [0, 1]),
    reads("read_schedulers", on("read_schedulers", "due", 0, 10), "queue", "getJobSchedulers"),
]  # fmt: skip


def table() -> str:
    """The table of docs/at-least-once.md: what a full Redis refuses and carries out, of ours and of BullMQ's."""
    by_words: dict[str, list[Case]] = {}
    for case in CASES:
        by_words.setdefault(case.words, []).append(case)
    rows = [
        f"| {words} | {_answer({case.passes for case in cases})} | "
        f"{_answer({case.they_pass for case in cases if case.theirs})} |"
        for words, cases in by_words.items()
    ]
    return "\n".join(["| at `maxmemory` | Toril | BullMQ 6 |", "|---|---|---|", *rows])


def _answer(passes: set[bool]) -> str:
    if len(passes) == 2:
        return "carried out or refused, by state"
    return {True: "carried out", False: "refused", None: "—"}[next(iter(passes), None)]
