"""What `Queue.add_bulk` takes: drafts of tasks, and jobs that are written out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from toril import errors
from toril.client.draft import Draft
from toril.jobs.job import NewJob

if TYPE_CHECKING:
    from toril.client.connection import QueueClient

BulkItem = Draft[Any] | tuple[str, Any] | tuple[str, Any, Mapping[str, Any] | None] | Mapping[str, Any]
"""A draft, `(name, data)`, `(name, data, opts)`, or BullMQ's `{name, data, opts}`, of which only `name` is needed."""

_KEYS = ("name", "data", "opts")


def new_jobs(client: QueueClient, items: Iterable[BulkItem]) -> Iterable[NewJob]:
    """The checked jobs: of a list a list, of anything else one after the other as they are asked for.

    Raises:
        InvalidOptionError, InvalidPayloadError: an item is refused; `field` begins with its place.
    """
    if isinstance(items, str | bytes | Mapping):
        raise errors.InvalidOptionError("items", "must be a list of drafts, (name, data, opts) or {name, data, opts}")
    jobs = _checked(client, items)
    return list(jobs) if isinstance(items, Sequence) else jobs


def _checked(client: QueueClient, items: Iterable[BulkItem]) -> Iterator[NewJob]:
    for index, item in enumerate(items):
        if type(item) is Draft and item.client is client:
            yield item.job
            continue
        try:
            yield _new_job(client, item)
        except errors.InvalidInputError as problem:
            place = f"[{index}].{problem.field}".rstrip(".")
            raise type(problem)(place, problem.problem) from None


def _new_job(client: QueueClient, item: object) -> NewJob:
    if isinstance(item, Draft):
        if item.client is not client:
            raise errors.InvalidOptionError("", f"a draft of queue {item.client.name} is not for {client.name}")
        job: NewJob = item.job
        return job
    if isinstance(item, Mapping):
        for key in item:
            if key not in _KEYS:
                raise errors.InvalidOptionError(str(key), f"is unknown; known are {', '.join(_KEYS)}")
        return client.new_job(item.get("name", ""), item.get("data", {}), _options(item.get("opts")))
    if isinstance(item, tuple | list) and len(item) in (2, 3):
        name, data, *opts = item
        return client.new_job(name, data, _options(opts[0] if opts else None))
    words = f"is a {type(item).__name__}: give a draft, (name, data, opts) or {{name, data, opts}}"
    raise errors.InvalidOptionError("", words)


def _options(opts: object) -> Mapping[str, Any] | None:
    if opts is not None and not isinstance(opts, Mapping):
        raise errors.InvalidOptionError("opts", "must be a mapping of BullMQ's job options")
    return opts
