"""A job and its child that end in one call: the same as one after the other, in the order of the call."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from support import flow_trees
from support.engine import EngineQueue
from toril.engine.worker import Finish, TakenJob
from toril.jobs.retention import KEEP_ALL, KeepPolicy

NOT_KEPT = KeepPolicy(count=0)
CHILD_ENDS: dict[str, dict[str, Any]] = {
    "completed": {}, "completed, not kept": {},
    "failed": {}, "failed, not kept": {},
    "failed, fails its parent": {"failParentOnFailure": True},
    "failed, parent goes on": {"continueParentOnFailure": True},
    "failed, is ignored": {"ignoreDependencyOnFailure": True},
    "failed, is no dependency": {"removeDependencyOnFailure": True},
    "retry": {"failParentOnFailure": True}, "requeue": {},
}  # fmt: skip
"""How the child ends, and its options."""
PARENT_ENDS = ("completed", "completed, not kept", "failed", "failed, not kept", "retry", "requeue", "waiting-children")


def finish(job: TakenJob, end: str) -> Finish:
    keep = NOT_KEPT if "not kept" in end else KEEP_ALL
    match end.partition(",")[0]:
        case "completed":
            return Finish.completed(job, "1", keep)
        case "failed":
            return Finish.failed(job, "no", "[]", keep)
        case "retry":
            return Finish.retry(job, "no", "[]", 0)
        case "requeue":
            return Finish.requeue(job)
        case _:
            return Finish.wait_for_children(job)


async def work(
    queue: EngineQueue,
    ends: tuple[str, str],
    *,
    child_first: bool,
    taken_together: bool,
    has_brother: bool,
    at_once: bool,
) -> tuple[list[int], dict[str, Any]]:
    """End a parent and its child; answers the codes and all that is stored then."""
    child_end, parent_end = ends
    link = {"id": "p", "queue": queue.keys.qualified_name}
    moment: dict[str, Any] = {"timestamp": flow_trees.NOW_MS}
    await queue.add(jobId="p", **moment)
    taken = [] if taken_together else await queue.take()
    await queue.add(jobId="a", parent=link, **moment, **CHILD_ENDS[child_end])
    taken += await queue.take(2)
    if has_brother:
        await queue.add(jobId="b", parent=link, **moment)
    parent, child = taken
    finishes = [finish(parent, parent_end), finish(child, child_end)]
    if child_first:
        finishes.reverse()
    codes: list[int] = []
    for batch in [finishes] if at_once else [[each] for each in finishes]:
        codes += (await queue.active.finish_and_take(batch, 0, queue.token())).codes
    locks = sorted(queue.raw.keys("*:lock"))
    # Scores are moments here, and order those that are the same.
    places = {name: sorted(ids) if name in ("completed", "failed") else ids for name, ids in queue.places().items()}
    stored = flow_trees.dump_and_clear(queue)
    for name in ("completed", "failed", "waiting-children"):
        stored.pop(queue.keys.base + name, None)
    # That nothing is left to do is told of the call as a whole.
    events = [event for event in stored.pop(queue.keys.events) if event["event"] != "drained"]
    return codes, {"locks": locks, "places": places, "events": events, **stored}


@pytest.mark.requirement("Z-45")
@pytest.mark.parametrize("child_first", [True, False], ids=["child-first", "parent-first"])
@pytest.mark.parametrize("child_end", CHILD_ENDS)
async def test_they_end_as_one_after_the_other(queue: EngineQueue, child_end: str, child_first: bool) -> None:
    for parent_end, taken_together, has_brother in itertools.product(PARENT_ENDS, [True, False], [True, False]):
        found, expected = [
            await work(
                queue, (child_end, parent_end), child_first=child_first, taken_together=taken_together,
                has_brother=has_brother, at_once=at_once,
            )
            for at_once in (True, False)
        ]  # fmt: skip
        case = f"parent {parent_end}, taken together {taken_together}, has a brother {has_brother}"
        assert (case, *found) == (case, *expected)
