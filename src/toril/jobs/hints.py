"""What to write instead of an option or an address that BullMQ has elsewhere, or that another library has."""

from __future__ import annotations

from collections.abc import Mapping

_SCHEDULES = "belongs to a job scheduler: queue.schedulers.upsert(id, {example})"

_NO_NAME = "has no name here: it is an option of queue.add(name, data, {…}), and of the queue's JobQueue"

_OF_BULLMQ: Mapping[str, str] = {
    "repeat": _SCHEDULES.format(example='cron="0 2 * * *", tz="Europe/Berlin"') + ", or every=seconds",
    "cron": _SCHEDULES.format(example='cron="0 2 * * *"'),
    "pattern": _SCHEDULES.format(example='cron="0 2 * * *"'),
    "every": _SCHEDULES.format(example="every=300"),
    "tz": _SCHEDULES.format(example='cron="0 2 * * *", tz="Europe/Berlin"'),
    "timeout": "is none of BullMQ's options any more; end the work in your function",
    "group": "is an option of BullMQ Pro, which is another product",
    "job_id": "is written jobId here",
    "keep_completed": "is written removeOnComplete here: how many are kept, or {count, age}",
    "keep_failed": "is written removeOnFail here: how many are kept, or {count, age}",
    "run_at": "is written delay here: milliseconds from now",
    "on_failure": "is written failParentOnFailure, continueParentOnFailure, ignoreDependencyOnFailure or "
    "removeDependencyOnFailure here: true",
    "de": "is how BullMQ stores deduplication: give that",
    "kl": "is how BullMQ stores keepLogs: give that",
    "fpof": "is how BullMQ stores failParentOnFailure: give that",
    "cpof": "is how BullMQ stores continueParentOnFailure: give that",
    "idof": "is how BullMQ stores ignoreDependencyOnFailure: give that",
    "rdof": "is how BullMQ stores removeDependencyOnFailure: give that",
}

_OF_PYTHON: Mapping[str, str] = {
    "removeOnComplete": "is written keep_completed here: removeOnComplete: 100 is keep_completed=100, true is False",
    "removeOnFail": "is written keep_failed here: removeOnFail: 100 is keep_failed=100, true is False",
    "jobId": "is written job_id here",
    "repeat": _OF_BULLMQ["repeat"],
    "cron": _OF_BULLMQ["cron"],
    "pattern": _OF_BULLMQ["pattern"],
    "every": _OF_BULLMQ["every"],
    "tz": _OF_BULLMQ["tz"],
    "timeout": _OF_BULLMQ["timeout"],
    "group": _OF_BULLMQ["group"],
    "timestamp": "is set when the job is added; run_at says when it is to run",
    "failParentOnFailure": 'is written on_failure="fail_parent" here',
    "continueParentOnFailure": 'is written on_failure="continue_parent" here',
    "ignoreDependencyOnFailure": 'is written on_failure="ignore_dependency" here',
    "removeDependencyOnFailure": 'is written on_failure="remove_dependency" here',
    "parent": "is said by flow(parent, children), or by job.add_child(draft) in a running job",
    "debounce": "is written deduplication here",
    "torilMaxDelay": "is written exponential(delay, max=…) here",
    "keepLogs": _NO_NAME,
    "stackTraceLimit": _NO_NAME,
    "sizeLimit": _NO_NAME,
    "retries": "is written attempts here, which counts the first one too",
    "max_retries": "is written attempts here, which counts the first one too",
    "countdown": "is written delay here",
    "eta": "is written run_at here",
}

_POSTGRESQL = (
    "names a PostgreSQL, in which BullMQ 6 can keep its queues; Toril speaks Redis only: give redis://host:port/db of "
    "the Redis that holds the queue"
)


def of_url(url: str) -> str | None:
    """The hint for the URL of another database than Redis; None = there is none. The hint does not hold the URL."""
    return _POSTGRESQL if "://" in url and url.strip().lower().startswith("postgres") else None


def of_bullmq(name: object) -> str | None:
    """The hint for an unknown option in a mapping with BullMQ's names; None = there is none."""
    return _OF_BULLMQ.get(str(name))


def of_python(name: object) -> str | None:
    """The hint for an unknown keyword argument; None = there is none."""
    return _OF_PYTHON.get(str(name))
