"""Carries out a plan: the Deployment, its replicas, the queue's pause, and chores that no worker does."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from toril import clock, errors, kube
from toril.engine.keys import QueueKeys
from toril.engine.limits import LimitedQueue
from toril.engine.maintenance import promote_due, recover_stalled
from toril.engine.producer import Producer
from toril.specs.jobqueue import JobQueueSpec
from toril_operator import labels
from toril_operator.conditions import Reason
from toril_operator.jobqueue import plan as planning
from toril_operator.jobqueue.plan import Memory, Observed, Plan, Scale
from toril_operator.jobqueue.status import Outcome
from toril_operator.object_cache import Key, Kind, ObjectCache, Seen, key_of
from toril_operator.polling.pollers import Pollers

Json = Mapping[str, Any]

STALLED_INTERVAL_MS = 30_000
"""BullMQ's own default."""
SETTLE_MS = 5000
"""Jobs must have been without workers for so long: when Redis was away, live workers take their locks back first."""

logger = logging.getLogger(__name__)


class Applier:
    """Every write about a JobQueue but its status and events. The caller has asked whether we lead."""

    def __init__(self, client: kube.KubeClient, cache: ObjectCache, pollers: Pollers) -> None:
        self._client = client
        self._cache = cache
        self._pollers = pollers
        self._recovered_ms: dict[Key, int] = {}
        self._unattended_since_ms: dict[Key, int] = {}

    async def carry_out(self, observed: Observed, plan: Plan, memory: Memory) -> tuple[Outcome, Memory]:
        """Do it, and answer what became of it. What Kubernetes refuses is part of the outcome.

        Raises:
            KubeUnavailableError, KubeConflictError: begin anew, with a new look.
        """
        memory = replace(memory, history=plan.history)
        outcome = Outcome(deployment=observed.deployment)
        if plan.delete is not None:
            await self._delete(plan.delete)
            outcome = replace(outcome, deployment=None)
            memory = Memory()
        outcome, memory = await self._scale(observed, plan.scale_first, outcome, memory)
        if plan.manifest is not None:
            try:
                answer = await self._client.apply(kube.DEPLOYMENTS, plan.manifest, manager=labels.MANAGER, force=True)
            except errors.KubeInvalidError as problem:
                # The pod's parts are checked by the server alone; what it refuses is the JobQueue's author's to mend.
                reason = Reason.INVALID_SPEC
                return replace(outcome, workload_problem=str(problem), workload_reason=reason), memory
            except (errors.KubeForbiddenError, errors.KubeNotFoundError) as problem:
                return replace(outcome, workload_problem=str(problem)), memory
            outcome = replace(outcome, deployment=self._note(answer))
            memory = replace(memory, applied=planning.remember_applied(plan.manifest, answer))
        outcome, memory = await self._scale(observed, plan.scale, outcome, memory)
        if observed.spec is not None:
            outcome = await self._care_for_queue(observed.key, observed.spec, plan, outcome)
        if outcome.is_concurrency_set:
            memory = replace(memory, concurrency_set_ms=clock.monotonic_ms())
        return outcome, memory

    def forget(self, key: Key) -> None:
        self._recovered_ms.pop(key, None)
        self._unattended_since_ms.pop(key, None)

    async def _scale(
        self, observed: Observed, scale: Scale | None, outcome: Outcome, memory: Memory
    ) -> tuple[Outcome, Memory]:
        if scale is None:
            return outcome, memory
        assert outcome.deployment is not None
        key = key_of(outcome.deployment)
        try:
            await self._client.scale(
                key.namespace, key.name, scale.replicas, manager=labels.SCALER_MANAGER,
                resource_version=scale.resource_version,
            )  # fmt: skip
        except errors.KubeConflictError:
            await self._read_again(key)
            raise
        except errors.KubeNotFoundError:
            self._cache.forget(Kind.DEPLOYMENT, key)
            raise
        except (errors.KubeInvalidError, errors.KubeForbiddenError) as problem:
            return replace(outcome, scale_problem=str(problem)), memory
        if scale.replicas != scale.current:
            logger.info("%s: %d workers → %d", observed.key, scale.current, scale.replicas)
            outcome = replace(outcome, scaled=scale)
        deployment = await self._read_again(key)
        return replace(outcome, deployment=deployment), replace(memory, replicas=scale.replicas)

    async def _delete(self, deployment: Json) -> None:
        key = key_of(deployment)
        await self._client.delete(kube.DEPLOYMENTS, *key, uid=deployment["metadata"]["uid"])
        self._cache.forget(Kind.DEPLOYMENT, key)

    async def _read_again(self, key: Key) -> Json | None:
        """The Deployment as it is after a write, so that the next look does not see it as it was before."""
        found = await self._client.get_or_none(kube.DEPLOYMENTS, key.namespace, key.name)
        if found is None:
            self._cache.forget(Kind.DEPLOYMENT, key)
            return None
        return self._note(found)

    def _note(self, deployment: Json) -> Json:
        self._cache.record(Seen(Kind.DEPLOYMENT, key_of(deployment), deployment))
        return deployment

    async def _care_for_queue(self, key: Key, spec: JobQueueSpec, plan: Plan, outcome: Outcome) -> Outcome:
        """What is written to Redis. A failure is told by the next reading, which also leads here again."""
        interval_ms = int(spec.worker.options.get("stalledInterval") or STALLED_INTERVAL_MS)
        is_due = self._is_recovery_due(key, plan, interval_ms)
        if plan.pause is None and plan.concurrency is None and not is_due and not plan.promote:
            return outcome
        keys = QueueKeys(spec.queue_name, spec.prefix)
        try:
            connection = await self._pollers.connection(key)
            if plan.pause is not None:
                producer = Producer(connection, keys, layout=spec.paused_layout.value)
                await (producer.pause() if plan.pause else producer.resume())
                logger.info("%s: queue %s", key, "paused" if plan.pause else "resumed")
                self._pollers.wake(key)
            if plan.concurrency is not None:
                limits = LimitedQueue(connection, keys, layout=spec.paused_layout.value)
                await limits.set(concurrency=plan.concurrency.wanted)
                logger.info("%s: concurrency %s → %s", key, plan.concurrency.found, plan.concurrency.wanted)
                outcome = replace(outcome, is_concurrency_set=True)
            if plan.promote:
                await promote_due.run_once(connection, keys, layout=spec.paused_layout.value)
            if is_due:
                self._recovered_ms[key] = clock.monotonic_ms()
                most = spec.worker.options.get("maxStalledCount")
                await recover_stalled.run_once(
                    connection,
                    keys,
                    interval_ms=interval_ms,
                    max_stalled_count=1 if most is None else int(most),
                    layout=spec.paused_layout.value,
                )
        except errors.RedisError as problem:
            logger.warning("%s: the queue could not be written: %s", key, problem.reason)
        return outcome

    def _is_recovery_due(self, key: Key, plan: Plan, interval_ms: int) -> bool:
        if not plan.recover_stalled:
            self._unattended_since_ms.pop(key, None)
            return False
        now_ms = clock.monotonic_ms()
        if now_ms - self._unattended_since_ms.setdefault(key, now_ms) < SETTLE_MS:
            return False
        last_ms = self._recovered_ms.get(key)
        return last_ms is None or now_ms - last_ms >= interval_ms
