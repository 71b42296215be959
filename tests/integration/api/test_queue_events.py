"""Events as they come: from now on or from an id, over breaks of the connection, and whatever they hold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from support.engine import EngineQueue, open_queue
from support.proxy import open_proxy
from support.waiting import wait_until_async
from toril import Queue, errors
from toril.engine.events import QueueEvent, QueueEvents


@pytest.fixture
async def stored(redis_url: str, queue_name: str) -> AsyncIterator[EngineQueue]:
    async with open_queue(redis_url, queue_name) as opened:
        yield opened


async def take(events: QueueEvents, count: int) -> list[QueueEvent]:
    async with asyncio.timeout(30):
        return [await anext(events) for _ in range(count)]


@pytest.mark.requirement("I-24", "X-25")
async def test_only_new_ones_and_then_from_where_one_was(redis_url: str, stored: EngineQueue) -> None:
    await stored.add("before")
    async with Queue(stored.keys.queue, url=redis_url) as queue:
        async with queue.events() as events:
            # Told after the place was fixed, though nobody reads yet.
            await stored.add("first")
            heard = await take(events, 2)
        assert [(event.name, event.job_id, event.fields) for event in heard] == [
            ("added", "2", {"name": "first"}), ("waiting", "2", {}),
        ]  # fmt: skip
        await stored.add("second")
        async with queue.events(after=events.last_id) as again:
            assert [event.job_id for event in await take(again, 2)] == ["3", "3"]
        async with queue.events(after="0") as all_events:
            assert [event.job_id for event in await take(all_events, 6)] == ["1", "1", "2", "2", "3", "3"]


async def test_a_queue_that_is_not_there_yet(redis_url: str, stored: EngineQueue) -> None:
    async with Queue(stored.keys.queue, url=redis_url) as queue, queue.events() as events:
        reading = asyncio.create_task(take(events, 1))
        await stored.add()
        assert (await reading)[0].name == "added"


async def is_reading(stored: EngineQueue) -> bool:
    return any(client["name"].endswith(":qe") for client in stored.raw.client_list())


async def test_none_is_lost_when_the_connection_breaks(stored: EngineQueue) -> None:
    async with open_proxy(stored.settings.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/{stored.settings.db}"
        async with Queue(stored.keys.queue, url=url) as queue, queue.events() as events:
            # The server's answer with the first events never arrives.
            proxy.lose_reply(lambda data: b"XREAD" in data)
            reading = asyncio.create_task(take(events, 4))
            await wait_until_async(lambda: is_reading(stored), "the reader's connection")
            await stored.add()
            await stored.add()
            assert [event.job_id for event in await reading] == ["1", "1", "2", "2"]
            assert proxy.cuts == 1


async def test_what_cannot_be_read_is_passed_on(redis_url: str, stored: EngineQueue) -> None:
    for fields in (
        {"event": "completed", "jobId": "1", "returnvalue": "{NaN"}, {"event": "completed", "jobId": "2"},
        {"event": "progress", "jobId": "3", "data": ""}, {"event": "delayed", "jobId": "4", "delay": "soon"},
        {"event": "delayed", "jobId": "5", "delay": "1.5"}, {"no": "event"},
    ):  # fmt: skip
        stored.raw.xadd(stored.keys.events, fields)
    async with Queue(stored.keys.queue, url=redis_url) as queue, queue.events(after="0") as events:
        heard = await take(events, 6)
    assert [event.fields for event in heard] == [
        {"returnvalue": None}, {"returnvalue": None}, {"data": None}, {"delay": None}, {"delay": 1.5}, {"no": "event"},
    ]  # fmt: skip
    assert heard[0].texts == {"returnvalue": "{NaN"}
    assert (heard[5].name, heard[5].job_id) == ("", None)


async def test_closing_ends_a_wait(redis_url: str, stored: EngineQueue) -> None:
    queue = Queue(stored.keys.queue, url=redis_url)
    events = queue.events()

    async def read() -> list[QueueEvent]:
        return [event async for event in events]

    reading = asyncio.create_task(read())

    await wait_until_async(lambda: is_reading(stored), "the reader's connection")
    await queue.close()
    assert await asyncio.wait_for(reading, 30) == []


async def test_a_key_of_another_type(redis_url: str, stored: EngineQueue) -> None:
    stored.raw.set(stored.keys.events, "x")
    async with Queue(stored.keys.queue, url=redis_url) as queue:
        for after in ("$", "0"):
            with pytest.raises(errors.WrongKeyTypeError):
                await anext(queue.events(after=after))


async def test_no_redis() -> None:
    async with Queue("a", url="redis://127.0.0.1:1") as queue:
        with pytest.raises(errors.RedisUnavailableError):
            await anext(queue.events())
