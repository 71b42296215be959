"""The objects as last seen, by kind and key: fed by watch events and corrected by full lists.

Watches lose deletions while they are interrupted; whatever a full list does not have is gone. Used on one event loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from toril_operator import labels

Json = Mapping[str, Any]


class Key(NamedTuple):
    """An object's place."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Kind(StrEnum):
    """The kinds of objects that the operator watches."""

    JOB_QUEUE = "JobQueue"
    CRON_JOB_SCHEDULE = "CronJobSchedule"
    DEPLOYMENT = "Deployment"
    """Those with our labels: the workers of JobQueues."""
    POD = "Pod"
    """Those with our labels: workers."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One change as a watch or a list tells it."""

    kind: Kind
    key: Key
    manifest: Json
    is_deleted: bool = False


def key_of(manifest: Json) -> Key:
    metadata = manifest.get("metadata") or {}
    return Key(metadata.get("namespace") or "default", metadata.get("name") or "")


def owner_of(manifest: Json) -> Json:
    """The controlling owner's reference; an empty mapping when there is none."""
    owners = (manifest.get("metadata") or {}).get("ownerReferences") or ()
    return next((owner for owner in owners if owner.get("controller")), {})


def job_queue_of(deployment: Json) -> Key | None:
    """The JobQueue that a Deployment belongs to, if it is one's."""
    owner = owner_of(deployment)
    if owner.get("kind") != Kind.JOB_QUEUE or not str(owner.get("apiVersion", "")).startswith("toril.dev/"):
        return None
    return Key(key_of(deployment).namespace, str(owner["name"]))


def job_queue_of_pod(pod: Json) -> Key:
    """The JobQueue that a pod's label names, whether it is there or not."""
    named = ((pod.get("metadata") or {}).get("labels") or {}).get(labels.JOB_QUEUE)
    return Key(key_of(pod).namespace, str(named or ""))


def slim_pod(pod: Json) -> Json:
    """What is kept of a pod: there may be thousands."""
    metadata, status = pod.get("metadata") or {}, pod.get("status") or {}
    kept = ("namespace", "name", "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "labels")
    return {
        "metadata": {name: metadata[name] for name in kept if name in metadata},
        "status": {name: status[name] for name in ("phase", "conditions", "containerStatuses") if name in status},
    }


def queue_of(schedule: Json) -> Key:
    """The JobQueue that a CronJobSchedule names, whether it is there or not."""
    reference = (schedule.get("spec") or {}).get("queueRef") or {}
    return Key(key_of(schedule).namespace, str(reference.get("name") or ""))


def scheduler_of(schedule: Json) -> str:
    """Id of the job scheduler that a CronJobSchedule has on its queue."""
    given = (schedule.get("spec") or {}).get("schedulerId")
    return str(given or "{}.{}".format(*key_of(schedule)))


def age_of(manifest: Json) -> tuple[str, str]:
    """What sorts objects from the oldest on."""
    return manifest["metadata"]["creationTimestamp"], manifest["metadata"]["uid"]


class ObjectCache:
    """Last seen objects. Every change names what must be looked at: JobQueues, and schedules for a schedule."""

    def __init__(self) -> None:
        self._objects: dict[Kind, dict[Key, Json]] = {kind: {} for kind in Kind}
        self._of_queue: dict[Kind, dict[Key, set[Key]]] = {kind: {} for kind in _QUEUE_OF}
        """What names a JobQueue, by that."""

    def get(self, kind: Kind, key: Key) -> Json | None:
        return self._objects[kind].get(key)

    def keys(self, kind: Kind) -> list[Key]:
        return list(self._objects[kind])

    def items(self, kind: Kind) -> Iterator[tuple[Key, Json]]:
        return iter(self._objects[kind].items())

    def schedules_of(self, job_queue: Key) -> set[Key]:
        """The schedules that name a JobQueue."""
        return self._of_queue[Kind.CRON_JOB_SCHEDULE].get(job_queue, set())

    def pods_of(self, job_queue: Key) -> list[Json]:
        """The pods of a JobQueue's workers, as `slim_pod` leaves them; also of one that is gone."""
        return [self._objects[Kind.POD][key] for key in self._of_queue[Kind.POD].get(job_queue, ())]

    def record(self, seen: Seen) -> set[Key]:
        """Take in one change; answers the objects that it concerns. Older news than what is known is dropped."""
        known = self._objects[seen.kind]
        old = known.get(seen.key)
        if seen.is_deleted:
            if old is not None and _uid(old) == _uid(seen.manifest):
                self.forget(seen.kind, seen.key)
        elif old is None or _uid(old) != _uid(seen.manifest) or _version(seen.manifest) > _version(old):
            self.forget(seen.kind, seen.key)
            known[seen.key] = slim_pod(seen.manifest) if seen.kind is Kind.POD else seen.manifest
            if seen.kind in _QUEUE_OF:
                self._of_queue[seen.kind].setdefault(_QUEUE_OF[seen.kind](seen.manifest), set()).add(seen.key)
        else:
            return set()
        return self._concerned(seen.kind, seen.key, seen.manifest)

    def replace(self, kind: Kind, manifests: Iterable[Json], *, known_before: Mapping[Key, str]) -> set[Key]:
        """Take in a full list; answers the objects that must be looked at.

        Args:
            known_before: what was known when the list began (see `versions`). What is not in the list was deleted,
                unless it came to be known since.
        """
        listed = {key_of(manifest): manifest for manifest in manifests}
        concerned: set[Key] = set()
        for key, manifest in listed.items():
            concerned |= self.record(Seen(kind, key, manifest))
        for key, uid in known_before.items():
            old = self._objects[kind].get(key)
            if key not in listed and old is not None and _uid(old) == uid:
                self.forget(kind, key)
                concerned |= self._concerned(kind, key, old)
        return concerned

    def versions(self, kind: Kind) -> dict[Key, str]:
        """Every known key with its object's uid."""
        return {key: _uid(manifest) for key, manifest in self._objects[kind].items()}

    def forget(self, kind: Kind, key: Key) -> None:
        """Drop what is known of one object, after an answer that it is gone."""
        old = self._objects[kind].pop(key, None)
        if kind in _QUEUE_OF and old is not None:
            job_queue, known = _QUEUE_OF[kind](old), self._of_queue[kind]
            known[job_queue].discard(key)
            if not known[job_queue]:
                del known[job_queue]

    def _concerned(self, kind: Kind, key: Key, manifest: Json) -> set[Key]:
        if kind is Kind.CRON_JOB_SCHEDULE:
            # Another one may have waited for its scheduler.
            rivals = self.schedules_of(queue_of(manifest)) - {key}
            known, wanted = self._objects[kind], scheduler_of(manifest)
            return {key} | {rival for rival in rivals if scheduler_of(known[rival]) == wanted}
        if kind is Kind.JOB_QUEUE:
            return {key}
        if kind is Kind.POD:
            return {job_queue_of_pod(manifest)}
        owner = job_queue_of(manifest)
        return set() if owner is None else {owner}


_QUEUE_OF = {Kind.CRON_JOB_SCHEDULE: queue_of, Kind.POD: job_queue_of_pod}
"""Kinds that are found by the JobQueue that they name."""


def _uid(manifest: Json) -> str:
    return str((manifest.get("metadata") or {}).get("uid", ""))


def _version(manifest: Json) -> int:
    """Resource versions of one kind are comparable numbers."""
    try:
        return int((manifest.get("metadata") or {}).get("resourceVersion") or 0)
    except ValueError:
        return 0
