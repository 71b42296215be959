"""Names of a queue's Redis keys: BullMQ's, and ours that begin with `toril:`.

Python code builds keys here and nowhere else. Scripts build them from a queue's base or a job's key and a name of this
module; a test compares the names.
"""

from __future__ import annotations

import base64

from toril import errors
from toril.jobs.job import check_queue_name

JOB_PARTS = ("lock", "logs", "dependencies", "processed", "failed", "unsuccessful")
"""Names of the keys beside a job's hash: each follows the job's key and a colon."""
FAMILIES = ("de:", "dn:", "metrics:")
"""First parts of the names of which a queue has several keys: by deduplication id, or by state."""


class QueueKeys:
    """The keys of one queue, as text. `base` ends with a colon: `bull:email:`."""

    __slots__ = (
        "active", "base", "completed", "defaults", "delayed", "draining", "events", "failed", "id", "limiter", "marker",
        "meta", "paused", "pc", "prefix", "prioritized", "queue", "repeat", "stalled", "stalled_check", "wait",
        "waiting_children", "workers",
    )  # fmt: skip

    def __init__(self, queue: str, prefix: object = "bull") -> None:
        """Raises: InvalidOptionError: a queue name or prefix that BullMQ could not use."""
        self.queue = check_queue_name(queue)
        if not isinstance(prefix, str) or not prefix or not prefix.isprintable():
            raise errors.InvalidOptionError("prefix", "must be printable text and not empty")
        self.prefix = prefix
        self.base = base = f"{prefix}:{queue}:"
        self.active = base + "active"
        self.completed = base + "completed"
        self.defaults = base + "toril:defaults"
        self.delayed = base + "delayed"
        self.draining = base + "toril:draining"
        self.events = base + "events"
        self.failed = base + "failed"
        self.id = base + "id"
        self.limiter = base + "limiter"
        self.marker = base + "marker"
        self.meta = base + "meta"
        self.paused = base + "paused"
        self.pc = base + "pc"
        self.prioritized = base + "prioritized"
        self.repeat = base + "repeat"
        self.stalled = base + "stalled"
        self.stalled_check = base + "stalled-check"
        self.workers = base + "toril:workers"
        self.wait = base + "wait"
        self.waiting_children = base + "waiting-children"

    def __repr__(self) -> str:
        return f"QueueKeys({self.queue!r}, prefix={self.prefix!r})"

    def job(self, job_id: str) -> str:
        return self.base + job_id

    def lock(self, job_id: str) -> str:
        return f"{self.base}{job_id}:lock"

    def logs(self, job_id: str) -> str:
        return f"{self.base}{job_id}:logs"

    def deduplication(self, deduplication_id: str) -> str:
        """Holds the id of the job that has this deduplication id."""
        return f"{self.base}de:{deduplication_id}"

    @property
    def qualified_name(self) -> str:
        """Prefix and queue, as links between parents and children name it: `bull:email`."""
        return self.base[:-1]

    def of_job_key(self, job_key: str) -> tuple[QueueKeys, str]:
        """The queue and the id in the key of a job, for one that is tied to a job of this queue.

        Ids may hold colons, and so may prefixes: one that begins as ours is taken to be the same.

        Raises:
            InvalidOptionError: it is no job's key.
        """
        prefix, rest = self.prefix, job_key.removeprefix(f"{self.prefix}:")
        if rest == job_key:
            prefix, _, rest = job_key.partition(":")
        queue, _, job_id = rest.partition(":")
        return QueueKeys(queue, prefix), job_id

    def client_name(self, suffix: str = "") -> str:
        """The connection name by which BullMQ's `getWorkers()` finds workers.

        Args:
            suffix: `:w:<worker name>` for a named worker, `:qe` for a reader of events.
        """
        return f"{self.prefix}:{base64.b64encode(self.queue.encode()).decode()}{suffix}"
