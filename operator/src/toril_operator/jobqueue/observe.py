"""Looks at everything that a JobQueue's plan depends on: its spec, its Deployment and pods, its Redis."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from toril import clock, errors, kube
from toril.engine.redis.settings import RedisSettings
from toril.scaling.policy import Unknown
from toril.specs import jobqueue as specs
from toril_operator import labels
from toril_operator.conditions import Condition, Reason, Status, Type
from toril_operator.jobqueue import redis_access
from toril_operator.jobqueue.plan import Observed
from toril_operator.object_cache import Key, Kind, ObjectCache, age_of
from toril_operator.polling.pollers import Pollers
from toril_operator.polling.targets import Target
from toril_operator.spec_cache import SpecCache
from toril_operator.status_writer import StatusWriter

Json = Mapping[str, Any]
Identity = tuple[str, int, int, str, str]
"""Host, port, database, prefix and queue: two JobQueues may not have the same."""

SECRETS_MS = 300_000
"""Secrets are read anew after so long …"""
SECRETS_RETRY_MS = 5_000
"""… and after so long when they were missing or Redis did not accept them."""


@dataclass(frozen=True, slots=True)
class _Access:
    """How a queue's Redis is reached, or why not."""

    generation: int
    read_ms: int
    settings: RedisSettings | None
    problem: Condition | None = None


class Observer:
    """Keeps what is costly to ask for: secrets, for minutes."""

    def __init__(
        self,
        client: kube.KubeClient,
        cache: ObjectCache,
        pollers: Pollers,
        status_writer: StatusWriter,
        concern: Callable[[Key], None],
        is_needed: Callable[[Key], bool],
    ) -> None:
        """Args:
        concern: called with JobQueues that must be looked at because of another one.
        is_needed: says whether a queue is to be read on, though its JobQueue does not ask for it.
        """
        self._client = client
        self._cache = cache
        self._pollers = pollers
        self._status_writer = status_writer
        self._concern = concern
        self._is_needed = is_needed
        self._parsed = SpecCache(specs.parse_job_queue)
        self._access: dict[Key, _Access] = {}
        self._identities: dict[Key, Identity] = {}

    async def observe(self, key: Key, manifest: Json) -> Observed:
        """Look at one JobQueue, and have its queue read from now on.

        Raises:
            KubeError: something could not be asked for.
        """
        metadata = manifest["metadata"]
        parsed = self._parsed.get(key, manifest)
        is_terminating = metadata.get("deletionTimestamp") is not None
        observed = Observed(
            key=key,
            uid=metadata["uid"],
            generation=metadata["generation"],
            is_terminating=is_terminating,
            spec=parsed.spec,
            spec_problem=parsed.problem,
            redis=_redis(Status.UNKNOWN, Reason.PENDING, "the queue has not been read yet"),
            status=self._status_writer.latest(key, manifest),
        )
        if parsed.spec is None or is_terminating:
            self._unclaim(key)
            return observed
        observed = await self._with_redis(observed, parsed.spec, manifest)
        return await self._with_deployment(observed, parsed.spec)

    def forget(self, key: Key) -> None:
        """The JobQueue is gone."""
        self._unclaim(key)
        self._parsed.forget(key)
        self._access.pop(key, None)

    async def _with_redis(self, observed: Observed, spec: specs.JobQueueSpec, manifest: Json) -> Observed:
        key = observed.key
        access = await self._read_access(observed, spec)
        if access.settings is None:
            assert access.problem is not None
            self._unclaim(key)
            return replace(observed, redis=access.problem, signal=Unknown(access.problem.message))
        self._claim(key, _identity(access.settings, spec))
        if (older := self._older_claimant(key, manifest)) is not None:
            self._end_reading(key)
            message = f"the queue is read for JobQueue {older.name}"
            return replace(
                observed,
                duplicate_of=str(older) if older.namespace != key.namespace else older.name,
                redis=_redis(Status.UNKNOWN, Reason.PENDING, message),
                signal=Unknown(message),
            )
        target = Target(access.settings, spec.queue_name, spec.prefix, spec.polling_interval_ms)
        self._pollers.set_target(key, target)
        snapshot = self._pollers.snapshot(key)
        if snapshot is None:
            return observed
        if snapshot.reason is not None:
            assert isinstance(snapshot.signal, Unknown)
            condition = Condition(Type.REDIS_REACHABLE, Status.FALSE, snapshot.reason, snapshot.signal.why)
            return replace(observed, redis=condition, signal=snapshot.signal)
        age_ms = clock.monotonic_ms() - snapshot.taken_ms
        connected = _redis(Status.TRUE, Reason.CONNECTED, f"Redis {access.settings.endpoint} answers")
        if age_ms > 3 * spec.polling_interval_ms + 2000:
            return replace(observed, redis=connected, signal=Unknown(f"the last reading is {age_ms // 1000} s old"))
        return replace(
            observed,
            redis=connected,
            signal=snapshot.signal,
            signal_ms=snapshot.taken_ms,
            stuck_schedulers=snapshot.stuck_schedulers,
        )

    async def _with_deployment(self, observed: Observed, spec: specs.JobQueueSpec) -> Observed:
        key = Key(observed.key.namespace, labels.part_name(spec.name))
        found: Json | None = self._cache.get(Kind.DEPLOYMENT, key)
        is_wanted = spec.worker.mode is specs.WorkerMode.MANAGED and observed.duplicate_of is None
        if found is None and is_wanted:
            # Only ours are watched: somebody else's may be there.
            found = await self._client.get_or_none(kube.DEPLOYMENTS, key.namespace, key.name)
        pods = self._unready_pods(observed.key, found) if found is not None else []
        return replace(observed, deployment=found, pods=pods)

    def _unready_pods(self, key: Key, deployment: Json) -> list[Json]:
        """The pods, while some are not ready; else none."""
        wanted = int(deployment["spec"].get("replicas") or 0)
        ready = int((deployment.get("status") or {}).get("readyReplicas") or 0)
        return self._cache.pods_of(key) if ready < wanted else []

    async def _read_access(self, observed: Observed, spec: specs.JobQueueSpec) -> _Access:
        now_ms = clock.monotonic_ms()
        known = self._access.get(observed.key)
        if known is not None and known.generation == observed.generation:
            snapshot = self._pollers.snapshot(observed.key)
            is_refused = snapshot is not None and snapshot.reason is errors.RedisReason.AUTH_FAILED
            limit_ms = SECRETS_RETRY_MS if known.settings is None or is_refused else SECRETS_MS
            if not spec.redis.secret_keys and known.settings is not None:
                return known
            if now_ms - known.read_ms < limit_ms:
                return known
        try:
            settings = await redis_access.read_settings(self._client, spec)
        except redis_access.SecretError as problem:
            condition = _redis(Status.FALSE, problem.reason, str(problem))
            access = _Access(observed.generation, now_ms, None, condition)
        except errors.KubeUnavailableError:
            if known is None or known.generation != observed.generation:
                raise
            return known
        else:
            access = _Access(observed.generation, now_ms, settings)
        self._access[observed.key] = access
        return access

    def _claim(self, key: Key, identity: Identity) -> None:
        if self._identities.get(key) == identity:
            return
        self._drop_claim(key)
        self._identities[key] = identity
        self._concern_claimants(key, identity)

    def _drop_claim(self, key: Key) -> None:
        if (identity := self._identities.pop(key, None)) is not None:
            self._concern_claimants(key, identity)

    def _concern_claimants(self, key: Key, identity: Identity) -> None:
        for other, claimed in self._identities.items():
            if other != key and claimed == identity:
                self._concern(other)

    def _older_claimant(self, key: Key, manifest: Json) -> Key | None:
        """The oldest JobQueue on the same queue, if that is not this one."""
        identity = self._identities[key]
        claims = [(age_of(manifest), key)]
        for other, claimed in self._identities.items():
            rival = self._cache.get(Kind.JOB_QUEUE, other)
            if other != key and claimed == identity and rival is not None:
                claims.append((age_of(rival), other))
        oldest = min(claims)[1]
        return None if oldest == key else oldest

    def _unclaim(self, key: Key) -> None:
        self._end_reading(key)
        self._drop_claim(key)

    def _end_reading(self, key: Key) -> None:
        """Read the queue no more, unless its Redis must stay known."""
        if not self._is_needed(key):
            self._pollers.set_target(key, None)


def _redis(status: Status, reason: Reason, message: str) -> Condition:
    return Condition(Type.REDIS_REACHABLE, status, reason, message)


def _identity(settings: RedisSettings, spec: specs.JobQueueSpec) -> Identity:
    host = settings.unix_socket or settings.host.lower()
    return host, settings.port, settings.db, spec.prefix, spec.queue_name
