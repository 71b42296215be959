"""Scripts that add jobs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from toril import errors
from toril.engine.codes import Code
from toril.engine.keys import QueueKeys
from toril.engine.redis.connection import Call, Part
from toril.engine.scripts.shared import Layout, texts
from toril.jobs.job import NewJob


def add_jobs(keys: QueueKeys, jobs: Sequence[NewJob], *, now_ms: int, layout: Layout = "6") -> Call[list[str]]:
    """Add jobs; answers their ids in order. Source: BullMQ 6.7 `addStandardJob` and its siblings, many at once.

    Its answer raises ParentNotFoundError or ParentConflictError for the first job that was refused; the others of the
    same call are added.
    """
    kinds: dict[tuple[str, int, str], int] = {}
    kind_args: list[Part] = []
    job_args: list[Part] = []
    has_links = False
    # Jobs of one task share the object with its options.
    for key, run in itertools.groupby(jobs, lambda job: (job.name, id(job.options), job.links_json)):
        same = list(run)
        options = same[0].options
        if key not in kinds:
            kinds[key] = len(kinds) + 1
            _, name, _, *shared = _job_args(same[0], now_ms)
            kind_args += (name, *shared, "1" if options.job_id else "0")
            has_links = has_links or same[0].links_json != ""
        job_args += (kinds[key], len(same))
        if options.job_id:
            job_args += itertools.chain.from_iterable((options.job_id, job.data_json) for job in same)
        else:
            job_args += [job.data_json for job in same]
    args: list[Part] = [keys.base, layout, len(jobs), len(kinds), *kind_args, *job_args]

    def parse(reply: Any) -> list[str]:
        for job, answer in zip(jobs, reply, strict=True):
            if isinstance(answer, int):
                raise _refused(job, answer)
        return texts(reply)

    return Call("add_jobs", [keys.meta], args, parse if has_links else texts)


def add_flow(nodes: Sequence[tuple[QueueKeys, NewJob]], *, now_ms: int, layout: Layout = "6") -> Call[list[str]]:
    """Add jobs of several queues at once, parents before their children; answers their ids in order.

    Its answer raises ParentNotFoundError or ParentConflictError; nothing was added then. Source: BullMQ 6.7
    `FlowProducer.add`; differs in refusing the whole flow, where BullMQ leaves parents that wait for ever.
    """
    args: list[Part] = [layout]
    for keys, job in nodes:
        args += [keys.base, *_job_args(job, now_ms)]

    def parse(reply: Any) -> list[str]:
        if reply[0] < 0:
            raise _refused(nodes[reply[1] - 1][1], reply[0])
        return texts(reply[1:])

    return Call("add_flow", list(dict.fromkeys(keys.meta for keys, _ in nodes)), args, parse)


def _job_args(job: NewJob, now_ms: int) -> list[Part]:
    options = job.options
    return [
        options.job_id,
        job.name,
        job.data_json,
        job.opts_json,
        now_ms if options.timestamp_ms is None else options.timestamp_ms,
        options.delay_ms,
        options.priority,
        "1" if options.lifo else "0",
        job.links_json,
    ]


def _refused(job: NewJob, code: int) -> errors.TorilError:
    options = job.options
    kind = errors.ParentNotFoundError if code == Code.NO_PARENT else errors.ParentConflictError
    return kind(options.job_id, options.parent.key if options.parent else "")
