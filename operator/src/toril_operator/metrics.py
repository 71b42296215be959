"""The operator's metrics: about queues, scaling and reconciling. What is said of jobs one by one, workers say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from toril.jobs.signals import QueueSignals
from toril.scaling.policy import Unknown
from toril_operator.object_cache import Key

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One JobQueue as its metrics show it."""

    queue: str
    signal: QueueSignals | Unknown
    is_redis_up: bool
    desired: int
    current: int
    ready: int
    stuck_schedulers: int


class Metrics:
    """Gauges of a JobQueue come from its view at the moment of the scrape, and go with it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.views: dict[Key, View] = {}
        self.reconciles = Counter(
            "toril_reconcile", "Objects looked at, by kind and result.", ["kind", "result"], registry=self.registry
        )
        self.reconcile_seconds = Histogram(
            "toril_reconcile_seconds",
            "How long a look took.",
            buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 30),
            registry=self.registry,
        )
        self.decisions = Counter(
            "toril_scale_decisions",
            "Changes of the number of workers, by direction and by the step that decided.",
            ["direction", "limited_by"],
            registry=self.registry,
        )
        self.kopf_restarts = Counter(
            "toril_kopf_restarts", "How often the watches were started anew.", ["reason"], registry=self.registry
        )
        self.status_writes = Counter("toril_status_writes", "Statuses written.", registry=self.registry)
        self.work_queue_depth = Gauge(
            "toril_work_queue_depth", "Objects that wait to be looked at.", registry=self.registry
        )
        Info("toril_build", "Version of this program.", registry=self.registry).info(
            {"version": metadata.version("toril")}
        )
        self.registry.register(_Views(self.views))

    def render(self) -> bytes:
        return generate_latest(self.registry)


class _Views(Collector):
    def __init__(self, views: dict[Key, View]) -> None:
        self._views = views

    def collect(self) -> Iterator[Metric]:
        names = ["namespace", "jobqueue"]
        jobs = GaugeMetricFamily("toril_jobs", "Jobs in a queue, by state.", labels=[*names, "queue", "state"])
        oldest = GaugeMetricFamily("toril_oldest_waiting_seconds", "Age of the job that is next in line.", labels=names)
        replicas = GaugeMetricFamily("toril_replicas", "Workers: desired, current and ready.", labels=[*names, "kind"])
        is_up = GaugeMetricFamily("toril_redis_up", "1 while the queue can be read, else 0.", labels=names)
        stuck = GaugeMetricFamily(
            "toril_job_schedulers_stuck", "Job schedulers whose series cannot be carried on.", labels=names
        )
        for key, view in self._views.items():
            for kind in ("desired", "current", "ready"):
                replicas.add_metric([*key, kind], getattr(view, kind))
            is_up.add_metric(list(key), int(view.is_redis_up))
            if isinstance(view.signal, Unknown):
                continue
            stuck.add_metric(list(key), view.stuck_schedulers)
            for state, count in _counts(view.signal).items():
                jobs.add_metric([*key, view.queue, state], count)
            oldest.add_metric(list(key), (view.signal.oldest_waiting_ms or 0) / 1000)
        yield from (jobs, oldest, replicas, is_up, stuck)


def _counts(signal: QueueSignals) -> dict[str, int]:
    return {
        "waiting": signal.waiting,
        "prioritized": signal.prioritized,
        "active": signal.active,
        "delayed": signal.delayed,
        "waiting-children": signal.waiting_children,
        "completed": signal.completed,
        "failed": signal.failed,
    }
