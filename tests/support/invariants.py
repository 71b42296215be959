"""What holds for every queue whatever happened to it; a test that hurt a queue ends by `assert_sound`.

Nothing here knows what a test did: what is stored is read by a plain client and compared with itself.
"""

from __future__ import annotations

import collections
import json
from collections.abc import Iterator, Mapping
from typing import Any

import redis

LISTS = ("wait", "paused", "active")
SORTED = ("prioritized", "delayed", "waiting-children", "completed", "failed")
ENDS = ("completed", "failed")
QUEUE_KEYS = {
    "id": "string", "wait": "list", "paused": "list", "active": "list", "prioritized": "zset", "pc": "string",
    "delayed": "zset", "waiting-children": "zset", "completed": "zset", "failed": "zset", "marker": "zset",
    "meta": "hash", "events": "stream", "limiter": "string", "stalled": "set", "stalled-check": "string",
    "repeat": "zset", "metrics:completed": "hash", "metrics:failed": "hash", "metrics:completed:data": "list",
    "metrics:failed:data": "list", "toril:owed": "hash", "toril:draining": "hash", "toril:workers": "hash",
}  # fmt: skip
"""BullMQ's keys of a queue and our own, by the part behind `bull:<queue>:`, and their types."""
WITH_LIFETIME = ("limiter", "stalled-check", "toril:owed", "toril:draining", "toril:workers")
PARTS = {"lock": "string", "logs": "list", "dependencies": "set", "processed": "hash", "failed": "hash",
         "unsuccessful": "zset"}  # fmt: skip
"""What may hang on a job, by the part behind its id."""


class StoredQueue:
    """Everything that Redis holds of one queue, read while no process writes."""

    def __init__(self, client: redis.Redis, queue: str, prefix: str = "bull") -> None:
        """Args: client: with `decode_responses`."""
        raw: Any = client
        self.base = base = f"{prefix}:{queue}:"
        types = {key[len(base) :]: raw.type(key) for key in raw.scan_iter(base + "*", count=1000)}
        # Without those that ran out in between.
        self.types: dict[str, str] = {name: kind for name, kind in types.items() if kind != "none"}
        self.containers: dict[str, list[str]] = {
            **{name: raw.lrange(base + name, 0, -1) for name in LISTS if self.types.get(name) == "list"},
            **{name: raw.zrange(base + name, 0, -1) for name in SORTED if self.types.get(name) == "zset"},
        }
        hashes = [name for name, kind in self.types.items() if kind == "hash" and name not in QUEUE_KEYS]
        self.jobs: dict[str, dict[str, str]] = {}
        for name in hashes:
            head, _, last = name.rpartition(":")
            if not (last in PARTS and head in self.types) and not name.startswith("dn:"):
                fields = raw.hgetall(base + name)
                if "ic" not in fields:
                    self.jobs[name] = fields
        self.schedulers: dict[str, float] = dict(raw.zrange(base + "repeat", 0, -1, withscores=True))
        self.stalled: set[str] = raw.smembers(base + "stalled")
        self.without_lifetime = {name for name in self.types if raw.pttl(base + name) == -1}
        self.deduplicated: dict[str, str] = {
            name[3:]: raw.get(base + name) for name, kind in self.types.items()
            if name.startswith("de:") and kind == "string"
        }  # fmt: skip
        self.pending_children: dict[str, set[str]] = {
            name.removesuffix(":dependencies"): raw.smembers(base + name)
            for name, kind in self.types.items() if name.endswith(":dependencies") and kind == "set"
        }  # fmt: skip
        self.existing_children = {
            child for children in self.pending_children.values() for child in children if raw.exists(child)
        }
        self.events: list[Mapping[str, str]] = [fields for _, fields in raw.xrange(base + "events")]

    @property
    def state_of(self) -> dict[str, str]:
        """The container of each job."""
        return {job_id: name for name, ids in self.containers.items() for job_id in ids}

    def problems(self) -> list[str]:
        """Everything that is not as it must be, in words."""
        return [*self._containers(), *self._jobs(), *self._keys(), *self._relations(), *self._ends()]

    def _containers(self) -> Iterator[str]:
        places: dict[str, list[str]] = collections.defaultdict(list)
        for name, ids in self.containers.items():
            for job_id in ids:
                places[job_id].append(name)
        for job_id, names in places.items():
            if len(names) > 1:
                yield f"job {job_id} is in {' and in '.join(names)}"
            if job_id not in self.jobs:
                yield f"{names[0]} holds {job_id}, which is no job"
        yield from (f"job {job_id} is in no state" for job_id in self.jobs if job_id not in places)

    def _jobs(self) -> Iterator[str]:
        states = self.state_of
        for job_id, fields in self.jobs.items():
            state = states.get(job_id)
            missing = {"name", "data", "opts", "timestamp"} - fields.keys()
            if missing:
                yield f"job {job_id} lacks {', '.join(sorted(missing))}"
            if (state in ENDS) != ("finishedOn" in fields):
                yield f"job {job_id} is {state} and finishedOn is {fields.get('finishedOn')}"
            if state == "completed" and "returnvalue" not in fields:
                yield f"job {job_id} is completed without a result"
            if state == "failed" and "failedReason" not in fields:
                yield f"job {job_id} is failed without a reason"
            if int(fields.get("atm", 0)) > int(fields.get("ats", 0)):
                yield f"job {job_id} has ended {fields['atm']} attempts and begun {fields.get('ats')}"

    def _keys(self) -> Iterator[str]:
        states = self.state_of
        for name, kind in self.types.items():
            head, _, last = name.rpartition(":")
            if name in QUEUE_KEYS:
                if kind != QUEUE_KEYS[name]:
                    yield f"{name} is a {kind}"
                if name in WITH_LIFETIME and name in self.without_lifetime:
                    yield f"{name} stays for ever"
            elif name in self.jobs or name.startswith(("repeat:", "de:", "dn:")):
                continue
            elif last not in PARTS or head not in self.jobs:
                yield f"{name} ({kind}) belongs to nothing"
            elif kind != PARTS[last]:
                yield f"{name} is a {kind}"
            elif last == "lock":
                if states.get(head) != "active":
                    yield f"job {head} is {states.get(head)} and has a lock"
                if name in self.without_lifetime:
                    yield f"the lock of job {head} stays for ever"
        if not self.stalled <= {*self.containers.get("active", [])}:
            yield f"the stalled check watches {sorted(self.stalled - {*self.containers.get('active', [])})}"

    def _relations(self) -> Iterator[str]:
        states = self.state_of
        for deduplication_id, job_id in self.deduplicated.items():
            if f"de:{deduplication_id}" in self.without_lifetime and states.get(job_id) in (None, *ENDS):
                yield f"deduplication {deduplication_id} is held by job {job_id}, which is {states.get(job_id)}"
        for name in self.types:
            if name.startswith("dn:") and name[3:] not in self.deduplicated:
                yield f"{name} waits for no child"
        for scheduler_id in self.schedulers:
            if self.types.get(f"repeat:{scheduler_id}") != "hash":
                yield f"scheduler {scheduler_id} has no definition"
        for parent_id, children in self.pending_children.items():
            gone = children - self.existing_children
            if gone:
                yield f"job {parent_id} waits for {sorted(gone)}, which are gone"
            if states.get(parent_id) == "completed":
                yield f"job {parent_id} is completed and waits for {sorted(children)}"

    def _ends(self) -> Iterator[str]:
        ended = collections.Counter(event["jobId"] for event in self.events if event["event"] in ENDS)
        again = {event["jobId"] for event in self.events
                 if event["event"] == "waiting" and event.get("prev") in ENDS}  # fmt: skip
        for job_id, count in ended.items():
            if count > 1 and job_id not in again:
                yield f"job {job_id} has ended {count} times"


def assert_sound(client: redis.Redis, queue: str, *, is_at_rest: bool = True) -> StoredQueue:
    """Fail with everything that is wrong in a queue; return what is stored.

    Args:
        is_at_rest: no worker holds anything: nothing is active and nothing locked.
    """
    stored = StoredQueue(client, queue)
    problems = stored.problems()
    if is_at_rest and (active := stored.containers.get("active")):
        problems.append(f"active at rest: {active}")
    assert problems == [], json.dumps(problems[:20], indent=1)
    return stored
