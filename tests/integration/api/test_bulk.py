"""Many jobs at once: of tasks and written out, in one list; a bad one is told by its place, and none is added."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from support.engine import EngineQueue
from toril import JobHandle, Queue, errors

AddBulk = Callable[[Any], Awaitable[list[JobHandle[Any]]]]


@pytest.fixture(params=["async", "sync"])
def add_bulk(request: pytest.FixtureRequest, tasks: Queue) -> AddBulk:
    """`add_bulk` of either client."""

    async def in_thread(items: Any) -> list[JobHandle[Any]]:
        return [tasks.handle(each.id) for each in await asyncio.to_thread(tasks.sync.add_bulk, items)]

    return tasks.add_bulk if request.param == "async" else in_thread


@pytest.mark.parametrize("kind", [list, tuple, iter], ids=["list", "tuple", "iterator"])
async def test_every_form_in_one_call(tasks: Queue, stored: EngineQueue, add_bulk: AddBulk, kind: Any) -> None:
    @tasks.task
    async def send(to: str) -> None: ...

    items = [
        send.draft("a"),
        ("plain", {"n": 1}),
        ("with-options", [2], {"delay": 60_000, "jobId": "own"}),
        ["a-list", None, None],
        {"name": "as-bullmq", "data": {"n": 3}, "opts": {"priority": 4}},
        {"name": "bare"},
    ]
    handles = await add_bulk(kind(items))
    assert [handle.id for handle in handles] == ["1", "2", "own", "4", "5", "6"]
    jobs = [await handle.job() for handle in handles]
    assert [(job.name, job.data) for job in jobs] == [
        ("send", {"to": "a"}), ("plain", {"n": 1}), ("with-options", [2]), ("a-list", None), ("as-bullmq", {"n": 3}),
        ("bare", {}),
    ]  # fmt: skip
    assert (jobs[2].delay_ms, jobs[4].priority) == (60_000, 4)


BAD: dict[str, tuple[Any, str, str]] = {
    # the third item, the field that the error names, words
    "option": (("n", {}, {"priorty": 1}), "[2].opts.priorty", "is unknown"),
    "range": ({"name": "n", "opts": {"priority": -1}}, "[2].opts.priority", "must be a whole number"),
    "data": (("n", {"a": {1: 2}}), "[2].data.a", "keys must be text"),
    "name": (("", {}), "[2].name", "must be text and not empty"),
    "no-name": ({"data": {}}, "[2].name", "must be text and not empty"),
    "key": ({"name": "n", "options": {}}, "[2].options", "known are name, data, opts"),
    "options": (("n", {}, 5), "[2].opts", "must be a mapping"),
    "length": (("n",), "[2]", "is a tuple: give a draft, (name, data, opts)"),
    "kind": ("send", "[2]", "is a str: give a draft"),
    "number": (7, "[2]", "is a int: give a draft"),
}


@pytest.mark.parametrize("case", BAD.values(), ids=BAD)
async def test_a_bad_item_is_told_by_its_place_and_nothing_is_added(
    stored: EngineQueue, add_bulk: AddBulk, case: tuple[Any, str, str]
) -> None:
    item, field, words = case
    with pytest.raises(errors.InvalidInputError) as caught:
        await add_bulk([("n", {}), ("n", {}), item, ("n", {})])
    assert (caught.value.field, words in caught.value.problem) == (field, True)
    assert stored.raw.keys("*") == []


async def test_a_draft_of_another_queue_is_refused(tasks: Queue, stored: EngineQueue, add_bulk: AddBulk) -> None:
    other = Queue("other")
    with pytest.raises(errors.InvalidOptionError, match=r"^\[1\]: a draft of queue other is not for "):
        await add_bulk([("n", {}), other.draft("n", {})])
    assert stored.raw.keys("*") == []


@pytest.mark.parametrize("items", ["ab", {"name": "n"}, b"x"])
async def test_what_is_no_list_is_refused(add_bulk: AddBulk, items: Any) -> None:
    with pytest.raises(errors.InvalidOptionError, match="items: must be a list of drafts"):
        await add_bulk(items)
