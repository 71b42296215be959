"""Reads manifests as `kubectl apply -f` does, and refuses what a cluster would refuse: file, object and field named."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toril import errors
from toril.cli import schemas
from toril.cli.dev import yaml_documents
from toril.specs import cron_job_schedule, jobqueue
from toril.specs.cron_job_schedule import CronJobScheduleSpec
from toril.specs.jobqueue import JobQueueSpec

_SUFFIXES = (".yaml", ".yml", ".json")
_OBJECT_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
"""A DNS subdomain, the form of every Kubernetes object's name."""


class ManifestError(errors.TorilError):
    """Manifests that cannot be used. `str()` has one line a problem: `file: object: field: problem`."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class LoadedQueue:
    """One JobQueue and where it was written."""

    spec: JobQueueSpec
    file: Path


@dataclass(frozen=True, slots=True)
class LoadedSchedule:
    """One CronJobSchedule and where it was written."""

    spec: CronJobScheduleSpec
    file: Path


Loaded = LoadedQueue | LoadedSchedule


@dataclass(frozen=True, slots=True)
class Manifests:
    """Everything found, in the order of files and documents."""

    queues: tuple[LoadedQueue, ...]
    schedules: tuple[LoadedSchedule, ...]
    ignored: tuple[str, ...]
    """Objects of other kinds, such as `Deployment/redis`, which local mode ignores."""


def load(paths: Sequence[Path]) -> Manifests:
    """Read the JobQueues and CronJobSchedules in files and folders (`*.yaml`, `*.yml`, `*.json` directly in them).

    Raises:
        ManifestError: anything that cannot be read or that a cluster would refuse, two objects for one queue or one
            scheduler, a schedule without its queue, or no JobQueue at all; all problems at once.
    """
    found: list[Loaded] = []
    ignored: list[str] = []
    problems: list[str] = []
    for file in _files(paths, problems):
        for document in _documents(file, problems):
            name = _object_name(document)
            if document.get("kind") not in schemas.PLURALS or not _is_ours(document):
                ignored.append(name)
                continue
            try:
                found.append(_parse(document, file))
            except ManifestError as refused:
                problems += [f"{file}: {name}: {problem}" for problem in refused.problems]
    queues = [each for each in found if isinstance(each, LoadedQueue)]
    schedules = [each for each in found if isinstance(each, LoadedSchedule)]
    problems += _conflicts(queues)
    if not problems:
        # No second problem about a queue that was refused itself.
        problems += _schedule_problems(schedules, queues)
    if not queues and not problems:
        problems.append(f"{', '.join(map(str, paths))}: no JobQueue found")
    if problems:
        raise ManifestError(problems)
    return Manifests(tuple(queues), tuple(schedules), tuple(ignored))


def _files(paths: Sequence[Path], problems: list[str]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES and file.is_file())
        elif path.is_file():
            yield path
        else:
            problems.append(f"{path}: no such file or folder")


def _documents(file: Path, problems: list[str]) -> Iterator[Mapping[str, Any]]:
    """The objects in a file, those inside a `List` too. Documents before a mistake are still read."""
    try:
        for document in yaml_documents.read(file.read_text()):
            if document is None:
                continue
            if not isinstance(document, Mapping):
                problems.append(f"{file}: holds a document that is no Kubernetes object")
            elif document.get("kind") == "List" and isinstance(document.get("items"), list):
                yield from (item for item in document["items"] if isinstance(item, Mapping))
            else:
                yield document
    except yaml_documents.DocumentError as problem:
        problems.append(f"{file}{problem.position}: {problem}")
    except UnicodeDecodeError:
        problems.append(f"{file}: not YAML text")
    except OSError as problem:
        problems.append(f"{file}: cannot be read: {problem.strerror}")


def _is_ours(document: Mapping[str, Any]) -> bool:
    return str(document.get("apiVersion", "")).startswith(f"{schemas.GROUP}/")


def _object_name(document: Mapping[str, Any]) -> str:
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    return f"{document.get('kind') or 'object without kind'}/{name or '?'}"


def _parse(document: Mapping[str, Any], file: Path) -> Loaded:
    """One object of ours. Raises ManifestError with its problems, one a field."""
    try:
        if problems := schemas.problems_of(document, schemas.PLURALS[document["kind"]]):
            raise ManifestError([str(problem) for problem in problems])
        loaded: Loaded
        if document["kind"] == jobqueue.KIND:
            loaded = LoadedQueue(jobqueue.parse_job_queue(document), file)
        else:
            loaded = LoadedSchedule(cron_job_schedule.parse_cron_job_schedule(document), file)
    except errors.InvalidSpecError as problem:
        raise ManifestError([str(problem)]) from None
    if _OBJECT_NAME.fullmatch(loaded.spec.name) is None:
        raise ManifestError(["metadata.name: must be lower-case letters, digits, '-' and '.'"])
    return loaded


def _conflicts(queues: Sequence[LoadedQueue]) -> list[str]:
    """Two objects of one name, or two for one queue on the one server that local mode has."""
    problems = []
    names: dict[tuple[str, str], LoadedQueue] = {}
    lines: dict[tuple[str, str], LoadedQueue] = {}
    for queue in queues:
        spec = queue.spec
        name, line = (spec.namespace, spec.name), (spec.prefix, spec.queue_name)
        if (first := names.setdefault(name, queue)) is not queue:
            problems.append(f"{queue.file}: JobQueue/{spec.name}: is already in {first.file}")
        elif (first := lines.setdefault(line, queue)) is not queue:
            problems.append(
                f"{queue.file}: JobQueue/{spec.name}: spec.queueName: {spec.queue_name!r} is worked "
                f"by JobQueue/{first.spec.name} already"
            )
    return problems


def _schedule_problems(schedules: Sequence[LoadedSchedule], queues: Sequence[LoadedQueue]) -> Iterator[str]:
    """Mistakes that a cluster reports in conditions: a missing queue, one scheduler twice, an invalid schedule."""
    by_name = {(queue.spec.namespace, queue.spec.name): queue.spec for queue in queues}
    known: dict[tuple[str, str, str], LoadedSchedule] = {}
    for schedule in schedules:
        spec = schedule.spec
        where = f"{schedule.file}: CronJobSchedule/{spec.name}"
        queue = by_name.get((spec.namespace, spec.queue))
        if queue is None:
            yield f"{where}: spec.queueRef.name: there is no JobQueue {spec.queue!r} in these manifests"
            continue
        first = known.setdefault((spec.namespace, spec.queue, spec.scheduler_id), schedule)
        if first is not schedule:
            owner = f"CronJobSchedule/{first.spec.name}"
            yield f"{where}: spec.schedulerId: {spec.scheduler_id!r} is that of {owner} already"
        try:
            cron_job_schedule.build_schedule(spec)
            cron_job_schedule.build_template(spec, queue.default_job_options)
        except errors.InvalidSpecError as problem:
            yield f"{where}: {problem}"
