"""Every script in states in which it has much to undo when it is refused: beyond those of `full_redis`."""

from __future__ import annotations

from support import full_redis
from support.full_redis import HOUR_MS, LATE, LONG_AGO_MS, ONE, jobs, on
from support.refusal_states import (
    DUE,
    FAR_MS,
    URGENT,
    above_alone,
    adding,
    adding_flow,
    advancing,
    both,
    case,
    completed,
    crowd,
    deep_family,
    delayed_winner,
    dropped,
    ending,
    ending_winner,
    failed,
    failed_among_few,
    flow_of_own,
    gone_job,
    great_family,
    odd_job,
    on_upper,
    once,
    owed,
    parked_child,
    raw,
    repeated,
    retried,
    scheduled,
    split_family,
    stalled,
    suspect,
    taking,
    unstarted,
    upserting,
    writing_defaults,
)
from toril.engine import scripts
from toril.jobs.job import JobState
from toril.jobs.outcome import Finish
from toril.jobs.queue_defaults import QueueDefaults

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
    case(
        "add_jobs",
        both(
            split_family("c", children=1), raw("DEL", "{upper}wait"), raw("ZADD", "{upper}waiting-children", "1", "p")
        ),
        adding({"jobId": "c0"}, parent="p"),
    ),
    case("add_jobs", jobs({**LATE, **once()}), adding(once(replace=True, ttl=5000), ONE)),
    case("add_jobs", delayed_winner, adding({**LATE, **once(replace=True)}, ONE)),
    case("add_jobs", jobs({**LATE, **once(ttl=HOUR_MS)}), adding(once(replace=True, ttl=HOUR_MS), layout="5")),
    case("add_jobs", jobs(once(ttl=HOUR_MS)), adding(once(extend=True, ttl=2 * HOUR_MS), ONE, layout="5")),
    case("add_jobs", jobs({**LATE, **once()}), adding({"delay": 5000, **once(reschedule=True)}, ONE)),
    case(
        "add_jobs",
        both(jobs(once()), raw("DEL", "{base}1"), raw("DEL", "{base}wait"), raw("HSET", "{base}dn:d", "name", "x")),
        adding(once(), ONE),
    ),
    case("add_jobs", full_redis.parked, adding(once(keepLastIfActive=True), ONE)),
    case("add_jobs", jobs(ONE), adding(ONE, ONE, ONE)),
    case("add_jobs", both(split_family(), above_alone("p2")), adding({"jobId": "c0"}, parent="p2")),
    case("add_flow", jobs(ONE, then="P"), adding_flow()),
    case("add_flow", split_family(), adding_flow(again=True)),
    case("add_flow", jobs(), adding_flow(under="nobody")),
    case("add_flow", both(split_family("c", children=2), CAP), adding_flow()),
    case("add_flow", both(jobs({"jobId": "c0"}, then="c")), adding_flow(again=True)),
    case("upsert_scheduler", scheduled(), upserting(FAR_MS, FAR_MS, keeps_slot=True)),
    case("upsert_scheduler", scheduled(), upserting(FAR_MS + 1, FAR_MS, priority=2)),
    case("upsert_scheduler", scheduled(LONG_AGO_MS, priority=2), upserting(LONG_AGO_MS + 1, LONG_AGO_MS)),
    case("upsert_scheduler", scheduled(LONG_AGO_MS, lifo=True), upserting(LONG_AGO_MS + 1, LONG_AGO_MS)),
    case("advance_schedulers", both(scheduled(LONG_AGO_MS, then="t"), CAP), advancing()),
    case("advance_schedulers", scheduled(LONG_AGO_MS, then="t"), advancing(layout="5")),
    case(
        "advance_schedulers",
        both(scheduled(LONG_AGO_MS, then="t"), raw("HSET", f"{{base}}repeat:s:{FAR_MS}", "name", "x")),
        advancing(),
    ),
    case(
        "advance_schedulers",
        both(scheduled(LONG_AGO_MS, then="t"), raw("HDEL", "{base}repeat:s", "name", "data", "ic")),
        advancing(),
    ),
    case("update_progress", both(jobs({"jobId": "own"}), CAP), on("update_progress", "own", "2")),
    case(
        "add_log",
        both(jobs({"jobId": "own"}), raw("RPUSH", "{base}own:logs", "a", "b")),
        on("add_log", "own", "row", 1),
    ),
]

TAKING = [
    case("finish_and_take", jobs(*MANY), taking(9)),
    case("finish_and_take", both(jobs(*MANY), CAP), taking(1)),
    case("finish_and_take", both(jobs(*MANY), LIMITED), taking(9)),
    case("finish_and_take", both(jobs(*MANY), raw("SET", "{base}limiter", "5", "PX", "600000"), LIMITED), taking(9)),
    case("finish_and_take", both(jobs(*MANY), raw("SET", "{base}limiter", "no"), LIMITED), taking(2)),
    case("finish_and_take", jobs(*MANY), taking(2, limiter=scripts.Limiter(5, 60_000))),
    case(
        "finish_and_take",
        both(jobs(ONE), raw("RPUSH", "{base}wait", "gone", "gone2"), raw("ZADD", "{base}delayed", "1", "gone3")),
        taking(3),
    ),
    case("finish_and_take", both(raw("RPUSH", "{base}wait", "gone")), taking(1)),
    case(
        "finish_and_take",
        both(jobs(ONE), raw("SET", "{base}odd", "x"), raw("RPUSH", "{base}wait", "odd")),
        taking(2),
    ),
    case("finish_and_take", both(jobs(ONE, ONE), raw("HSET", "{base}1", "ats", "2")), taking(2, max_job_bytes=10)),
    case("finish_and_take", both(jobs(ONE, ONE, then="P"), raw("RPUSH", "{base}wait", "other")), taking(3)),
    case(
        "finish_and_take",
        both(jobs(ONE, ONE), raw("HSET", "{base}meta", "paused", "1", "version", "bullmq:5.1.1")),
        taking(3),
    ),
    case(
        "finish_and_take",
        both(jobs(ONE), raw("HSET", "{base}1", "ats", "2", "pb", "other", "processedOn", "5", "defa", "x")),
        taking(3),
    ),
    case("finish_and_take", both(jobs(*MANY), raw("HSET", "{base}toril:draining", "w", "1")), taking(3)),
    case("finish_and_take", both(jobs(*MANY), raw("SET", "{base}pc", "none")), taking(3)),
    case(
        "finish_and_take",
        both(jobs(*MANY, then="tt"), raw("RPUSH", "{base}wait", "gone")),
        ending(completed, completed, take=9),
    ),
    case(
        "finish_and_take",
        both(jobs(ONE, ONE, ONE, then="tt"), raw("RPUSH", "{base}wait", "gone")),
        ending(completed, completed, take=2),
    ),
    case(
        "finish_and_take",
        both(jobs(ONE, ONE, ONE, then="tt"), raw("LPUSH", "{base}wait", "gone")),
        ending(completed, completed, take=2),
    ),
    case("finish_and_take", both(jobs(ONE, then="t"), raw("RPUSH", "{base}wait", "gone")), ending(completed, take=1)),
    case("finish_and_take", jobs(ONE, ONE, then="t"), ending(completed, take=2)),
    case(
        "finish_and_take",
        jobs(ONE),
        lambda queue, held: scripts.finish_and_take(queue.keys, scripts.Taker(), [], 1, "next:1"),
    ),
]

FINISHING = [
    case(
        "finish_and_take",
        both(jobs(ONE, ONE, ONE, ONE, then="ttt"), LIMITED),
        ending(completed, failed, retried, take=5),
    ),
    case("finish_and_take", both(jobs(*MANY, then="ttt"), CAP), ending(completed, failed, retried, metrics_minutes=2)),
    case(
        "finish_and_take",
        both(
            jobs(ONE, ONE, then="tt"),
            raw("HSET", "{base}metrics:completed", "count", "5", "prevTS", "9", "prevCount", "1"),
            raw("RPUSH", "{base}metrics:completed:data", "1", "2"),
        ),
        ending(completed, dropped, metrics_minutes=3),
    ),
    case(
        "finish_and_take", jobs(ONE, URGENT, {"lifo": True}, then="ttt"), ending(unstarted, unstarted, Finish.requeue)
    ),
    case(
        "finish_and_take",
        jobs({"attempts": 3}, {"attempts": 3, "priority": 2}, DUE, then="tt"),
        ending(retried, retried, take=1),
    ),
    case(
        "finish_and_take",
        both(jobs(ONE, then="t"), raw("HSET", "{base}1", "defa", "x", "atm", "0", "failedReason", "old")),
        ending(failed),
    ),
    case("finish_and_take", jobs(ONE, ONE, ONE, ONE, then="fftt"), ending(failed_among_few, failed_among_few)),
    case("finish_and_take", split_family("ft", children=2), ending(failed_among_few)),
    case(
        "finish_and_take",
        both(jobs(ONE, then="t"), raw("SET", "{base}limiter", "5", "PX", "600000")),
        ending(lambda held: Finish.limit(held, 0)),
    ),
    case("finish_and_take", jobs(ONE, ONE, then="t"), ending(lambda held: Finish.limit(held, HOUR_MS), take=1)),
    case("finish_and_take", both(jobs(ONE, then="t")), ending(Finish.wait_for_children)),
    case("finish_and_take", jobs(ONE, then="t"), ending(lambda held: Finish.delay(held, HOUR_MS), take=1)),
    case("finish_and_take", parked_child, ending(completed)),
    case("finish_and_take", ending_winner, ending(completed)),
    case("finish_and_take", jobs(once(), ONE, then="t"), ending(failed, take=1)),
    *(
        case("finish_and_take", split_family("t", policy=policy, **options), ending(failed))
        for policy in _POLICIES
        for options in (ONE, URGENT, LATE)
    ),
    *(
        case("finish_and_take", split_family("t", **options), ending(end))
        for end in (completed, dropped)
        for options in (ONE, URGENT, LATE)
    ),
    case(
        "finish_and_take",
        both(
            split_family("t", policy="failParentOnFailure"),
            raw("ZREM", "{upper}waiting-children", "p"),
            raw("ZADD", "{upper}delayed", "1", "p"),
        ),
        ending(failed),
    ),
    case("finish_and_take", both(split_family("t"), raw("SET", "{upper}wait", "x")), ending(completed)),
    case("finish_and_take", both(jobs(ONE, ONE, then="t"), LIMITED), ending(completed)),
    case("finish_and_take", odd_job, ending(completed, take=1)),
    case("finish_and_take", full_redis.running_parent, ending(completed)),
    *(
        case("finish_and_take", both(jobs(ONE, ONE, then="ts")), ending(completed, end))
        for end in (completed, retried, repeated)
    ),
    case("finish_and_take", gone_job, ending(completed, completed)),
    case(
        "finish_and_take",
        both(
            split_family("t", policy="failParentOnFailure"),
            raw("ZREM", "{upper}waiting-children", "p"),
            raw("LPUSH", "{upper}active", "p"),
        ),
        ending(failed),
    ),
    case("extend_locks", jobs(ONE, ONE, ONE, then="tst"), full_redis.renewing),
    case("recover_stalled", both(stalled(3), CAP), full_redis.recovering),
    case(
        "recover_stalled",
        both(
            stalled(2),
            raw("HSET", "{base}1", "rjk", "s"),
            raw("LPUSH", "{base}active", "gone"),
            raw("SADD", "{base}stalled", "gone"),
        ),
        full_redis.recovering,
    ),
    case("recover_stalled", both(stalled(1), LIMITED), full_redis.recovering),
    case("recover_stalled", crowd("before"), full_redis.recovering),
    case("register_worker", crowd("before"), full_redis.registering("now")),
    case("finish_and_take", suspect, ending(completed)),
    case("recover_stalled", owed(), full_redis.recovering),
    case("recover_stalled", both(owed(), raw("DEL", "{base}c0")), full_redis.recovering),
    case(
        "recover_stalled",
        both(owed(policy="cpof"), raw("HSET", "{upper}p:failed", "{base}c0", "no")),
        full_redis.recovering,
    ),
]

STEERING = [
    case("promote_due", jobs(*MANY), on("promote_due")),
    case("pause", both(jobs(ONE, ONE), raw("RPUSH", "{base}paused", "x")), on("pause", layout="5")),
    case(
        "pause",
        both(jobs(ONE), raw("RPUSH", "{base}wait", *map(str, range(10, 1020))), raw("RPUSH", "{base}paused", "x")),
        on("pause", layout="5"),
    ),
    case("resume", both(jobs(ONE, then="P"), raw("RPUSH", "{base}wait", "x")), on("resume")),
    case("resume", jobs(LATE, then="p"), on("resume")),
    case("set_limits", both(jobs(ONE), LIMITED), on("set_limits", {"concurrency": None, "max": 5, "duration": None})),
    case("change_priority", jobs({"jobId": "own"}, ONE), on("change_priority", "own", 4, lifo=True)),
    case("change_priority", jobs(ONE, {"jobId": "own"}, ONE, then="P"), on("change_priority", "own", 4)),
    case("change_priority", jobs({"jobId": "own", **URGENT}, ONE), on("change_priority", "own", 0)),
    case("change_delay", both(jobs({"jobId": "own", **LATE}, LATE), CAP), on("change_delay", "own", 5000)),
    case("retry_job", split_family("f"), on("retry_job", "c0", "failed")),
    *(
        case(
            "retry_job",
            split_family("f", policy=policy, children=2),
            on("retry_job", "c0", "failed", reset_attempts_made=True),
        )
        for policy in _POLICIES[:2]
    ),
    case("retry_job", split_family("c", children=2), on("retry_job", "c0", "completed", reset_attempts_started=True)),
    case(
        "requeue_jobs",
        both(
            split_family("ff", children=2, policy="continueParentOnFailure"), raw("ZADD", "{base}failed", "1", "gone")
        ),
        on("requeue_jobs", "failed", count=10),
    ),
    case("leave_parent", split_family(**URGENT), on("leave_parent", "c0")),
    *(
        case("write_defaults", prepare, writing_defaults)
        for prepare in (jobs(), raw("HSET", "{base}toril:defaults", "sizeLimit", "5"))
    ),
    *(
        case("flag_workers", prepare, on("flag_workers", ["w", "x"], HOUR_MS))
        for prepare in (jobs(), raw("HSET", "{base}toril:draining", "x", "1"))
    ),
]

REMOVING = [
    case("remove_job", great_family(), on_upper("remove_job", "p", with_children=True, count=100)),
    case("remove_job", great_family(), on_upper("remove_job", "p", with_children=True, count=2)),
    case("remove_job", split_family(children=1), on("remove_job", "c0", with_children=True, count=9)),
    case(
        "remove_job", jobs({"jobId": "own", **once()}, then="P"), on("remove_job", "own", with_children=False, count=9)
    ),
    case("remove_children", great_family(), on_upper("remove_children", "p", count=100)),
    case("remove_children", great_family(), on_upper("remove_children", "p", count=1)),
    case("remove_children", split_family(children=101), on_upper("remove_children", "p", count=2)),
    case("remove_job", flow_of_own(), on("remove_job", "gp", with_children=True, count=5, has_begun=True)),
    case("remove_job", deep_family, on("remove_job", "gp", with_children=True, count=1)),
    case(
        "remove_job", scheduled(LONG_AGO_MS), on("remove_job", f"repeat:s:{LONG_AGO_MS}", with_children=False, count=1)
    ),
    case("sweep_jobs", scheduled(), on("sweep_jobs", "delayed", skip=0, count=5)),
    case(
        "write_defaults",
        raw("HSET", "{base}toril:defaults", "ownerScope", "here", "ownerUid", "uid"),
        lambda queue, held: scripts.write_defaults(queue.keys, "here", "uid", None, QueueDefaults()),
    ),
    *(
        case(
            "sweep_jobs",
            jobs(ONE, ONE, ONE, ONE, once()),
            on("sweep_jobs", "wait", skip=skip, count=2, emits_cleaned=True),
        )
        for skip in (0, 1, 3)
    ),
    case(
        "sweep_jobs",
        both(jobs(ONE, ONE, ONE, then="tts")),
        on("sweep_jobs", "active", cutoff_ms=FAR_MS, skip=0, count=3),
    ),
    *(
        case("sweep_jobs", flow_of_own(**options), on("sweep_jobs", place, skip=0, count=9))
        for options, place in ((LATE, "delayed"), (ONE, "wait"), (URGENT, "prioritized"), (ONE, "waiting-children"))
    ),
    case("sweep_jobs", split_family(), on("sweep_jobs", "wait", skip=0, count=9)),
    case("sweep_jobs", jobs(ONE, ONE, then="ff"), on("sweep_jobs", "failed", cutoff_ms=FAR_MS, skip=0, count=9)),
    case("obliterate", jobs(*MANY, ONE, ONE, then="cft"), on("obliterate", force=True, count=100, is_last=True)),
    case("obliterate", both(great_family(), CAP), on("obliterate", force=True, count=3)),
    case("obliterate", both(flow_of_own(), jobs(ONE, then="P")), on("obliterate", force=True, count=100)),
    case("remove_scheduler", scheduled(), on("remove_scheduler", "s")),
]

READING = [
    *(
        case("read_job", both(jobs({"jobId": "own"}), flow_of_own()), on("read_job", job_id))
        for job_id in ("own", "p", "nobody")
    ),
    *(
        case(
            "read_jobs",
            both(jobs(ONE, ONE, then="c"), raw("RPUSH", "{base}paused", "1")),
            on("read_jobs", state, first=0, last=-1, newest_first=newest),
        )
        for state in (JobState.WAITING, JobState.COMPLETED)
        for newest in (True, False)
    ),
    *(
        case("read_schedulers", scheduled(LONG_AGO_MS), on("read_schedulers", *which))
        for which in (("ids", "s"), ("rank", 0, -1), ("due", 0, 10))
    ),
    # A job larger than the worker reads.
    case("adopt_jobs", jobs(ONE, then="t"), on("adopt_jobs", "test:", [], 1)),
    case("read_signals", jobs(ONE, then="t"), lambda queue, held: scripts.read_signals([queue.keys], with_locks=True)),
]

RICH_CASES = [*READING, *ADDING, *TAKING, *FINISHING, *STEERING, *REMOVING]
