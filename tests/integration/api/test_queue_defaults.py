"""What a queue's manifest says reaches every job that our clients add, whoever they are, without a request a job."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from support.engine import EngineQueue
from support.redis_server import RedisServer
from support.worker_inside import StartWorker
from toril import Job, Queue, errors, fixed, flow
from toril.cli import main
from toril.engine import operations, queue_defaults
from toril.engine.queue_defaults import Owner
from toril.jobs.queue_defaults import QueueDefaults

OWNER = Owner("a test", "uid")
THRICE = {"attempts": 3, "backoff": {"type": "fixed", "delay": 200}}
Declare = Callable[..., Awaitable[None]]


@pytest.fixture
def declare(stored: EngineQueue) -> Declare:
    """`await declare({"attempts": 3}, size_limit_bytes=100)` is a manifest of the queue that is carried out."""
    generation = 0

    async def write(options: dict[str, Any], size_limit_bytes: int | None = None) -> None:
        nonlocal generation
        generation += 1
        defaults = QueueDefaults.create(options, size_limit_bytes=size_limit_bytes)
        await operations.execute(stored.connection, queue_defaults.write(stored.keys, OWNER, generation, defaults))

    return write


async def opts_of(queue: Queue, job_id: str) -> dict[str, Any]:
    return (await queue.handle(job_id).job()).opts


async def test_every_way_of_adding_has_the_manifests_defaults(tasks: Queue, declare: Declare) -> None:
    @tasks.task
    async def send(to: str = "") -> None: ...

    await declare(THRICE)
    handles = [
        await tasks.add("x", {}),
        await send.enqueue(),
        *await tasks.add_bulk([send.draft(), tasks.draft("x", {})]),
        *await tasks.add_bulk(iter([send.draft()])),
        await flow(send.draft(), [send.draft()]).enqueue(),
    ]
    sync_handles = [
        await asyncio.to_thread(tasks.sync.add, "x", {}),
        await asyncio.to_thread(send.sync.enqueue),
        await asyncio.to_thread(flow(send.draft(), [send.draft()]).sync.enqueue),
    ]
    jobs = [await handle.job() for handle in handles]
    for job in jobs + [await asyncio.to_thread(handle.job) for handle in sync_handles]:
        opts = job.opts
        assert (opts["attempts"], opts["backoff"]) == (3, THRICE["backoff"])


async def test_each_job_of_a_flow_has_the_defaults_of_its_own_queue(
    tasks: Queue, declare: Declare, redis_url: str
) -> None:
    await declare(THRICE)
    async with Queue(tasks.name + "-other", url=redis_url) as other:
        upper = await flow(tasks.draft("up", {}), [other.draft("down", {}), tasks.draft("down", {})]).enqueue()
        tree = await upper.tree()
        assert tree.job.opts["attempts"] == 3
        assert {child.queue: child.job.opts["attempts"] for child in tree.children} == {tasks.name: 3, other.name: 0}


async def test_the_jobs_of_a_scheduler_have_them(tasks: Queue, declare: Declare) -> None:
    @tasks.task
    async def send() -> None: ...

    await declare({**THRICE, "delay": 60_000, "priority": 7})
    by_name = await tasks.schedulers.upsert("a", every=3600, name="send")
    by_draft = await tasks.schedulers.upsert("b", every=3600, draft=send.options(attempts=5, priority=2).draft())
    assert [(await opts_of(tasks, each.id))["attempts"] for each in (by_name, by_draft)] == [3, 5]
    assert [(await each.job()).priority for each in (by_name, by_draft)] == [7, 2]
    scheduler = await tasks.schedulers.get("a")
    assert scheduler is not None
    assert scheduler.options == {**THRICE, "priority": 7}


async def test_children_that_a_running_job_adds_have_them(
    tasks: Queue, declare: Declare, worker: StartWorker, redis_url: str
) -> None:
    added: list[str] = []

    @tasks.task
    async def split(*, job: Job = Job.current()) -> None:
        if not added:
            added.append((await job.add_child(tasks.draft("part", {}))).id)

    @tasks.task
    async def part() -> None: ...

    await declare(THRICE)
    async with worker(tasks):
        await (await split.enqueue()).result(30)
        assert (await opts_of(tasks, added[0]))["attempts"] == 3


async def test_the_command_line_has_them(
    tasks: Queue, declare: Declare, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await declare(THRICE)
    add = ["job", "add", tasks.name, "x", "--redis", redis_url]
    for arguments, attempts in (([], 3), (["--attempts", "7"], 7)):
        assert await asyncio.to_thread(main.main, [*add, *arguments]) == 0
        assert (await opts_of(tasks, capsys.readouterr().out.strip()))["attempts"] == attempts


async def test_call_goes_before_task_before_queue_object_before_manifest(
    declare: Declare, redis_url: str, queue_name: str
) -> None:
    await declare({"attempts": 2, "keepLogs": 2, "priority": 2, "lifo": True, "stackTraceLimit": 2})
    async with Queue(queue_name, url=redis_url, attempts=3, priority=3, lifo=False) as queue:

        @queue.task(attempts=4, priority=4)
        async def send() -> None: ...

        opts = await opts_of(queue, (await send.options(attempts=5).enqueue()).id)
        assert opts == {"attempts": 5, "priority": 4, "lifo": False, "keepLogs": 2, "stackTraceLimit": 2}
        opts = await opts_of(queue, (await queue.add("x", {}, {"keepLogs": 9, "attempts": 0})).id)
        assert opts == {"attempts": 0, "priority": 3, "lifo": False, "keepLogs": 9, "stackTraceLimit": 2}


async def test_delay_and_priority_of_the_manifest_take_effect(tasks: Queue, declare: Declare, redis_url: str) -> None:
    await declare({"priority": 5})
    await tasks.add("x", {})
    assert (await tasks.counts())["prioritized"] == 1
    later = Queue(tasks.name, url=redis_url)
    await declare({"delay": 3_600_000})
    async with later:
        job = await (await later.add("x", {})).job()
        assert job.delay_ms == 3_600_000
        assert (await later.counts())["delayed"] == 1


async def test_the_longest_pause_belongs_to_its_backoff(tasks: Queue, declare: Declare) -> None:
    await declare({"backoff": {"type": "exponential", "delay": 1000}, "torilMaxDelay": 5000})

    @tasks.task
    async def send() -> None: ...

    assert (await opts_of(tasks, (await send.enqueue()).id))["torilMaxDelay"] == 5000
    own = await opts_of(tasks, (await send.options(backoff=fixed(60)).enqueue()).id)
    assert "torilMaxDelay" not in own


# ---- the limit of size


@pytest.mark.requirement("X-22")
async def test_data_beyond_the_queues_limit_is_refused_with_both_numbers(tasks: Queue, declare: Declare) -> None:
    @tasks.task
    async def send(text: str) -> None: ...

    await declare({"sizeLimit": 10_000}, size_limit_bytes=30)
    fits, large = "x" * 10, "ü" * 15  # 30 bytes of text, and {"text":""} around it
    words = "data: is 41 bytes as JSON; sizeLimit is 30"
    adding: list[Callable[[], Awaitable[Any]]] = [
        lambda: send.enqueue(large),
        lambda: tasks.add("x", {"text": large}, {"sizeLimit": 1000}),
        lambda: tasks.schedulers.upsert("s", every=60, data={"text": large}),
        lambda: flow(send.draft(fits), [send.draft(large)]).enqueue(),
        lambda: asyncio.to_thread(send.sync.enqueue, large),
        lambda: tasks.add_bulk(iter([send.draft(large)])),
    ]
    for add in adding:
        with pytest.raises(errors.InvalidPayloadError) as caught:
            await add()
        assert str(caught.value) == words
    with pytest.raises(errors.InvalidPayloadError, match=r"\[1\].data: is 41 bytes as JSON; sizeLimit is 30"):
        await tasks.add_bulk([send.draft(fits), send.draft(large)])
    assert sum((await tasks.counts()).values()) == 0
    await send.enqueue(fits)


async def test_the_option_of_the_manifest_gives_way_to_a_calls_own(tasks: Queue, declare: Declare) -> None:
    await declare({"sizeLimit": 30})
    with pytest.raises(errors.InvalidPayloadError, match="sizeLimit is 30"):
        await tasks.add("x", "y" * 40)
    await tasks.add("x", "y" * 40, {"sizeLimit": 100})


# ---- when they are read


async def test_many_adds_read_them_once() -> None:
    server = RedisServer("--slowlog-log-slower-than", "0", "--slowlog-max-len", "10000")
    try:
        async with Queue("q", url=server.url) as queue:
            await asyncio.gather(*(queue.add("x", {}) for _ in range(50)))
            for _ in range(10):
                await queue.add("x", {})
            await asyncio.to_thread(queue.sync.add, "x", {})
            await queue.schedulers.upsert("s", every=60)
            await flow(queue.draft("x", {}), []).enqueue()
        with server.client() as admin:
            commands = [entry["command"].decode() for entry in admin.slowlog_get(10_000)]
        assert [command for command in commands if "defaults" in command] == [
            "HMGET bull:q:toril:defaults options sizeLimit priorities"
        ]
        assert len([command for command in commands if command.startswith("EVAL")]) >= 50
    finally:
        server.remove()


async def test_a_change_is_followed_when_the_copy_is_old(
    tasks: Queue, declare: Declare, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000_000
    monkeypatch.setattr("toril.engine.queue_defaults.clock.monotonic_ms", lambda: now)
    await declare(THRICE)
    assert (await opts_of(tasks, (await tasks.add("x", {})).id))["attempts"] == 3
    await declare({"attempts": 4})
    now += queue_defaults.MAX_AGE_MS - 1
    assert (await opts_of(tasks, (await tasks.add("x", {})).id))["attempts"] == 3
    now += 1
    assert (await opts_of(tasks, (await tasks.add("x", {})).id))["attempts"] == 4
    await declare({})
    now += queue_defaults.MAX_AGE_MS
    assert (await opts_of(tasks, (await tasks.add("x", {})).id))["attempts"] == 0


# ---- when they cannot be read


@pytest.mark.parametrize("nonsense", ["type", "json", "option", "bytes"])
async def test_what_cannot_be_read_leaves_the_latest_known(
    tasks: Queue,
    stored: EngineQueue,
    declare: Declare,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    redis_url: str,
    nonsense: str,
) -> None:
    now = 1_000_000
    monkeypatch.setattr("toril.engine.queue_defaults.clock.monotonic_ms", lambda: now)
    await declare(THRICE)
    await tasks.add("x", {})
    stored.raw.delete(stored.keys.defaults)
    if nonsense == "type":
        stored.raw.set(stored.keys.defaults, "x")
    else:
        texts = {"json": "{", "option": '{"attempts": "many"}', "bytes": b"\xff"}
        stored.raw.hset(stored.keys.defaults, "options", texts[nonsense])
    other = Queue(tasks.name, url=redis_url)
    with caplog.at_level(logging.WARNING, "toril.queue"):
        async with other:
            for _ in range(3):
                now += queue_defaults.MAX_AGE_MS
                assert (await opts_of(tasks, (await tasks.add("x", {})).id))["attempts"] == 3
                assert (await opts_of(tasks, (await other.add("x", {})).id))["attempts"] == 0
    assert [record.message.partition(": ")[0] for record in caplog.records] == [
        f"the defaults of queue {tasks.name} cannot be read, those known before are used",
        f"the defaults of queue {tasks.name} cannot be read, none are used",
    ]


async def test_a_user_who_may_not_read_them_adds_without(caplog: pytest.LogCaptureFixture) -> None:
    server = RedisServer()
    try:
        with server.client() as admin:
            admin.hset("bull:q:toril:defaults", "options", '{"attempts":3}')
            rights = ["resetkeys", "~bull:q:?", "~bull:q:meta", "~bull:q:wait", "~bull:q:id", "~bull:q:marker"]
            rights += ["~bull:q:events", "~bull:q:paused", "~bull:q:delayed", "~bull:q:prioritized", "~bull:q:pc"]
            admin.execute_command("ACL", "SETUSER", "adder", "on", ">secret", *rights, "+@all")
        async with Queue("q", url=f"redis://adder:secret@127.0.0.1:{server.port}") as queue:
            with caplog.at_level(logging.WARNING, "toril.queue"):
                await queue.add("x", {})
                await queue.add("x", {})
        assert [record.message.partition(": ")[0] for record in caplog.records] == [
            "the defaults of queue q cannot be read, none are used"
        ]
        with server.client() as admin:
            assert admin.hget("bull:q:1", "opts") in (b'{"attempts":0}', '{"attempts":0}')
    finally:
        server.remove()


async def test_without_redis_an_add_fails_as_ever(queue_name: str) -> None:
    async with Queue(queue_name, url="redis://127.0.0.1:1") as queue:
        with pytest.raises(errors.RedisUnavailableError):
            await queue.add("x", {})
        with pytest.raises(errors.RedisUnavailableError):
            await asyncio.to_thread(queue.sync.add, "x", {})


# ---- workers


async def test_workers_keep_finished_jobs_as_the_manifest_says(
    tasks: Queue, declare: Declare, worker: StartWorker, stored: EngineQueue
) -> None:
    """Also those that a foreign client added without an option."""
    await declare({"removeOnComplete": {"count": 2}})

    @tasks.task
    async def send() -> None: ...

    async with worker(tasks):
        for _ in range(4):
            job_id = await stored.add("send", {})
            await tasks.handle(job_id).result(30)
    assert (await tasks.counts())["completed"] == 2


def test_threads_share_what_is_known(redis_url: str, queue_name: str) -> None:
    queue = Queue(queue_name, url=redis_url)
    threads = [threading.Thread(target=queue.sync.add, args=("x", {})) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert queue.sync.counts()["waiting"] == 8
    queue.sync.close()
