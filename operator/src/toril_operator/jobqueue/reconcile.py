"""One turn for one JobQueue: observe → plan → apply → status."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from toril import clock
from toril.errors import RedisReason
from toril.scaling.policy import Unknown
from toril_operator import conditions
from toril_operator.conditions import Reason, Status, Type
from toril_operator.event_recorder import EventReason, EventRecorder
from toril_operator.jobqueue import plan as planning
from toril_operator.jobqueue import status as statuses
from toril_operator.jobqueue.apply import Applier
from toril_operator.jobqueue.defaults import DefaultsKeeper
from toril_operator.jobqueue.drainer import Drainer
from toril_operator.jobqueue.observe import SECRETS_RETRY_MS, Observer
from toril_operator.jobqueue.plan import Memory, Observed, Plan, WorkerDefaults
from toril_operator.metrics import Metrics, View
from toril_operator.object_cache import Key, Kind, ObjectCache
from toril_operator.status_writer import StatusWriter
from toril_operator.work_queue import WorkQueue

Json = Mapping[str, Any]

SECRET_REASONS = (Reason.SECRET_MISSING, Reason.SECRET_INVALID, RedisReason.AUTH_FAILED)
"""What another content of a Secret may mend; nobody tells us of it."""


class Reconciler:
    """Level-triggered: what led here does not matter, and a lost turn costs only time."""

    def __init__(
        self,
        *,
        cache: ObjectCache,
        queue: WorkQueue[Key],
        observer: Observer,
        applier: Applier,
        drainer: Drainer,
        defaults_keeper: DefaultsKeeper,
        status_writer: StatusWriter,
        events: EventRecorder,
        metrics: Metrics,
        defaults: WorkerDefaults,
    ) -> None:
        self._cache = cache
        self._queue = queue
        self._observer = observer
        self._applier = applier
        self._drainer = drainer
        self._defaults_keeper = defaults_keeper
        self._status_writer = status_writer
        self._events = events
        self._metrics = metrics
        self._defaults = defaults
        self._memories: dict[Key, tuple[str, Memory]] = {}
        """By key: the object's uid and what its last turn left."""

    async def reconcile(self, key: Key) -> bool:
        """One turn; answers whether the API server took all of it. Raises KubeError: something could not be asked for
        or written."""
        # First of all: what follows may have to wait for answers.
        if (pause := await self._drainer.flag(key)) is not None:
            self._queue.add_later(key, pause)
        manifest = self._cache.get(Kind.JOB_QUEUE, key)
        if manifest is None or manifest["metadata"].get("deletionTimestamp"):
            await self._defaults_keeper.remove(key)
        if manifest is None:
            self._forget(key)
            return True
        observed = await self._observer.observe(key, manifest)
        if (pause := await self._defaults_keeper.keep(observed)) is not None:
            self._queue.add_later(key, pause)
        memory = self._memory(key, observed.uid)
        plan = planning.make_plan(observed, memory, self._defaults, clock.monotonic_ms())
        outcome, memory = await self._applier.carry_out(observed, plan, memory)
        self._memories[key] = (observed.uid, memory)
        now = datetime.datetime.fromtimestamp(clock.now_ms() // 1000, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        status = statuses.build_status(observed, plan, outcome, now)
        self._emit_events(observed, plan, outcome, status)
        self._status_writer.submit(key, manifest, status)
        self._come_back(key, observed)
        return not (outcome.workload_problem or outcome.scale_problem)

    def _memory(self, key: Key, uid: str) -> Memory:
        known_uid, memory = self._memories.get(key, (uid, Memory()))
        return memory if known_uid == uid else Memory()

    def _forget(self, key: Key) -> None:
        self._memories.pop(key, None)
        self._metrics.views.pop(key, None)
        self._observer.forget(key)
        self._applier.forget(key)
        self._status_writer.forget(key)

    def _come_back(self, key: Key, observed: Observed) -> None:
        """Look again soon at what nobody tells us of."""
        has_secrets = observed.spec is not None and bool(observed.spec.redis.secret_keys)
        if has_secrets and observed.redis.reason in SECRET_REASONS:
            self._queue.add_later(key, (SECRETS_RETRY_MS + 100) / 1000)

    def _emit_events(self, observed: Observed, plan: Plan, outcome: statuses.Outcome, status: Json) -> None:
        """Metrics and events of this turn."""
        key = observed.key
        if observed.spec is None or plan.blocked is not None:
            self._metrics.views.pop(key, None)
        else:
            self._metrics.views[key] = View(
                queue=observed.spec.queue_name,
                signal=observed.signal,
                is_redis_up=not isinstance(observed.signal, Unknown),
                desired=status.get("desiredReplicas", 0),
                current=status["replicas"],
                ready=status["readyReplicas"],
                stuck_schedulers=len(observed.stuck_schedulers),
            )
        if outcome.scaled is not None and plan.decision is not None:
            is_up = outcome.scaled.replicas > outcome.scaled.current
            self._metrics.decisions.labels("up" if is_up else "down", str(plan.decision.reason)).inc()
            reason = EventReason.SCALED_UP if is_up else EventReason.SCALED_DOWN
            note = f"{outcome.scaled.current} → {outcome.scaled.replicas} workers: {plan.decision.message}"
            self._events.emit(Kind.JOB_QUEUE, key, observed.uid, reason, note)
        if outcome.is_concurrency_set and plan.concurrency is not None and plan.concurrency.is_restored:
            found = "no limit" if plan.concurrency.found is None else plan.concurrency.found
            note = f"another client had set the queue's concurrency to {found}; {plan.concurrency.wanted} is back"
            self._events.emit(Kind.JOB_QUEUE, key, observed.uid, EventReason.CONCURRENCY_RESTORED, note)
        before = conditions.find(observed.status.get("conditions") or (), Type.REDIS_REACHABLE).get("status")
        if observed.redis.status is Status.FALSE and before != Status.FALSE:
            self._events.emit(Kind.JOB_QUEUE, key, observed.uid, EventReason.REDIS_UNREACHABLE, observed.redis.message)
        elif observed.redis.status is Status.TRUE and before == Status.FALSE:
            self._events.emit(Kind.JOB_QUEUE, key, observed.uid, EventReason.REDIS_RECOVERED, observed.redis.message)
