"""Manifests for comparing local mode with an API server: the same are accepted, the same are refused.

`CASES` has an object for each kind of rule: every validation of the CRDs that compares fields, types, formats and
bounds, entries given twice, and metadata.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

QUEUE: Mapping[str, Any] = {
    "apiVersion": "toril.dev/v1alpha1",
    "kind": "JobQueue",
    "metadata": {"name": "q"},
    "spec": {"redis": {"url": "redis://redis:6379"}, "worker": {"processor": {"python": {"module": "jobs"}}}},
}
SCHEDULE: Mapping[str, Any] = {
    "apiVersion": "toril.dev/v1alpha1",
    "kind": "CronJobSchedule",
    "metadata": {"name": "s"},
    "spec": {"queueRef": {"name": "q"}, "schedule": "0 2 * * *"},
}
SECRET = {"secretKeyRef": {"name": "s", "key": "k"}}
GONE = object()
"""In a case: the field is taken away."""


def _queue(**fields: Any) -> dict[str, Any]:
    return _changed(QUEUE, fields)


def _schedule(**fields: Any) -> dict[str, Any]:
    return _changed(SCHEDULE, fields)


def _changed(original: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """`worker__env=…` sets spec.worker.env, `metadata__labels=…` metadata.labels."""
    changed = copy.deepcopy(dict(original))
    for path, value in fields.items():
        parts = path.split("__")
        place = changed if parts[0] in ("metadata", "apiVersion") else changed["spec"]
        for part in parts[:-1]:
            place = place.setdefault(part, {})
        if value is GONE:
            del place[parts[-1]]
        else:
            place[parts[-1]] = value
    return changed


CASES: Mapping[str, dict[str, Any]] = {
    "plain queue": _queue(),
    "plain schedule": _schedule(),
    # What compares fields.
    "no redis": _queue(redis={}),
    "redis twice": _queue(redis__host="redis"),
    "credentials in the URL": _queue(redis__url="redis://:canary@redis"),
    "port beside a URL": _queue(redis__port=6379),
    "parameters in the URL": _queue(redis__url="rediss://redis?ssl_cert_reqs=none"),
    "a database in the URL's parameters": _queue(redis__url="redis://redis?db=1"),
    "a PostgreSQL": _queue(redis__url="postgres://redis"),
    "TLS switched on beside a URL": _queue(redis={"url": "rediss://redis", "tls": {"enabled": True}}),
    "an authority beside a URL": _queue(redis={"url": "rediss://redis", "tls": {"caFrom": SECRET}}),
    "an authority beside a URL without TLS": _queue(redis={"url": "redis://redis", "tls": {"caFrom": SECRET}}),
    "an authority and no TLS": _queue(redis={"host": "redis", "tls": {"caFrom": SECRET}}),
    "an authority and TLS": _queue(redis={"host": "redis", "tls": {"enabled": True, "caFrom": SECRET}}),
    "a certificate without its key": _queue(redis={"host": "redis", "tls": {"enabled": True, "certFrom": SECRET}}),
    "an optional authority": _queue(
        redis={
            "host": "redis",
            "tls": {"enabled": True, "caFrom": {"secretKeyRef": {**SECRET["secretKeyRef"], "optional": True}}},
        }
    ),
    "a server name that is an address with a port": _queue(
        redis={"host": "redis", "tls": {"enabled": True, "serverName": "redis:6379"}}
    ),
    "port beside a host": _queue(redis={"host": "redis", "port": 6379}),
    "nothing to run": _queue(worker={}),
    "nothing to run, and not ours": _queue(worker={"mode": "None"}),
    "renewal later than the lock": _queue(worker__bullmq={"lockRenewTime": 30_000}),
    "renewal before the lock": _queue(worker__bullmq={"lockRenewTime": 30_000, "lockDuration": 30_001}),
    "the operator's variable": _queue(worker__env=[{"name": "TORIL_QUEUE", "value": "x"}]),
    "value and valueFrom": _queue(worker__env=[{"name": "A", "value": "1", "valueFrom": SECRET}]),
    "empty value and valueFrom": _queue(worker__env=[{"name": "A", "value": "", "valueFrom": SECRET}]),
    "null value and valueFrom": _queue(worker__env=[{"name": "A", "value": None, "valueFrom": SECRET}]),
    "no worker at most": _queue(scaling={"maxReplicas": 0}),
    "too many workers at most": _queue(scaling={"maxReplicas": 1001}),
    "a text that is empty": _queue(worker={"processor": {"python": {"module": ""}}}),
    "a number for a switch": _queue(suspend=1),
    "an object for a list": _queue(worker__env={}),
    "more workers at least than at most": _queue(scaling={"minReplicas": 5, "maxReplicas": 2}),
    "name of 52 characters": _queue(metadata__name="q" * 52),
    "name of 53 characters": _queue(metadata__name="q" * 53),
    "cron and interval": _schedule(every=1000),
    "neither cron nor interval": _schedule(schedule=GONE),
    "offset without interval": _schedule(offset=5),
    "offset as large as the interval": _schedule(schedule=GONE, every=1000, offset=1000),
    "offset below the interval": _schedule(schedule=GONE, every=1000, offset=999),
    "end before start": _schedule(startDate="2031-01-01T00:00:00Z", endDate="2030-01-01T00:00:00Z"),
    "end after start": _schedule(startDate="2030-01-01T00:00:00Z", endDate="2031-01-01T00:00:00Z"),
    "a run on creation before the start": _schedule(startDate="2030-01-01T00:00:00Z", runOnCreate="OncePerGeneration"),
    "four fields": _schedule(schedule="0 2 * *"),
    # Types, formats and bounds.
    "text for a number": _queue(worker__concurrency="5"),
    "a number with a point": _queue(worker__concurrency=5.0),
    "a fraction": _queue(worker__concurrency=5.5),
    "a switch for a number": _queue(worker__concurrency=True),
    "a number for a text": _queue(queueName=5),
    "a null field": _queue(queueName=None),
    "a null list": _queue(worker__env=None),
    "a null entry": _queue(worker__env=[None]),
    "a list for an object": _queue(worker__bullmq=[]),
    "beyond 32 bits": _queue(worker__bullmq={"limiter": {"max": 1000, "duration": 2_592_000_000}}),
    "delay beyond 64 bits": _queue(defaultJobOptions={"delay": 10**19}),
    "delay within 64 bits": _queue(defaultJobOptions={"delay": 2**53}),
    "unknown field": _queue(scaling={"maxReplica": 2}),
    "unknown top field": {**_queue(), "data": {}},
    "unknown word": _queue(pausedLayout="7"),
    "a queue name with a colon": _queue(queueName="a:b"),
    "a queue name of one blank": _queue(queueName=" "),
    "time without seconds": _schedule(startDate="2030-01-01T00:00Z"),
    "time with a blank": _schedule(startDate="2030-01-01 00:00:00+00:00"),
    "time without separators": _schedule(startDate="20300101T000000Z"),
    "time by weeks": _schedule(startDate="2030-W01-1T00:00:00Z"),
    "time without a zone": _schedule(startDate="2030-01-01T00:00:00"),
    "time with an offset": _schedule(startDate="2030-01-01T00:00:00+02:00"),
    "time with a fraction": _schedule(startDate="2030-01-01T00:00:00.5Z"),
    "time in small letters": _schedule(startDate="2030-01-01t00:00:00z"),
    "a day that is not": _schedule(startDate="2030-02-30T00:00:00Z"),
    "an hour that is not": _schedule(startDate="2030-01-01T24:00:00Z"),
    # Entries given twice.
    "a variable twice": _queue(worker__env=[{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]),
    "two variables": _queue(worker__env=[{"name": "A", "value": "1"}, {"name": "B", "value": "1"}]),
    # Metadata.
    "no name": _queue(metadata__name=GONE),
    "a name in capitals": _queue(metadata__name="Q"),
    "a name with a point": _queue(metadata__name="a.b"),
    "a number as name": _queue(metadata__name=5),
    "an annotation that is a switch": _queue(metadata__annotations={"x": True}),
    "an annotation of any text": _queue(metadata__annotations={"x": "a b\nc"}),
    "a null annotation": _queue(metadata__annotations={"x": None}),
    "annotations that are a list": _queue(metadata__annotations=[]),
    "a label that is a number": _queue(metadata__labels={"rev": 12}),
    "a label with a space": _queue(metadata__labels={"team": "a b"}),
    "an empty label": _queue(metadata__labels={"team": ""}),
    "a null label": _queue(metadata__labels={"team": None}),
    "a label of 63 characters": _queue(metadata__labels={"team": "a" * 63}),
    "a label of 64 characters": _queue(metadata__labels={"team": "a" * 64}),
    "a label's name with a domain": _queue(metadata__labels={"example.org/team": "a"}),
    "a label's name with two strokes": _queue(metadata__labels={"a/b/c": "a"}),
    "an empty label's name": _queue(metadata__labels={"": "a"}),
    "an annotation's name with a blank": _queue(metadata__annotations={"a b": "c"}),
    "an annotation's name in capitals": _queue(metadata__annotations={"EXAMPLE.org/a": "c"}),
    "unknown metadata": _queue(metadata__foo="x"),
    "finalizers": _queue(metadata__finalizers=["example.org/wait"]),
    "a finalizer that is a number": _queue(metadata__finalizers=[5]),
    "another version": _queue(apiVersion="toril.dev/v9"),
}


def with_its_queue(manifest: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """What local mode is given: a schedule needs its queue."""
    if manifest["kind"] == "CronJobSchedule":
        yield QUEUE
    yield manifest
