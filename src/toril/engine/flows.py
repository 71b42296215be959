"""Flows: adds trees of jobs, and reads what became of a job's children. A job runs when its children have completed."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from toril import clock, errors
from toril.engine import scripts
from toril.engine.keys import QueueKeys
from toril.engine.operations import Operation
from toril.jobs.children import Children
from toril.jobs.job import JobRecord, JobState, NewJob, links_to_json
from toril.jobs.parents import ParentLink


@dataclass(frozen=True, slots=True)
class Node:
    """A job of a flow that is to be added, with the jobs it waits for."""

    keys: QueueKeys
    job: NewJob
    children: Sequence[Node] = ()


@dataclass(frozen=True, slots=True)
class JobTree:
    """A job that is stored, with its children; those that are gone are left out."""

    queue: str
    job: JobRecord
    state: JobState
    children: list[JobTree] = field(default_factory=list)


def add(roots: Sequence[Node], *, layout: scripts.Layout = "6") -> Operation[list[str]]:
    """Add whole trees in one call, or nothing; returns the ids of the roots.

    Jobs without an id get a UUID. A job that is there already is not added again; its parent waits for it, or has its
    value if it has completed.

    Raises:
        InvalidOptionError: a job with a parent or children has a deduplication.
        ParentNotFoundError, ParentConflictError: a job was refused.
    """
    ids: list[str] = yield scripts.add_flow(lay_out(roots), now_ms=clock.now_ms(), layout=layout)
    return ids[: len(roots)]


def lay_out(roots: Sequence[Node]) -> list[tuple[QueueKeys, NewJob]]:
    """All jobs of the trees with ids and links, level by level, as BullMQ adds them."""
    laid: list[tuple[QueueKeys, NewJob]] = []
    level: list[tuple[Node, ParentLink | None]] = [(root, None) for root in roots]
    while level:
        below: list[tuple[Node, ParentLink | None]] = []
        for node, parent in level:
            options = node.job.options
            if parent is not None:
                options = options.under(parent)
            if not options.job_id:
                options = options.with_id(str(uuid.uuid4()))
            if node.children and options.deduplication:
                raise errors.InvalidOptionError("deduplication", "is not possible for a job with children")
            links = links_to_json(options, waits_for_children=bool(node.children))
            laid.append((node.keys, replace(node.job, options=options, links_json=links)))
            link = ParentLink(options.job_id, node.keys.qualified_name)
            below += [(child, link) for child in node.children]
        level = below
    return laid


def children(keys: QueueKeys, job_id: str) -> Operation[Children]:
    """Read what became of the job's children."""
    found: Children = yield scripts.read_children(keys, job_id)
    return found


def tree(keys: QueueKeys, job_id: str, *, depth: int, max_children: int) -> Operation[JobTree | None]:
    """Read a job with its children, theirs, and so on; None when there is no such job.

    Args:
        depth: levels in all; 1 = the job alone.
        max_children: of each kind (completed, pending, failed, ignored) and job at most so many.
    """
    state, job = yield scripts.read_job(keys, job_id)
    if job is None:
        return None
    found = JobTree(keys.queue, job, state)
    if depth > 1:
        below = yield from children(keys, job_id)
        for group in (below.values, below.pending, below.failed, below.ignored):
            for name in list(group)[:max_children]:
                child_keys, child_id = keys.of_job_key(name)
                child = yield from tree(child_keys, child_id, depth=depth - 1, max_children=max_children)
                if child is not None:
                    found.children.append(child)
    return found
