"""Everything that a queue's keys hold, in a form that can be compared."""

from __future__ import annotations

import json
from typing import Any

from support.engine import EngineQueue

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
    if isinstance(meta := found.get("meta"), dict):
        meta.pop("version", None)
    return found


def dump_and_clear(queue: EngineQueue) -> dict[str, Any]:
    found = dump(queue)
    queue.raw.delete(*queue.raw.keys(queue.keys.base + "*"))
    return found


def _parsed(field: str, text: str) -> Any:
    return json.loads(text) if field in ("data", "opts", "returnvalue", "progress") else text


def without_moments(found: dict[str, Any]) -> dict[str, Any]:
    """A dump without what no two runs share: the time of day, traces, wake-ups and the stalled check. Times that were
    given, within a day of `NOW_MS` or long before it, stay."""
    for name in ("marker", "stalled-check", "stalled"):
        found.pop(name, None)
    for name, value in found.items():
        if name in ("completed", "failed", "delayed", "waiting-children"):
            unit = 4096 if name == "delayed" else 1
            placed = [(job_id, score if _is_given(score / unit) else "some moment") for job_id, score in value]
            # Two may have ended within a millisecond: then they stand by their ids.
            found[name] = sorted(placed, key=str) if name in ("completed", "failed") else placed
        elif name == "events":
            for event in value:
                if event["event"] == "delayed" and not _is_given(float(event["delay"])):
                    event["delay"] = "some moment"
        elif isinstance(value, dict):
            for field in ("timestamp", "processedOn", "finishedOn"):
                if field in value and not _is_given(float(value[field])):
                    value[field] = "some moment"
            if "stacktrace" in value:
                value["stacktrace"] = len(json.loads(value["stacktrace"]))
    return found


def _is_given(moment_ms: float) -> bool:
    return abs(moment_ms - NOW_MS) < 86_400_000 or moment_ms < 1_100_000_000_000
