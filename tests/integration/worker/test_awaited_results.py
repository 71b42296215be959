"""What a function returns is awaited if it can be, so that a plain decorator may stand above an `async def`."""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable, Generator
from typing import Any

import pytest

from support import invariants
from support.engine import EngineQueue
from support.worker_inside import StartWorker
from toril import Job, JobFailedError, Queue, errors

request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")


def plainly(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def decorated(*args: Any, **kwargs: Any) -> Any:
        request.set("set by the decorator")
        return function(*args, **kwargs)

    return decorated


def forgetfully(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def decorated(*args: Any, **kwargs: Any) -> Any:
        request.set("set by the decorator")
        await asyncio.sleep(0)
        return function(*args, **kwargs)

    return decorated


async def body(n: int) -> str:
    async with asyncio.timeout(60):
        await asyncio.sleep(0.001)
    return f"{n} {Job.current().name} {request.get()}"


class Custom:
    def __init__(self, n: int) -> None:
        self.n = n

    def __await__(self) -> Generator[Any, Any, Any]:
        return body(self.n).__await__()


def custom(n: int) -> Any:
    request.set("set by the decorator")
    return Custom(n)


FUNCTIONS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "plain": (plainly(body), {}),
    "plain-inline": (plainly(body), {"inline": True}),
    "forgetful": (forgetfully(body), {}),
    "forgetful-and-plain": (plainly(forgetfully(plainly(body))), {}),
    "custom": (custom, {}),
    "custom-inline": (custom, {"inline": True}),
}


@pytest.mark.parametrize("concurrency", [1, 10])
@pytest.mark.parametrize("name", FUNCTIONS)
async def test_the_body_runs(
    tasks: Queue, worker: StartWorker, stored: EngineQueue, name: str, concurrency: int
) -> None:
    function, options = FUNCTIONS[name]
    tasks.task(name=name, **options)(function)
    handles = [await tasks.add(name, {"n": n}) for n in range(5)]
    async with worker(tasks, concurrency=concurrency):
        found = [await handle.result(30) for handle in handles]
    assert found == [f"{n} {name} set by the decorator" for n in range(5)]
    invariants.assert_sound(stored.raw, tasks.name)


@pytest.mark.parametrize("inline", [False, True])
async def test_what_it_raises_fails_the_job(tasks: Queue, worker: StartWorker, inline: bool) -> None:
    async def refuses() -> None:
        await asyncio.sleep(0)
        raise ValueError("no such address")

    tasks.task(inline=inline)(plainly(refuses))
    handle = await tasks.add("refuses", {})
    async with worker(tasks):
        with pytest.raises(JobFailedError, match="no such address"):
            await handle.result(30)


@pytest.mark.parametrize("inline", [False, True])
async def test_a_drain_that_is_over_cancels_it(
    tasks: Queue, worker: StartWorker, stored: EngineQueue, inline: bool
) -> None:
    begun, ended = asyncio.Event(), []

    async def waits() -> None:
        begun.set()
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    tasks.task(inline=inline)(plainly(waits))
    await tasks.add("waits", {})
    async with worker(tasks, drain_seconds=0.0):
        await begun.wait()
    assert ended == ["cancelled"]
    assert stored.places() == {"wait": ["1"]}


async def test_a_default_may_be_decorated_too(tasks: Queue, worker: StartWorker) -> None:
    @plainly
    async def everything(job: Job) -> str:
        await asyncio.sleep(0)
        return job.name

    tasks.default(everything)
    handle = await tasks.add("anything", {})
    async with worker(tasks):
        assert await handle.result(30) == "anything"


def counts(n: int = 1) -> Any:
    yield n


async def counts_later(n: int = 1) -> Any:
    yield n


class Counts:
    def __call__(self, n: int = 1) -> Any:
        yield n

    __name__ = "counts"


@pytest.mark.parametrize("function", [counts, counts_later, functools.partial(counts, 2), Counts()])
async def test_generators_are_refused_when_they_are_decorated(tasks: Queue, function: Any) -> None:
    for decorate in (tasks.task(name="named"), tasks.default, tasks.on_exhausted, tasks.backoff):
        with pytest.raises(errors.InvalidOptionError, match=r"^\w+: is a generator"):
            decorate(function)
    assert not tasks.tasks


@pytest.mark.parametrize("decorate", [plainly, forgetfully])
@pytest.mark.parametrize("function", [counts, counts_later])
async def test_a_generator_hidden_by_a_decorator_fails_its_job_with_the_reason(
    tasks: Queue, worker: StartWorker, function: Any, decorate: Callable[..., Any]
) -> None:
    tasks.task(name="counts")(decorate(function))
    handle = await tasks.add("counts", {})
    reason = "^return value: is a generator, which is not JSON: a call does not run a generator's body$"
    async with worker(tasks):
        with pytest.raises(JobFailedError, match=reason):
            await handle.result(30)
