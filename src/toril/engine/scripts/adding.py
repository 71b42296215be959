"""Scripts that add jobs."""

from __future__ import annotations

from collections.abc import Sequence

from toril.engine.connection import Call, Part
from toril.engine.keys import QueueKeys
from toril.engine.scripts.shared import Layout, texts
from toril.jobs.job import NewJob


def add_jobs(keys: QueueKeys, jobs: Sequence[NewJob], *, now_ms: int, layout: Layout = "6") -> Call[list[str]]:
    """Add jobs; answers their ids in order. Source: BullMQ 6.7 `addStandardJob` and its siblings, many at once."""
    args: list[Part] = [keys.base, layout]
    for job in jobs:
        options = job.options
        timestamp = now_ms if options.timestamp_ms is None else options.timestamp_ms
        args += [
            options.job_id,
            job.name,
            job.data_json,
            job.opts_json,
            timestamp,
            options.delay_ms,
            options.priority,
            "1" if options.lifo else "0",
            job.links_json,
        ]
    return Call("add_jobs", [keys.meta], args, texts)
