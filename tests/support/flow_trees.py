"""Trees of jobs as BullMQ's FlowProducer takes them, for both sides; and what two queues hold, without its moments."""

from __future__ import annotations

import json
from typing import Any

from support.engine import EngineQueue
from toril.engine import flows, operations
from toril.engine.flows import Node
from toril.engine.keys import QueueKeys
from toril.engine.redis.connection import AsyncConnection
from toril.jobs.job import NewJob
from toril.jobs.options import JobOptions

NOW_MS = 1_790_000_000_000
"""Both sides create jobs as of this moment, so that scores can be compared."""

Tree = dict[str, Any]


def tree(queue: EngineQueue, job_id: str, *children: Tree, name: str = "echo", data: Any = None, **opts: Any) -> Tree:
    """One node: `{name, queueName, data, opts, children}`."""
    node: Tree = {
        "name": name, "queueName": queue.keys.queue, "data": {} if data is None else data,
        "opts": {"jobId": job_id, "timestamp": NOW_MS, **opts},
    }  # fmt: skip
    return {**node, "children": list(children)} if children else node


def to_node(given: Tree) -> Node:
    """The same for our engine."""
    job = NewJob.create(given["name"], given["data"], JobOptions.from_bullmq(given["opts"]))
    return Node(QueueKeys(given["queueName"]), job, [to_node(child) for child in given.get("children", ())])


async def add(connection: AsyncConnection, *trees: Tree) -> list[str]:
    """Add with our engine; answers the ids of the roots."""
    return await operations.execute(connection, flows.add([to_node(given) for given in trees]))


def dump(queue: EngineQueue) -> dict[str, Any]:
    """Everything on the queue's server by key, parsed, without moments, texts of stack traces and wake-ups."""
    raw = queue.raw
    found: dict[str, Any] = {}
    for key in sorted(raw.keys("bull:*")):
        name = key.rpartition(":")[2]
        if name in ("marker", "stalled-check", "stalled", "lock"):
            continue
        match raw.type(key):
            case "hash":
                found[key] = {field: _timeless(field, text) for field, text in raw.hgetall(key).items()}
            case "list":
                found[key] = raw.lrange(key, 0, -1)
            case "zset":
                scored = raw.zrange(key, 0, -1, withscores=True)
                # Finished jobs, failed children and a released parent's due time have the moment of their change.
                is_moment = name in ("completed", "failed", "unsuccessful", "delayed")
                found[key] = [member for member, _ in scored] if is_moment else scored
            case "stream":
                found[key] = [_without_due_time(fields) for _, fields in raw.xrange(key)]
            case "set":
                found[key] = raw.smembers(key)
            case _:
                found[key] = raw.get(key)
    for key, fields in found.items():
        if key.endswith(":meta"):
            fields.pop("version", None)
    return found


def dump_and_clear(queue: EngineQueue) -> dict[str, Any]:
    found = dump(queue)
    queue.raw.flushdb()
    return found


def _timeless(field: str, text: str) -> Any:
    if field in ("processedOn", "finishedOn"):
        return "some moment"
    if field == "stacktrace":
        return len(json.loads(text))
    return json.loads(text) if field in ("data", "opts", "returnvalue", "progress", "parent") else text


def _without_due_time(fields: dict[str, str]) -> dict[str, str]:
    return {**fields, "delay": "some moment"} if fields["event"] == "delayed" else fields
