"""A queue's defaults in Redis: who may write them, and what is removed."""

from __future__ import annotations

import pytest

from support.engine import EngineQueue
from toril import errors
from toril.engine import operations, queue_defaults
from toril.engine.keys import QueueKeys
from toril.engine.queue_defaults import Owner, Written
from toril.jobs.queue_defaults import QueueDefaults

OURS, OTHERS = Owner("cluster-a", "uid-1"), Owner("cluster-a", "uid-2")
THRICE = QueueDefaults.create({"attempts": 3}, size_limit_bytes=1000, priorities={"urgent": 1})


async def write(queue: EngineQueue, owner: Owner, generation: int, defaults: QueueDefaults) -> Written:
    return await operations.execute(queue.connection, queue_defaults.write(queue.keys, owner, generation, defaults))


async def test_what_is_written_are_the_fields_that_clients_read(queue: EngineQueue) -> None:
    assert await write(queue, OURS, 4, THRICE) is Written.CHANGED
    assert queue.raw.hgetall(queue.keys.base + "toril:defaults") == {
        "options": '{"attempts":3}',
        "sizeLimit": "1000",
        "priorities": '{"urgent":1}',
        "generation": "4",
        "ownerUid": "uid-1",
        "ownerScope": "cluster-a",
    }
    assert await write(queue, OURS, 4, THRICE) is Written.UNCHANGED


async def test_what_a_later_manifest_does_not_say_is_gone(queue: EngineQueue) -> None:
    await write(queue, OURS, 1, THRICE)
    assert await write(queue, OURS, 2, QueueDefaults.create({"lifo": True})) is Written.CHANGED
    stored = queue.raw.hgetall(queue.keys.defaults)
    assert (stored["options"], stored["sizeLimit"], stored["priorities"]) == ('{"lifo":true}', "", "")


async def test_a_manifest_that_says_nothing_leaves_no_key(queue: EngineQueue) -> None:
    assert await write(queue, OURS, 1, QueueDefaults()) is Written.UNCHANGED
    await write(queue, OURS, 1, THRICE)
    assert await write(queue, OURS, 2, QueueDefaults()) is Written.CHANGED
    assert not queue.raw.exists(queue.keys.defaults)


async def test_an_earlier_generation_changes_nothing(queue: EngineQueue) -> None:
    """An operator that has lost its leadership may still be about."""
    await write(queue, OURS, 10, THRICE)
    before = queue.raw.hgetall(queue.keys.defaults)
    assert await write(queue, OURS, 9, QueueDefaults()) is Written.LATER
    assert await write(queue, OURS, 9, QueueDefaults.create({"attempts": 9})) is Written.LATER
    assert queue.raw.hgetall(queue.keys.defaults) == before


@pytest.mark.parametrize("other", [OTHERS, Owner("cluster-b", "uid-1")], ids=["object", "scope"])
async def test_the_defaults_of_another_owner_are_left_alone(queue: EngineQueue, other: Owner) -> None:
    await write(queue, OURS, 1, THRICE)
    before = queue.raw.hgetall(queue.keys.defaults)
    assert await write(queue, other, 99, QueueDefaults.create({"attempts": 9})) is Written.ANOTHERS
    assert await operations.execute(queue.connection, queue_defaults.delete(queue.keys, other)) is Written.ANOTHERS
    assert queue.raw.hgetall(queue.keys.defaults) == before


async def test_they_go_with_their_owner_whatever_the_generation(queue: EngineQueue) -> None:
    await write(queue, OURS, 7, THRICE)
    assert await operations.execute(queue.connection, queue_defaults.delete(queue.keys, OURS)) is Written.CHANGED
    assert not queue.raw.exists(queue.keys.defaults)
    assert await operations.execute(queue.connection, queue_defaults.delete(queue.keys, OURS)) is Written.UNCHANGED


async def test_a_sweep_removes_the_defaults_of_owners_that_are_gone_and_no_others(queue: EngineQueue) -> None:
    owners = {
        "gone": Owner("cluster-a", "gone"),
        "alive": Owner("cluster-a", "alive"),
        "elsewhere": Owner("cluster-b", "gone"),
    }
    keys = {name: QueueKeys(name, "some:prefix") for name in owners}
    for name, owner in owners.items():
        await operations.execute(queue.connection, queue_defaults.write(keys[name], owner, 1, THRICE))
    queue.raw.set("some:prefix:text:toril:defaults", "of another type")
    queue.raw.hset("some:prefix:nobodys:toril:defaults", "options", "{}")
    swept = queue_defaults.sweep("cluster-a", lambda uid: uid == "alive")
    assert await operations.execute(queue.connection, swept) == ["some:prefix:gone:toril:defaults"]
    assert {key for key in queue.raw.keys("*") if "defaults" in key} == {
        "some:prefix:alive:toril:defaults",
        "some:prefix:elsewhere:toril:defaults",
        "some:prefix:text:toril:defaults",
        "some:prefix:nobodys:toril:defaults",
    }


async def test_a_key_of_another_type_is_an_error_and_stays(queue: EngineQueue) -> None:
    queue.raw.set(queue.keys.defaults, "of another type")
    with pytest.raises(errors.WrongKeyTypeError):
        await write(queue, OURS, 1, THRICE)
    assert queue.raw.get(queue.keys.defaults) == "of another type"
