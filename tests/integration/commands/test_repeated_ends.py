"""Ends that are sent again because no answer came. What was carried out is told as done, whoever has the job by now."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from support.contents import contents
from support.engine import EngineQueue
from toril.engine import administration, operations
from toril.engine.maintenance import recover_stalled
from toril.engine.worker import Finish, TakenJob
from toril.jobs.retention import KeepPolicy
from toril.worker import finish_codes

ENDS: dict[str, Callable[[TakenJob], Finish]] = {
    "completed": lambda job: Finish.completed(job, '"old"'),
    "completed, one kept": lambda job: Finish.completed(job, '"old"', KeepPolicy(count=1)),
    "failed": lambda job: Finish.failed(job, "old", "[]"),
    "retry": lambda job: Finish.retry(job, "old", "[]", 0),
    "retry later": lambda job: Finish.retry(job, "old", "[]", 60_000),
    "requeue": Finish.requeue,
    "requeue, unstarted": lambda job: Finish.requeue(job, has_started=False),
    "limit": lambda job: Finish.limit(job, 0),
    "delay": lambda job: Finish.delay(job, 60_000),
    "waiting-children": Finish.wait_for_children,
}
SINCE = ("nothing", "run by another", "run by one that is gone", "ended by another", "retried by another")


def again(finish: Finish) -> Finish:
    return dataclasses.replace(finish, is_repeated=True)


async def make_runnable(queue: EngineQueue, job_id: str) -> None:
    """From wherever it is."""
    (place,) = (name for name, ids in queue.places().items() if job_id in ids)
    match place:
        case "completed" | "failed":
            await operations.execute(queue.connection, administration.retry(queue.keys, job_id, place))
        case "delayed":
            await operations.execute(queue.connection, administration.promote(queue.keys, job_id))


async def go_on(queue: EngineQueue, job_id: str, since: str) -> None:
    """What others do with a job that the worker has let go, or lost."""
    if since == "nothing":
        return
    await make_runnable(queue, job_id)
    job = await queue.take_one()
    match since:
        case "run by one that is gone":
            queue.raw.delete(queue.keys.lock(job_id))
        case "ended by another":
            await queue.finish(Finish.completed(job, '"new"'))
        case "retried by another":
            await queue.finish(Finish.retry(job, "new", "[]", 60_000))


def dump(queue: EngineQueue) -> dict[str, Any]:
    return contents(queue.raw, queue.keys.base + "*")


@pytest.fixture(params=ENDS)
def end(request: pytest.FixtureRequest) -> Callable[[TakenJob], Finish]:
    return ENDS[request.param]


@pytest.mark.requirement("T09")
@pytest.mark.parametrize("since", SINCE)
async def test_what_was_carried_out_is_told_as_done(
    queue: EngineQueue, end: Callable[[TakenJob], Finish], since: str
) -> None:
    await queue.add(attempts=9)
    job = await queue.take_one()
    await queue.finish(end(job))
    await go_on(queue, job.id, since)
    before = dump(queue)
    finish = again(end(job))
    (code,) = (await queue.active.finish_and_take([finish], 0, queue.token())).codes
    # Started again under the same number, a job looks as if it had not been given back.
    is_alike = not finish.has_started and since == "run by one that is gone"
    assert code == (-2 if is_alike else 1)
    assert code == 1 or finish_codes.was_carried_out(finish, code)
    assert dump(queue) == before


@pytest.mark.requirement("T05", "T09")
@pytest.mark.parametrize("since", SINCE)
async def test_what_was_not_carried_out_before_the_job_stalled_is_refused(
    queue: EngineQueue, end: Callable[[TakenJob], Finish], since: str
) -> None:
    await queue.add(attempts=9)
    job = await queue.take_one()
    queue.raw.delete(queue.keys.lock(job.id))
    for _ in range(2):
        queue.raw.delete(queue.keys.stalled_check)
        await recover_stalled.run_once(queue.connection, queue.keys)
    await go_on(queue, job.id, since)
    before = dump(queue)
    reply = await queue.active.finish_and_take([again(end(job))], 0, queue.token())
    assert reply.codes == [-6 if since == "run by another" else -2]
    assert dump(queue) == before


@pytest.mark.requirement("T05", "T09")
async def test_a_lock_that_is_over_is_no_sign_of_an_end(queue: EngineQueue, end: Callable[[TakenJob], Finish]) -> None:
    await queue.add(attempts=9)
    job = await queue.take_one()
    queue.raw.delete(queue.keys.lock(job.id))
    reply = await queue.active.finish_and_take([again(end(job))], 0, queue.token())
    assert reply.codes == [-2]
    assert await queue.active.extend_locks([job]) == set()
    await queue.finish(again(end(job)))
