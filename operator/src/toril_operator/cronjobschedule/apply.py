"""Carries out a plan: the object's finalizer, and the job scheduler's record in Redis."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from toril import errors, kube
from toril.engine.keys import QueueKeys
from toril.engine.producer import Producer
from toril.engine.redis.connection import AsyncConnection
from toril.engine.redis.settings import RedisSettings
from toril.engine.schedulers import JobSchedulers
from toril.engine.scripts import Layout
from toril.errors import RedisReason
from toril_operator import labels
from toril_operator.cronjobschedule.plan import Observed, Plan
from toril_operator.cronjobschedule.status import Outcome
from toril_operator.object_cache import Key, Kind, ObjectCache, Seen, key_of, queue_of
from toril_operator.polling import endpoints
from toril_operator.polling.poller import CALL_SECONDS, CLIENT_NAME, MAX_REPLY_BYTES
from toril_operator.polling.pollers import Pollers
from toril_operator.polling.targets import Target

Json = Mapping[str, Any]

CATCH_UP_MS = 60_000
"""Slots that were missed for no longer get their jobs one by one, such as while the operator was started anew. Of those
before, the one that was armed runs, late."""
TURN_SECONDS = 10.0
"""Longest time for everything that one turn does in Redis."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a schedule's record is."""

    settings: RedisSettings
    keys: QueueKeys


class Applier:
    """Every write about a CronJobSchedule but its status and events. The caller has asked whether we lead."""

    def __init__(self, client: kube.KubeClient, cache: ObjectCache, pollers: Pollers, *, allow_special: bool) -> None:
        self._client = client
        self._cache = cache
        self._pollers = pollers
        self._allow_special = allow_special
        self._places: dict[Key, _Place] = {}
        """Remembered for the end: the JobQueue may go first."""

    async def carry_out(self, observed: Observed, plan: Plan, manifest: Json) -> Outcome:
        """Do it, and answer what became of it.

        Raises:
            KubeError: the finalizer could not be written; nothing was done in Redis.
        """
        if observed.deleted_for_ms is not None:
            return await self._end(observed, plan, manifest)
        if plan.protect:
            others = manifest["metadata"].get("finalizers") or ()
            await self._set_finalizers(manifest, [*others, labels.FINALIZER])
        target = self._pollers.target(queue_of(manifest))
        if observed.spec is None or target is None or observed.now_ms == 0:
            return Outcome(has_run=False)
        self._places[observed.key] = _Place(target.settings, target.keys)
        if not (plan.remove or plan.upsert or plan.advance or plan.run):
            return Outcome(record=observed.record)
        has_run = False
        try:
            async with asyncio.timeout(TURN_SECONDS):
                schedulers = await self._write(observed, plan, target, queue_of(manifest))
                has_run = True
                record, _ = await schedulers.look(observed.spec.scheduler_id)
        except errors.RedisError as problem:
            logger.warning("CronJobSchedule %s: not written: %s", observed.key, problem.reason)
            return Outcome(problem=endpoints.explain(problem.reason, target.settings), has_run=has_run)
        except TimeoutError:
            return Outcome(problem=endpoints.explain(RedisReason.TIMEOUT, target.settings), has_run=has_run)
        except (errors.JobStateError, errors.InvalidInputError) as problem:
            # The next slots have jobs already, or the end has come just now.
            return Outcome(problem=str(problem), has_run=False)
        return Outcome(record=record)

    def forget(self, key: Key) -> None:
        self._places.pop(key, None)

    async def _write(self, observed: Observed, plan: Plan, target: Target, queue_key: Key) -> JobSchedulers:
        """Write to Redis; answers what the outcome can be read by."""
        assert observed.spec is not None
        assert observed.queue is not None
        scheduler_id = observed.spec.scheduler_id
        layout: Layout = observed.queue.paused_layout.value
        connection = await self._pollers.connection(queue_key)
        schedulers = JobSchedulers(connection, target.keys, layout=layout)
        if plan.remove:
            await schedulers.remove(scheduler_id)
            logger.info("CronJobSchedule %s: scheduler %s removed", observed.key, scheduler_id)
        if plan.upsert is not None:
            wanted = plan.upsert.scheduler
            await schedulers.upsert(
                scheduler_id, wanted.schedule, wanted.template, first_ms=plan.upsert.first_ms, made=plan.upsert.made
            )
            logger.info("CronJobSchedule %s: scheduler %s written", observed.key, scheduler_id)
        if plan.run is not None:
            await Producer(connection, target.keys, layout=layout).add([plan.run])
            logger.info("CronJobSchedule %s: run by runOnCreate added", observed.key)
        if plan.advance:
            await schedulers.advance_one(scheduler_id, catch_up_ms=CATCH_UP_MS)
        return schedulers

    async def _end(self, observed: Observed, plan: Plan, manifest: Json) -> Outcome:
        """Remove the record of a deleted object and let the object go; or say why it stays."""
        problem = ""
        if plan.remove:
            assert observed.spec is not None
            problem = await self._remove(observed, observed.spec.scheduler_id, queue_of(manifest))
        if not observed.has_finalizer or (problem and not plan.release):
            return Outcome(problem=problem)
        others = [each for each in manifest["metadata"].get("finalizers") or () if each != labels.FINALIZER]
        await self._set_finalizers(manifest, others)
        return Outcome(problem=problem, is_released=True)

    async def _remove(self, observed: Observed, scheduler_id: str, queue_key: Key) -> str:
        """Remove the record over a connection of its own, since the JobQueue may be gone; answers why not."""
        target = self._pollers.target(queue_key)
        place = self._places.get(observed.key) if target is None else _Place(target.settings, target.keys)
        if place is None:
            return f"it is not known where the Redis of JobQueue {queue_key.name} is"
        connection: AsyncConnection | None = None
        try:
            async with asyncio.timeout(TURN_SECONDS):
                settings = await endpoints.resolve(place.settings, allow_special=self._allow_special)
                connection = AsyncConnection(
                    settings, client_name=CLIENT_NAME, timeout_seconds=CALL_SECONDS, max_reply_bytes=MAX_REPLY_BYTES
                )
                await JobSchedulers(connection, place.keys).remove(scheduler_id)
        except errors.RedisError as problem:
            return endpoints.explain(problem.reason, place.settings)
        except TimeoutError:
            return endpoints.explain(RedisReason.TIMEOUT, place.settings)
        finally:
            if connection is not None:
                await connection.close()
        logger.info("CronJobSchedule %s: scheduler %s removed", observed.key, scheduler_id)
        return ""

    async def _set_finalizers(self, manifest: Json, finalizers: Sequence[str]) -> None:
        answer = await self._client.set_finalizers(kube.CRON_JOB_SCHEDULES, manifest, finalizers)
        key = key_of(manifest)
        if answer["metadata"].get("deletionTimestamp") and not answer["metadata"].get("finalizers"):
            self._cache.forget(Kind.CRON_JOB_SCHEDULE, key)
        else:
            self._cache.record(Seen(Kind.CRON_JOB_SCHEDULE, key, answer))
