"""What we write equals what BullMQ writes: field by field, container by container, event by event."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.engine import EngineQueue
from support.node_peer import Peer
from toril.jobs.job import NewJob
from toril.jobs.options import JobOptions

NOW_MS = 1_790_000_000_000
"""Both sides create jobs as of this moment, so that scores can be compared."""


def dump(queue: EngineQueue) -> dict[str, Any]:
    """Everything the queue's keys hold, texts parsed where they are JSON. `meta.version` is the peer's own."""
    raw = queue.raw
    found: dict[str, Any] = {}
    for key in sorted(raw.keys(queue.keys.base + "*")):
        name = key.removeprefix(queue.keys.base)
        match raw.type(key):
            case "hash":
                found[name] = {field: _parsed(field, text) for field, text in raw.hgetall(key).items()}
            case "list":
                found[name] = raw.lrange(key, 0, -1)
            case "zset":
                found[name] = raw.zrange(key, 0, -1, withscores=True)
            case "stream":
                found[name] = [fields for _, fields in raw.xrange(key)]
            case "set":
                found[name] = raw.smembers(key)
            case _:
                found[name] = raw.get(key)
    found.get("meta", {}).pop("version", None)
    return found


def dump_and_clear(queue: EngineQueue) -> dict[str, Any]:
    found = dump(queue)
    queue.raw.delete(*queue.raw.keys(queue.keys.base + "*"))
    return found


def _parsed(field: str, text: str) -> Any:
    return json.loads(text) if field in ("data", "opts", "returnvalue", "progress") else text


ADDS = {
    "standard": [{}],
    "attempts": [{"attempts": 3, "backoff": {"type": "exponential", "delay": 5000}}],
    "bare-backoff": [{"attempts": 2, "backoff": 700}],
    "jitter": [{"attempts": 2, "backoff": {"type": "fixed", "delay": 700, "jitter": 0.5}}],
    "retention": [
        {"removeOnComplete": {"age": 86400, "count": 1000}, "removeOnFail": {"age": 604800, "count": 5000}},
        {"removeOnComplete": True, "removeOnFail": False},
        {"removeOnComplete": 0, "removeOnFail": 7},
    ],
    "limits": [{"keepLogs": 3, "stackTraceLimit": 2, "sizeLimit": 1000}],
    "custom-id": [{"jobId": "invoice-7"}, {"jobId": "invoice-7"}, {}],
    "lifo": [{}, {"lifo": True}, {}],
    "delayed": [{"delay": 60_000}, {"delay": 60_000}, {"delay": 30_000}],
    "delayed-prioritized": [{"delay": 60_000, "priority": 4}],
    "prioritized": [{"priority": 5}, {"priority": 1}, {"priority": 5}, {}],
}


@pytest.mark.requirement("Z-17", "Z-18", "Z-19", "Z-20", "Z-21", "Z-22", "Z-40")
@pytest.mark.parametrize("adds", ADDS.values(), ids=ADDS.keys())
async def test_adds(peer: Peer, ours: EngineQueue, adds: list[dict[str, Any]]) -> None:
    """Checklist 2, 4, 8: the same adds leave the same queue behind."""
    data = {"pageId": "p-1", "newPageData": "# ünï 🎉", "userId": None}
    for options in adds:
        await peer.queue.add("page-save", data, timestamp=NOW_MS, **options)
    theirs = dump_and_clear(ours)
    for options in adds:
        await ours.add("page-save", data, timestamp=NOW_MS, **options)
    assert dump(ours) == theirs


async def test_bulk_adds(peer: Peer, ours: EngineQueue) -> None:
    options: list[dict[str, Any]] = [{}, {"priority": 3}, {"delay": 5000}, {"lifo": True}, {"jobId": "a"}, {}]
    options = [{"timestamp": NOW_MS, **each} for each in options]
    await peer.queue.call("addBulk", [{"name": "n", "data": {}, "opts": each} for each in options])
    theirs = dump_and_clear(ours)
    await ours.producer.add([NewJob.create("n", {}, JobOptions.from_bullmq(each)) for each in options])
    assert dump(ours) == theirs
