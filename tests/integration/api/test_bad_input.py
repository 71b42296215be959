"""What is refused when jobs are added: by a typed error that names the field, and nothing is written."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from support.dumps import dump
from support.engine import EngineQueue
from support.local_mode import toril
from support.worker_inside import StartWorker
from toril import Job, Queue, errors
from toril.jobs import codec

Add = Callable[..., Awaitable[Any]]
TEN_MIB = 10 * 1024 * 1024


@pytest.fixture(params=["async", "sync"])
def add(request: pytest.FixtureRequest, tasks: Queue) -> Add:
    """`Queue.add` of either client."""

    async def in_thread(*args: Any) -> Any:
        return tasks.handle((await asyncio.to_thread(tasks.sync.add, *args)).id)

    return tasks.add if request.param == "async" else in_thread


@pytest.fixture(params=["new", "used"])
async def before(request: pytest.FixtureRequest, queue: EngineQueue, tasks: Queue) -> dict[str, Any]:
    """Everything that is stored: of a queue that nobody has touched, or of one that is in use."""
    if request.param == "used":
        await tasks.add("n", {}, {"delay": 60_000})
        await tasks.add("n", {}, {"priority": 3})
        await tasks.add("n", {})
    return dump(queue)


class Thing:
    """No JSON."""


PAYLOADS: dict[str, tuple[Any, str, str]] = {
    "object": ({"a": [1, Thing()]}, "data.a[1]", "is a Thing, which is not JSON"),
    "bytes": ({"image": b"x"}, "data.image", "is a bytes"),
    "moment": (datetime.now(UTC), "data", "is a datetime"),
    "set": ({1, 2}, "data", "is a set"),
    "nan": ({"a": float("nan")}, "data.a", "JSON does not have"),
    "infinity": ([float("-inf")], "data[0]", "JSON does not have"),
    "integer": ({"id": 2**60}, "data.id", "beyond 2**53"),
    "surrogate": ({"a": "\ud800"}, "data.a", "lone surrogate"),
    "key": ({(1, 2): 3}, "data", "keys must be text"),
    "number-as-key": ({"prices": {1: "a", "1": "b"}}, "data.prices", "has the key 1, of type int"),
    "nothing-as-key": ([{None: 1}], "data[0]", "has the key None"),
}


@pytest.mark.wire(14)
@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS.keys())
async def test_payloads(queue: EngineQueue, add: Add, before: dict[str, Any], payload: tuple[Any, str, str]) -> None:
    data, field, words = payload
    with pytest.raises(errors.InvalidPayloadError) as caught:
        await add("n", data)
    assert (caught.value.field, words in str(caught.value)) == (field, True)
    assert len(str(caught.value)) < 300
    assert dump(queue) == before


async def test_what_no_server_of_ours_would_hand_out(queue: EngineQueue, tasks: Queue) -> None:
    with pytest.raises(errors.InvalidPayloadError) as caught:
        await asyncio.to_thread(tasks.sync.add, "n", {"image": "x" * codec.MAX_DATA_BYTES})
    assert str(caught.value).startswith(f"data: is {256 * 2**20 + 12} bytes as JSON; the limit is {256 * 2**20}:")
    assert queue.raw.keys("*") == []


@pytest.mark.parametrize("bound", [{}, {"sizeLimit": 100_000_000}], ids=["unlimited", "limited"])
async def test_ten_mebibytes_are_no_bad_input(
    tasks: Queue, add: Add, worker: StartWorker, bound: dict[str, int]
) -> None:
    """BullMQ has no limit but the option `sizeLimit`. So it is for data, progress and results here."""

    @tasks.task
    async def echo(image: str, *, job: Job = Job.current()) -> str:
        await job.progress(image)
        await job.update_data({"image": image + image})
        return image

    image = "x" * TEN_MIB
    handle = await add("echo", {"image": image}, bound)
    async with worker(tasks):
        assert await handle.result(60) == image
    job = await handle.job()
    assert (job.progress, job.data) == (image, {"image": image + image})


OPTIONS: dict[str, tuple[str, dict[str, Any], str]] = {
    "unknown": ("n", {"priorty": 1}, "opts.priorty"),
    "inside": ("n", {"backoff": {"typ": "fixed"}}, "opts.backoff.typ"),
    "deduplication": ("n", {"deduplication": {"id": "d", "tll": 1}}, "opts.deduplication.tll"),
    "priority": ("n", {"priority": 2_097_152}, "opts.priority"),
    "fraction": ("n", {"priority": 1.5}, "opts.priority"),
    "id": ("n", {"jobId": "12"}, "opts.jobId"),
    "reserved": ("n", {"jobId": "wait"}, "opts.jobId"),
    "no-name": ("", {}, "name"),
    "surrogate-as-name": ("\ud800", {}, "name"),
    "long-name": ("n" * 1001, {}, "name"),
}


@pytest.mark.wire(9, 11)
@pytest.mark.parametrize("case", OPTIONS.values(), ids=OPTIONS.keys())
async def test_options(queue: EngineQueue, add: Add, before: dict[str, Any], case: tuple[str, Any, str]) -> None:
    name, options, field = case
    with pytest.raises(errors.InvalidOptionError) as caught:
        await add(name, {}, options)
    assert caught.value.field == field
    assert dump(queue) == before


@pytest.mark.parametrize("name", ["a:b", ":", "", None, "a\nb", "x" * 201])
def test_queue_names(name: Any) -> None:
    with pytest.raises(errors.InvalidOptionError) as caught:
        Queue(name)
    assert caught.value.field == "queue"


WRONG = {
    # key: what is put there
    "wait": "a text", "events": "a text", "delayed": "a text", "prioritized": "a text", "marker": "a text",
    "meta": "a text", "id": ["a list"], "pc": ["a list"],
}  # fmt: skip


@pytest.mark.requirement("T33")
@pytest.mark.parametrize("part", WRONG)
async def test_a_key_of_the_wrong_type(queue: EngineQueue, add: Add, tasks: Queue, part: str) -> None:
    key = queue.keys.base + part
    prioritized, linked = {"priority": 1}, {"deduplication": {"id": "d"}}
    cases = [(prioritized, False), (prioritized, True), ({"delay": 9}, True), (linked, True)]
    if part not in ("delayed", "prioritized", "pc"):
        # A plain job has nothing to do with those.
        cases.append(({}, False))
    for options, is_used in cases:
        queue.raw.flushdb()
        if is_used:
            await tasks.add("n", {}, {"priority": 5})
            queue.raw.delete(key)
        if isinstance(WRONG[part], list):
            queue.raw.rpush(key, *WRONG[part])
        else:
            queue.raw.set(key, WRONG[part])
        before = dump(queue)
        with pytest.raises(errors.WrongKeyTypeError, match=f"{key} holds a (string|list), where BullMQ's layout has a"):
            await add("n", {}, options)
        assert dump(queue) == before


async def test_the_command_line(queue: EngineQueue, redis_url: str, tmp_path: Path) -> None:
    """Exit code 2 and one line that says what was wrong."""
    (tmp_path / "no.json").write_text("{'a': 1}")
    name = queue.keys.queue
    for arguments, words in (
        ((name, "n", "--data", f"@{tmp_path}/no.json"), "is not JSON"),
        ((name, "n", "--data", '{"a": NaN}'), "data.a: is nan, which JSON does not have"),
        ((name, "n", "--priorty", "1"), "No such option"),
        ((name, "n", "--priority", "2097152"), "opts.priority: must be a whole number from 0 to 2097151"),
        ((name, "n", "--job-id", "7"), "opts.jobId: '7' is a number"),
        (("a:b", "n"), "queue: a queue name may not hold a colon: 'a:b'"),
    ):
        done = await asyncio.to_thread(toril, "job", "add", *arguments, "--redis", redis_url)
        assert (done.returncode, done.stdout) == (2, "")
        assert words in done.stderr
    assert queue.raw.keys("*") == []
    queue.raw.set(queue.keys.wait, "a text")
    done = await asyncio.to_thread(toril, "job", "add", name, "n", "--redis", redis_url)
    assert (done.returncode, done.stdout) == (4, "")
    assert f"{queue.keys.wait} holds a string, where BullMQ's layout has a list" in done.stderr
    assert queue.raw.keys("*") == [queue.keys.wait]
