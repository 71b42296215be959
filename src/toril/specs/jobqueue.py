"""A JobQueue manifest as a typed spec. Fields and defaults are those of `crds/jobqueues.toril.dev.yaml`.

Manifests come from an API server, which has checked them, or from a file (local mode). So this module also checks the
CEL rules of the CRD.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from toril import errors
from toril.jobs import hints
from toril.jobs.job import check_queue_name
from toril.jobs.outcome import LOCK_MS
from toril.jobs.queue_defaults import QueueDefaults
from toril.scaling.policy import RateLimit, ScalingMode, ScalingPolicy
from toril.specs.fields import Fields, wording

API_VERSION = "toril.dev/v1alpha1"
KIND = "JobQueue"
_REDIS_URL = re.compile(r"rediss?://[^\s?#]+([?]db=[0-9]+)?")
MAX_NAME = 52
"""Longest `metadata.name`, characters."""
MAX_SIZE_LIMIT = 256 * 1024 * 1024
"""Largest `sizeLimit`, bytes: our clients add no larger data anyway."""


class WorkerMode(StrEnum):
    """What runs the workers."""

    MANAGED = "Managed"
    """The operator makes a Deployment."""
    NONE = "None"
    """The operator starts no workers and only observes the queue."""


class PausedLayout(StrEnum):
    """Where jobs of a paused queue wait, by BullMQ's version."""

    V5 = "5"
    """In the list `paused`, for queues that BullMQ 5 and 6 both pause."""
    V6 = "6"
    """In `wait`, unless the queue has signs of a BullMQ 5 client (see `is_kept_apart` in placing.lua)."""


class DeletionPolicy(StrEnum):
    """What happens to the data in Redis when the JobQueue is deleted."""

    RETAIN = "Retain"
    """It stays. The only value in this version, so that no code reads it."""


@dataclass(frozen=True, slots=True)
class SecretKey:
    """One key of a Secret in the JobQueue's namespace."""

    name: str
    key: str
    is_optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSpec:
    """Certificates and names of a connection with TLS."""

    ca_from: SecretKey | None = None
    """The authorities to trust; None = the system's."""
    cert_from: SecretKey | None = None
    """The client's certificate; set together with `key_from`."""
    key_from: SecretKey | None = None
    server_name: str | None = None
    """Name that the server's certificate must carry; None = the host."""

    @property
    def secret_keys(self) -> Mapping[str, SecretKey]:
        """By what they hold: `ca`, `cert`, `key`."""
        given = {"ca": self.ca_from, "cert": self.cert_from, "key": self.key_from}
        return {part: key for part, key in given.items() if key is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisSpec:
    """Where Redis is: exactly one of `url`, `url_from` and `host` is set."""

    url: str | None = None
    """Without credentials."""
    url_from: SecretKey | None = None
    host: str | None = None
    port: int = 6379
    db: int = 0
    has_tls: bool = False
    """Of `host`; a URL has TLS by its scheme `rediss`."""
    tls: TlsSpec = field(default_factory=TlsSpec)
    username_from: SecretKey | None = None
    password_from: SecretKey | None = None

    @property
    def secret_keys(self) -> tuple[SecretKey, ...]:
        """The keys of Secrets that must be read before Redis can be reached."""
        given = (self.url_from, self.username_from, self.password_from, *self.tls.secret_keys.values())
        return tuple(each for each in given if each is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """The workers, and the processor that they run."""

    mode: WorkerMode = WorkerMode.MANAGED
    image: str | None = None
    """None = the installation's worker image."""
    image_pull_policy: str | None = None
    concurrency: int = 1
    """Jobs that one worker runs at the same time."""
    processor: Mapping[str, Any] = field(default_factory=dict)
    """`{"python": {"module": "app.jobs"}}`; empty in mode `None`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """BullMQ's worker options under BullMQ's names."""
    limiter: RateLimit | None = None
    """`options.limiter`."""
    drain_seconds: int = 600
    env: Sequence[Mapping[str, Any]] = ()
    """As in a Pod, like the fields below."""
    env_from: Sequence[Mapping[str, Any]] = ()
    resources: Mapping[str, Any] = field(default_factory=dict)
    service_account_name: str | None = None
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JobQueueSpec:
    """One JobQueue, with every default filled in."""

    namespace: str
    name: str
    queue_name: str
    """The queue's name in BullMQ; the object's own when none is given."""
    prefix: str
    redis: RedisSpec
    worker: WorkerSpec
    scaling: ScalingPolicy
    polling_interval_ms: int
    default_job_options: Mapping[str, Any]
    """In BullMQ's words and units, checked."""
    size_limit_bytes: int | None
    """Largest data of a job, bytes of JSON; None = no limit."""
    global_concurrency: int | None
    """Jobs that may run at a time in the whole queue; None leaves alone what is set in Redis."""
    is_suspended: bool
    paused_layout: PausedLayout
    deletion_policy: DeletionPolicy

    @property
    def queue_defaults(self) -> QueueDefaults:
        """The defaults that are written to Redis, where every client that adds jobs reads them."""
        return QueueDefaults.create(self.default_job_options, size_limit_bytes=self.size_limit_bytes)


def parse_job_queue(manifest: Mapping[str, Any]) -> JobQueueSpec:
    """Read one manifest.

    Raises:
        InvalidSpecError: a field is missing or wrong; `field` is its path.
    """
    root = Fields.of_object(manifest, API_VERSION, KIND)
    metadata, spec = root.object("metadata"), root.object("spec")
    name = metadata.text("name")
    if len(name) > MAX_NAME:
        raise metadata.refuse("name", f"must be at most {MAX_NAME} characters, so that the names of its parts fit")
    worker, is_suspended = _worker(spec.object("worker")), spec.flag("suspend")
    scaling = spec.object("scaling")
    at_a_time = spec.whole("globalConcurrency", 0, 1, 2**31 - 1) if spec.has("globalConcurrency") else None
    policy = _scaling(scaling, worker, spec.whole("replicas", 0, 0, 1000))
    return JobQueueSpec(
        namespace=metadata.text("namespace", "default"),
        name=name,
        queue_name=_queue_name(spec, name),
        prefix=spec.text("prefix", "bull"),
        redis=_redis(spec.object("redis")),
        worker=worker,
        scaling=replace(policy, global_concurrency=at_a_time, is_suspended=is_suspended),
        polling_interval_ms=1000 * scaling.whole("pollingIntervalSeconds", 5, 1, 3600),
        default_job_options=_job_options(spec),
        size_limit_bytes=spec.whole("sizeLimit", 0, 1, MAX_SIZE_LIMIT) if spec.has("sizeLimit") else None,
        global_concurrency=at_a_time,
        is_suspended=is_suspended,
        paused_layout=spec.choice("pausedLayout", PausedLayout.V6),
        deletion_policy=spec.choice("deletionPolicy", DeletionPolicy.RETAIN),
    )


def _queue_name(spec: Fields, name: str) -> str:
    try:
        return check_queue_name(spec.text("queueName", name), spec.at("queueName"))
    except errors.InvalidOptionError as problem:
        raise errors.InvalidSpecError(problem.field, problem.problem) from None


def _redis(redis: Fields) -> RedisSpec:
    given = [name for name in ("url", "urlFrom", "host") if redis.has(name)]
    if len(given) != 1:
        raise errors.InvalidSpecError(redis.path, "exactly one of url, urlFrom and host must be given")
    tls = redis.object("tls")
    if given != ["host"]:
        for parent, name in ((redis, "port"), (redis, "db"), (tls, "enabled")):
            if parent.has(name):
                raise parent.refuse(name, "goes with host; a URL says it itself")
    url = redis.text_or_none("url")
    if url is not None and (hint := hints.of_url(url)):
        raise redis.refuse("url", hint)
    if url is not None and not url.startswith(("redis://", "rediss://")):
        raise redis.refuse("url", "must begin with redis:// or rediss://; Toril speaks Redis only")
    if url is not None and _REDIS_URL.fullmatch(url) is None:
        raise redis.refuse("url", "may hold no parameters but db")
    if url is not None and "@" in url:
        raise redis.refuse("url", "may not hold credentials; use urlFrom, or usernameFrom and passwordFrom")
    return RedisSpec(
        tls=_tls(tls, host=redis.has("host"), url=url),
        url=url,
        url_from=_secret_key(redis, "urlFrom"),
        host=redis.text_or_none("host"),
        port=redis.whole("port", 6379, 1, 65535),
        db=redis.whole("db", 0, 0, 1023),
        has_tls=tls.flag("enabled"),
        username_from=_secret_key(redis, "usernameFrom"),
        password_from=_secret_key(redis, "passwordFrom"),
    )


def _tls(tls: Fields, *, host: bool, url: str | None) -> TlsSpec:
    details = [name for name in ("caFrom", "certFrom", "keyFrom", "serverName") if tls.has(name)]
    if details and host and not tls.flag("enabled"):
        raise tls.refuse(details[0], "needs tls.enabled")
    if details and url is not None and not url.startswith("rediss://"):
        raise tls.refuse(details[0], "needs a URL that begins with rediss://")
    if tls.has("certFrom") != tls.has("keyFrom"):
        raise tls.refuse("certFrom" if tls.has("certFrom") else "keyFrom", "certFrom and keyFrom go together")
    return TlsSpec(
        ca_from=_secret_key(tls, "caFrom"),
        cert_from=_secret_key(tls, "certFrom"),
        key_from=_secret_key(tls, "keyFrom"),
        server_name=tls.text_or_none("serverName"),
    )


def _secret_key(parent: Fields, name: str) -> SecretKey | None:
    if not parent.has(name):
        return None
    reference = parent.object(name).object("secretKeyRef")
    return SecretKey(reference.text("name"), reference.text("key"), reference.flag("optional"))


def _worker(worker: Fields) -> WorkerSpec:
    mode = worker.choice("mode", WorkerMode.MANAGED)
    if mode is WorkerMode.MANAGED and not worker.has("processor"):
        raise worker.refuse("processor", "must say what the workers run, such as processor.python.module")
    processor = worker.object("processor")
    if worker.has("processor"):
        processor.object("python").text("module")
    return WorkerSpec(
        mode=mode,
        image=worker.text_or_none("image"),
        image_pull_policy=worker.text_or_none("imagePullPolicy"),
        concurrency=worker.whole("concurrency", 1, 1, 10_000),
        processor=processor.values,
        options=_worker_options(worker.object("bullmq")),
        limiter=_limiter(worker.object("bullmq")),
        drain_seconds=worker.object("drain").whole("maxSeconds", 600, 0, 604_800),
        env=_env(worker),
        env_from=worker.list("envFrom"),
        resources=worker.mapping("resources"),
        service_account_name=worker.text_or_none("serviceAccountName"),
        node_selector=worker.mapping("nodeSelector"),
        tolerations=worker.list("tolerations"),
    )


def _worker_options(bullmq: Fields) -> Mapping[str, Any]:
    options = {name: value for name, value in bullmq.values.items() if value is not None}
    lock_ms = bullmq.whole("lockDuration", LOCK_MS, 100, 2**31)
    if bullmq.whole("lockRenewTime", 0, 0, 2**31) >= lock_ms:
        raise bullmq.refuse("lockRenewTime", "must be below lockDuration")
    return options


def _limiter(bullmq: Fields) -> RateLimit | None:
    if not bullmq.has("limiter"):
        return None
    limiter = bullmq.object("limiter")
    for name in ("max", "duration"):
        if not limiter.has(name):
            raise limiter.refuse(name, wording("required"))
    return RateLimit(limiter.whole("max", 1, 1, 2**31 - 1), limiter.whole("duration", 1, 1, 2**31 - 1))


def _env(worker: Fields) -> Sequence[Mapping[str, Any]]:
    variables = worker.list("env")
    for index, variable in enumerate(variables):
        entry = Fields.of(variable, f"{worker.at('env')}[{index}]")
        if entry.text("name").startswith("TORIL_"):
            raise entry.refuse("name", "names that begin with TORIL_ are the operator's")
        if variable.get("value") is not None and variable.get("valueFrom") is not None:
            raise entry.refuse("value", "either value or valueFrom")
    return variables


def _scaling(scaling: Fields, worker: WorkerSpec, replicas: int) -> ScalingPolicy:
    minimum = scaling.whole("minReplicas", 0, 0, 1000)
    maximum = scaling.whole("maxReplicas", 10, 1, 1000)
    if minimum > maximum:
        raise scaling.refuse("minReplicas", "minReplicas must not exceed maxReplicas")
    behavior = scaling.object("behavior")
    up, down = behavior.object("scaleUp"), behavior.object("scaleDown")
    return ScalingPolicy(
        mode=scaling.choice("mode", ScalingMode.AUTO),
        manual_replicas=replicas,
        min_replicas=minimum,
        max_replicas=maximum,
        jobs_per_replica=worker.concurrency,
        cooldown_ms=1000 * scaling.whole("cooldownSeconds", 60, 0, 86_400),
        up_window_ms=1000 * up.whole("stabilizationWindowSeconds", 0, 0, 3600),
        down_window_ms=1000 * down.whole("stabilizationWindowSeconds", 30, 0, 3600),
        limiter=worker.limiter,
    )


def _job_options(spec: Fields) -> Mapping[str, Any]:
    """`spec.defaultJobOptions`, checked as a job's own options are, since every client that adds jobs uses them."""
    options = spec.mapping("defaultJobOptions")
    try:
        QueueDefaults.create(options, path=spec.at("defaultJobOptions"))
    except errors.InvalidOptionError as problem:
        raise errors.InvalidSpecError(problem.field, problem.problem) from None
    return options
