"""The rights that docs/security.md lists for each role are those of its scripts, and enough for all that it does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest

from support.engine import open_queue
from support.full_redis import CASES
from support.refusal_cases import RICH_CASES
from support.refusals import Server
from support.worker_inside import StartWorker
from tools import rights
from tools.rights import ROLES, Role
from toril import Job, Queue, errors

ALL_CASES = [*CASES, *RICH_CASES]


@pytest.fixture
def server(redis_url: str, queue_name: str) -> Iterator[Server]:
    started = Server(redis_url, queue_name)
    yield started
    started.close()


def role_named(name: str) -> Role:
    return next(role for role in ROLES if role.name == name)


def url_of(server: Server, redis_url: str) -> str:
    return redis_url.replace("://", f"://{server.user}:secret@")


def test_the_page_has_the_rights_of_the_scripts() -> None:
    page = rights.PAGE.read_text()
    assert rights.with_rights(page) == page, "python tools/rights.py writes them"


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_every_right_is_one_to_a_command(server: Server, role: Role) -> None:
    """The server refuses the rules otherwise."""
    server.make_user("~bull:*", *role.rules)


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
async def test_a_role_may_do_all_that_its_scripts_do(
    server: Server, redis_url: str, queue_name: str, role: Role
) -> None:
    server.make_user("~bull:*", *role.rules)
    for number, case in enumerate(ALL_CASES):
        if case.script in role.scripts:
            async with open_queue(redis_url, f"{queue_name}-{number}") as queue:
                call = case.ask(queue, await case.prepare(queue))
                with suppress(errors.ParentConflictError, errors.ParentNotFoundError):
                    server.limited.run(call)
                queue.raw.flushdb()


async def test_producer_and_worker_work_together_with_their_rights_alone(
    tasks: Queue, worker: StartWorker, server: Server, redis_url: str, queue_name: str
) -> None:
    other = Server(redis_url, queue_name + "-producer")
    server.make_user(f"~bull:{queue_name}:*", *role_named("worker").rules)
    other.make_user(f"~bull:{queue_name}:*", *role_named("producer").rules)

    @tasks.task
    async def step(number: int, *, job: Job = Job.current()) -> int:
        await job.log("a line")
        await job.progress(50)
        return number

    async with (
        worker(tasks, url=url_of(server, redis_url)),
        Queue(queue_name, url=url_of(other, redis_url)) as producer,
    ):
        handles = [await producer.add("step", {"number": number}) for number in range(3)]
        assert [await handle.result(60) for handle in handles] == [0, 1, 2]
    other.close()
