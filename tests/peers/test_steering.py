"""Acting on a queue from outside leaves what BullMQ leaves: the same queue twice, changed once by each side."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from support.dumps import NOW_MS, dump, without_moments
from support.engine import EngineQueue
from support.node_peer import Peer, PeerError
from toril import errors
from toril.engine import administration, operations
from toril.engine.keys import QueueKeys
from toril.engine.operations import Operation
from toril.engine.scripts import Layout
from toril.engine.worker import Finish
from toril.jobs.job import JobState

HOUR_MS = 3_600_000
LONG_AGO_MS = 1_000_000_000_000
YEARS_MS = 500_000_000_000
"""What was made long ago is older, and what was made at `NOW_MS` younger. (BullMQ compares the digits as text.)"""
Setup = Callable[[Peer, EngineQueue], Awaitable[None]]
Ours = Callable[[QueueKeys, Layout], Operation[Any]]
Case = tuple[Setup, list[Any], list[Ours]]
"""The queue; calls of theirs (job id or None for the queue's own, method, arguments); ours."""


def added(*jobs: dict[str, Any], then: str = "") -> Setup:
    """A queue with these jobs (options), made at `NOW_MS` unless they say otherwise, and what happened `then`: for each
    letter a job is taken and c completed, f failed, t left running with its lock, s without one; p pauses the queue."""

    async def setup(peer: Peer, ours: EngineQueue) -> None:
        for options in jobs:
            await peer.queue.add("echo", {"n": 1}, **{"timestamp": NOW_MS, **options})
        for number, letter in enumerate(then):
            if letter == "p":
                await ours.producer.pause()
                continue
            (job,) = (await ours.active.take(1, f"t:{number}")).jobs
            if letter == "c":
                await ours.finish(Finish.completed(job, '{"a":1}'))
            elif letter == "f":
                await ours.finish(Finish.failed(job, "no", '["trace"]'))
            elif letter == "s":
                ours.raw.delete(ours.keys.lock(job.id))

    return setup


def call(name: str, *args: Any, **options: Any) -> Ours:
    """One of our functions, with the layout that fits the peer where it takes one."""

    def make(keys: QueueKeys, layout: Layout) -> Operation[Any]:
        function: Callable[..., Operation[Any]] = getattr(administration, name)
        if "layout" in function.__annotations__:
            return function(keys, *args, **options, layout=layout)
        return function(keys, *args, **options)

    return make


CASES: dict[str, Case] = {
    "promote": (
        added({"delay": HOUR_MS}, {"delay": HOUR_MS, "priority": 3}, {"delay": 2 * HOUR_MS}),
        [("1", "promote"), ("2", "promote")],
        [call("promote", "1"), call("promote", "2")],
    ),
    "promote-paused": (
        added({"delay": HOUR_MS}, {"delay": HOUR_MS, "priority": 3}, then="p"),
        [("1", "promote"), ("2", "promote")],
        [call("promote", "1"), call("promote", "2")],
    ),
    "promote-all": (
        added({"delay": HOUR_MS}, {"delay": 2 * HOUR_MS, "priority": 3}, {"delay": 5}, {}),
        [(None, "promoteJobs")],
        [call("promote_all")],
    ),
    "retry-failed": (added({}, {}, then="f"), [("1", "retry", "failed")], [call("retry", "1")]),
    "retry-lifo": (added({"lifo": True}, then="f"), [("1", "retry", "failed")], [call("retry", "1")]),
    "retry-prioritized": (added({"priority": 2}, then="f"), [("1", "retry", "failed")], [call("retry", "1")]),
    "retry-paused": (added({}, {}, then="fp"), [("1", "retry", "failed")], [call("retry", "1")]),
    "retry-completed": (
        added({"attempts": 3}, {}, then="c"),
        [("1", "retry", "completed", {"resetAttemptsMade": True})],
        [call("retry", "1", "completed", reset_attempts_made=True)],
    ),
    "retry-with-all-reset": (
        added({"attempts": 3}, {}, then="f"),
        [("1", "retry", "failed", {"resetAttemptsMade": True, "resetAttemptsStarted": True})],
        [call("retry", "1", reset_attempts_made=True, reset_attempts_started=True)],
    ),
    "retry-all": (added({}, {"priority": 1}, {}, {}, then="ffc"), [(None, "retryJobs")], [call("retry_all")]),
    "retry-all-paused": (added({}, {}, {}, then="ffp"), [(None, "retryJobs")], [call("retry_all")]),
    "promote-all-paused": (added({"delay": HOUR_MS}, then="p"), [(None, "promoteJobs")], [call("promote_all")]),
    "retry-all-completed": (
        added({}, {}, {}, then="ccf"),
        [(None, "retryJobs", {"state": "completed", "count": 1})],
        [call("retry_all", "completed")],
    ),
    "retry-all-of-before": (
        added({}, {}, then="ff"),
        [(None, "retryJobs", {"timestamp": LONG_AGO_MS})],
        [call("retry_all", until_ms=LONG_AGO_MS)],
    ),
    "change-delay": (
        added({"delay": HOUR_MS}, {"delay": 2 * HOUR_MS}),
        [("2", "changeDelay", 1000)],
        [call("change_delay", "2", 1000)],
    ),
    "change-priority-and-back": (
        added({}, {}, {"priority": 5}),
        [("1", "changePriority", {"priority": 5}), ("2", "changePriority", {"priority": 5}),
         ("1", "changePriority", {"priority": 0})],
        [call("change_priority", "1", 5), call("change_priority", "2", 5), call("change_priority", "1", 0)],
    ),
    "change-priority-to-the-front": (
        added({}, {}, {"priority": 5}, {"priority": 5}),
        [("1", "changePriority", {"priority": 5, "lifo": True}),
         ("4", "changePriority", {"priority": 0, "lifo": True})],
        [call("change_priority", "1", 5, lifo=True), call("change_priority", "4", 0, lifo=True)],
    ),
    "change-priority-paused": (
        added({}, {"priority": 5}, then="p"),
        [("1", "changePriority", {"priority": 2}), ("2", "changePriority", {"priority": 0})],
        [call("change_priority", "1", 2), call("change_priority", "2", 0)],
    ),
    "change-priority-elsewhere": (
        added({}, {"delay": HOUR_MS}, then="t"),
        [("1", "changePriority", {"priority": 2}), ("2", "changePriority", {"priority": 3})],
        [call("change_priority", "1", 2), call("change_priority", "2", 3)],
    ),
    "remove-from-everywhere": (
        added({}, {}, {}, {}, {"delay": HOUR_MS}, {"priority": 1}, then="cfs"),
        [(None, "remove", job_id) for job_id in "123456x"],
        [call("remove", job_id) for job_id in "123456x"],
    ),
    "remove-paused": (added({}, {}, then="p"), [(None, "remove", "1")], [call("remove", "1")]),
    "remove-with-its-deduplication": (
        added({"deduplication": {"id": "d"}}, {"deduplication": {"id": "e", "ttl": HOUR_MS}}),
        [(None, "remove", "1"), (None, "remove", "2")],
        [call("remove", "1"), call("remove", "2")],
    ),
    "drain": (
        added({}, {}, {"delay": HOUR_MS}, {"priority": 1}, {"lifo": True}, then="ct"),
        [(None, "drain")],
        [call("drain")],
    ),
    "drain-delayed": (
        added({}, {"delay": HOUR_MS}, {"priority": 1}), [(None, "drain", True)], [call("drain", delayed=True)]
    ),
    "drain-paused": (added({}, {}, then="p"), [(None, "drain")], [call("drain")]),
    "tell": (
        added({"keepLogs": 2}),
        [("1", "updateProgress", {"half": True}), ("1", "updateData", [1, None]), ("1", "log", "a"), ("1", "log", "b"),
         ("1", "log", "c")],
        [call("update_progress", "1", '{"half":true}'), call("update_data", "1", "[1,null]")]
        + [call("add_log", "1", row, 2) for row in "abc"],
    ),
    "clear-logs": (
        added({}),
        [("1", "log", "a"), ("1", "log", "b"), ("1", "clearLogs", 1)],
        [call("add_log", "1", "a"), call("add_log", "1", "b"), call("clear_logs", "1", 1)],
    ),
    "clear-all-logs": (
        added({}), [("1", "log", "a"), ("1", "clearLogs")], [call("add_log", "1", "a"), call("clear_logs", "1")]
    ),
}  # fmt: skip

OLD = {"timestamp": LONG_AGO_MS}
MIXED = added(
    {}, {}, {}, OLD, {}, OLD, {"priority": 2}, {"priority": 1, **OLD}, {"delay": HOUR_MS}, {"delay": HOUR_MS, **OLD},
    then="cfs",
)  # fmt: skip
"""Jobs of all states and ages."""

CLEANED = ["completed", "failed", "active", "waiting", "prioritized", "delayed", "waiting-children"]
for _state in CLEANED:
    for _grace_ms, _limit in ((0, 0), (YEARS_MS, 0), (YEARS_MS, 2)):
        CASES[f"clean-{_state}-{_grace_ms}-{_limit}"] = (
            MIXED,
            [(None, "clean", _grace_ms, _limit, _state)],
            [call("clean", JobState(_state), grace_ms=_grace_ms, limit=_limit)],
        )


def seen(queue: EngineQueue) -> dict[str, Any]:
    """A dump, with the wake-ups, those of moments of this test without their time."""
    marker = queue.raw.zrange(queue.keys.marker, 0, -1, withscores=True)
    found = without_moments(dump(queue))
    is_given = {member: score == 0 or abs(score - NOW_MS) < 24 * HOUR_MS for member, score in marker}
    found["marker"] = [(member, score if is_given[member] else "some moment") for member, score in marker]
    return found


async def theirs_then_ours(peer: Peer, ours: EngineQueue, case: Case) -> None:
    setup, their_calls, our_calls = case
    await setup(peer, ours)
    for job_id, method, *args in their_calls:
        await (peer.queue.call(method, *args) if job_id is None else peer.queue.job(job_id, method, *args))
    expected = seen(ours)
    ours.raw.delete(*ours.raw.keys("*"))
    await setup(peer, ours)
    for make in our_calls:
        await operations.execute(ours.connection, make(ours.keys, ours.producer.layout))
    assert seen(ours) == expected


@pytest.mark.wire(35, 36, 53, 54, 55, 61, 64, 96)
@pytest.mark.requirement("I-22", "I-32", "X-26")
@pytest.mark.parametrize("name", CASES)
async def test_the_same_call_leaves_the_same_queue(peer: Peer, ours: EngineQueue, name: str) -> None:
    await theirs_then_ours(peer, ours, CASES[name])


REFUSALS: dict[str, tuple[Setup, Any, Ours, type[Exception]]] = {
    "promote-what-waits": (added({}), ("1", "promote"), call("promote", "1"), errors.JobStateError),
    "retry-what-waits": (added({}), ("1", "retry", "failed"), call("retry", "1"), errors.JobStateError),
    "retry-what-completed": (added({}, then="c"), ("1", "retry", "failed"), call("retry", "1"), errors.JobStateError),
    "change-the-delay-of-what-waits": (
        added({}), ("1", "changeDelay", 5), call("change_delay", "1", 5), errors.JobStateError,
    ),
    "remove-what-runs": (added({}, then="t"), ("1", "remove"), call("remove", "1"), errors.JobLockedError),
    "leave-no-parent": (added({}), ("1", "removeChildDependency"), call("leave_parent", "1"), errors.JobStateError),
}  # fmt: skip


@pytest.mark.wire(64)
@pytest.mark.parametrize("name", REFUSALS)
async def test_both_refuse_and_change_nothing(peer: Peer, ours: EngineQueue, name: str) -> None:
    setup, (job_id, method, *args), make, error = REFUSALS[name]
    await setup(peer, ours)
    before = dump(ours)
    with pytest.raises(PeerError):
        await (peer.queue.call(method, *args) if job_id is None else peer.queue.job(job_id, method, *args))
    assert dump(ours) == before
    with pytest.raises(error):
        await operations.execute(ours.connection, make(ours.keys, ours.producer.layout))
    assert dump(ours) == before


GONE = {
    "promote": call("promote", "9"), "retry": call("retry", "9"), "delay": call("change_delay", "9", 5),
    "priority": call("change_priority", "9", 5), "progress": call("update_progress", "9", "1"),
    "data": call("update_data", "9", "1"), "log": call("add_log", "9", "row"), "parent": call("leave_parent", "9"),
}  # fmt: skip


@pytest.mark.wire(96)
@pytest.mark.parametrize("name", GONE)
async def test_a_job_that_is_gone(redis_url: str, ours: EngineQueue, name: str) -> None:
    with pytest.raises(errors.JobNotFoundError, match="job 9 of queue"):
        await operations.execute(ours.connection, GONE[name](ours.keys, "6"))
    assert ours.raw.keys("*") == []
