"""What a worker is told, from its environment. Errors name the variable, never its value if it may be secret."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from toril import errors
from toril.engine.redis.settings import RedisSettings, paused_layout_from
from toril.engine.scripts import MAX_JOB_BYTES, Layout, Limiter
from toril.jobs.job import check_queue_name
from toril.jobs.outcome import LOCK_MS, STALLED_INTERVAL_MS
from toril.jobs.retention import KeepPolicy

MAX_CONCURRENCY = 10_000
CONTAINER_VARIABLES = ("TORIL_POD_UID", "TORIL_CONTAINER")
"""What the operator tells its worker containers, and nobody else is to."""
MAX_METRICS_MINUTES = 100_000
"""Ten weeks; each is an entry of a list in Redis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """Settings of one worker process; each with BullMQ's default where BullMQ has one."""

    queue: str
    processor: Mapping[str, Any]
    """Where the user's code is, exactly one of several: `{"python": {"module": "app.jobs"}}`."""
    redis: RedisSettings = field(default_factory=RedisSettings)
    prefix: str = "bull"
    name: str = ""
    """The worker's BullMQ name, stored on its jobs as `pb`: the pod's name, else `<host>-<pid>`."""
    container: str = ""
    """`<uid of the pod>/<name of the container>`: a process that starts in it takes back the jobs of the one before it,
    which is dead. Empty = not known."""
    concurrency: int = 1
    """Jobs at the same time."""
    max_job_bytes: int = MAX_JOB_BYTES
    """A job whose fields are larger together is failed, and its large fields are not read."""
    drain_seconds: float = 600.0
    """How long running jobs may go on after the worker was told to stop."""
    http_port: int = 8080
    """For `/livez`, `/readyz` and `/metrics`; 0 = none."""
    lock_ms: int = LOCK_MS
    """How long a job stays ours without a sign of life."""
    lock_renew_ms: int = 15_000
    """How often locks are renewed. Half of `lock_ms`, so that one missed renewal is no harm."""
    stalled_interval_ms: int = STALLED_INTERVAL_MS
    """How often jobs of vanished workers are looked for."""
    max_stalled_count: int = 1
    """How often a job may lose its worker before it fails."""
    max_started_attempts: int | None = None
    """How often a job may be started, stalls and give-backs included, before it fails; None = no limit."""
    idle_poll_seconds: float = 5.0
    """An idle worker looks at least so often (BullMQ's `drainDelay`), should a wake-up have been lost."""
    max_rate_limit_wait_ms: int = 30_000
    """A rate-limited worker looks at least so often, since looking also promotes delayed jobs."""
    limiter: Limiter | None = None
    layout: Layout = "6"
    """Where jobs of a paused queue wait: `5` where BullMQ 5 and 6 both pause it, else `6`."""
    metrics_minutes: int = 0
    """How many minutes of BullMQ's metrics (jobs per minute, in Redis) are kept; 0 = none are written."""
    keep_completed: KeepPolicy | None = None
    """Retention of jobs that do not say themselves; None = as the queue's defaults say, else all are kept."""
    keep_failed: KeepPolicy | None = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], *, redis_url: str | None = None) -> WorkerSettings:
        """Read the environment that the operator and local mode give a worker.

        Args:
            redis_url: what the flag `--redis` gives, which goes before all variables.

        Raises:
            SettingsError: a variable is missing or wrong; names it.
        """
        _refuse_isolation(environ.get("TORIL_ISOLATION") or "None")
        return cls(
            queue=_queue_name(environ),
            processor=_processor(environ),
            redis=RedisSettings.from_environment(environ, url=redis_url, field="--redis"),
            prefix=environ.get("TORIL_PREFIX") or "bull",
            name=_name(environ),
            container=_container(environ),
            concurrency=_whole(environ, "TORIL_CONCURRENCY", 1, 1, MAX_CONCURRENCY),
            max_job_bytes=_whole(environ, "TORIL_MAX_JOB_BYTES", MAX_JOB_BYTES, 1, 2**31),
            drain_seconds=_whole(environ, "TORIL_DRAIN_SECONDS", 600, 0, 2**31),
            http_port=_whole(environ, "TORIL_HTTP_PORT", 8080, 0, 65535),
            layout=paused_layout_from(environ),
            **_worker_options(_json_object(environ, "TORIL_WORKER_OPTIONS")),
        )


def default_name() -> str:
    """`<host>-<pid>`, for a worker that is nobody's pod."""
    return f"{socket.gethostname()}-{os.getpid()}"


def _name(environ: Mapping[str, str]) -> str:
    name = environ.get("TORIL_POD_NAME") or default_name()
    if not name.isprintable() or " " in name or ":" in name:
        raise errors.SettingsError("TORIL_POD_NAME may not hold spaces, colons or control characters")
    return name


def _container(environ: Mapping[str, str]) -> str:
    uid, container = (environ.get(variable) for variable in CONTAINER_VARIABLES)
    return f"{uid}/{container}" if uid and container else ""


def _queue_name(environ: Mapping[str, str]) -> str:
    name = environ.get("TORIL_QUEUE")
    if not name:
        raise errors.SettingsError("TORIL_QUEUE is missing: the name of the queue to work on")
    try:
        return check_queue_name(name, "TORIL_QUEUE")
    except errors.InvalidOptionError as problem:
        raise errors.SettingsError(str(problem)) from None


def _processor(environ: Mapping[str, str]) -> Mapping[str, Any]:
    if not environ.get("TORIL_PROCESSOR"):
        raise errors.SettingsError('TORIL_PROCESSOR is missing: JSON such as {"python": {"module": "app.jobs"}}')
    return _json_object(environ, "TORIL_PROCESSOR")


def _refuse_isolation(isolation: str) -> None:
    if isolation.lower() != "none":
        raise errors.SettingsError(f"TORIL_ISOLATION is {isolation!r}; this version knows only None")


def _json_object(environ: Mapping[str, str], name: str) -> dict[str, Any]:
    try:
        value = json.loads(environ.get(name) or "{}")
    except ValueError as problem:
        raise errors.SettingsError(f"{name} is not JSON: {problem}") from None
    except RecursionError:
        raise errors.SettingsError(f"{name} nests too deeply") from None
    if not isinstance(value, dict):
        raise errors.SettingsError(f"{name} must be a JSON object")
    return value


def _whole(environ: Mapping[str, str], name: str, default: int, lowest: int, highest: int) -> int:
    text = environ.get(name)
    if not text:
        return default
    if re.fullmatch(r"[+-]?[0-9]{1,18}", text.strip()) is None:
        raise errors.SettingsError(f"{name} must be a whole number")
    return _in_range(int(text), name, lowest, highest)


def _in_range(value: Any, name: str, lowest: int, highest: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value % 1 != 0:
        raise errors.SettingsError(f"{name} must be a whole number")
    if not lowest <= value <= highest:
        raise errors.SettingsError(f"{name} must be between {lowest} and {highest}")
    return int(value)


_NUMBERS = {
    # BullMQ's name: (ours, lowest, highest)
    "lockDuration": ("lock_ms", 100, 2**31),
    "lockRenewTime": ("lock_renew_ms", 10, 2**31),
    "stalledInterval": ("stalled_interval_ms", 100, 2**31),
    "maxStalledCount": ("max_stalled_count", 0, 2**31),
    "maxStartedAttempts": ("max_started_attempts", 1, 2**31),
    "maximumRateLimitDelay": ("max_rate_limit_wait_ms", 1, 2**31),
}


def _worker_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Translate BullMQ's worker options. Raises SettingsError for unknown names: a typo must not pass unseen."""
    found: dict[str, Any] = _retention(options, "TORIL_WORKER_OPTIONS")
    for name, value in options.items():
        path = f"TORIL_WORKER_OPTIONS: {name}"
        if value is None or name in ("removeOnComplete", "removeOnFail"):
            continue
        if name in _NUMBERS:
            ours, lowest, highest = _NUMBERS[name]
            found[ours] = _in_range(value, path, lowest, highest)
        elif name == "drainDelay":
            found["idle_poll_seconds"] = _seconds(value, path)
        elif name == "limiter":
            found["limiter"] = _limiter(value, path)
        elif name == "metrics":
            found["metrics_minutes"] = _metrics(value, path)
        else:
            known = ", ".join(
                sorted([*_NUMBERS, "drainDelay", "limiter", "metrics", "removeOnComplete", "removeOnFail"])
            )
            raise errors.SettingsError(f"{path} is unknown; known are {known}")
    lock_ms = found.get("lock_ms", LOCK_MS)
    if found.setdefault("lock_renew_ms", lock_ms // 2) >= lock_ms:
        raise errors.SettingsError("TORIL_WORKER_OPTIONS: lockRenewTime must be below lockDuration")
    return found


def _retention(options: Mapping[str, Any], variable: str) -> dict[str, Any]:
    found = {}
    for name, ours in (("removeOnComplete", "keep_completed"), ("removeOnFail", "keep_failed")):
        try:
            policy = KeepPolicy.parse(options.get(name), f"{variable}: {name}")
        except errors.InvalidOptionError as problem:
            raise errors.SettingsError(str(problem)) from None
        if policy is not None:
            found[ours] = policy
    return found


def _seconds(value: Any, path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.01 <= value <= 3600:
        raise errors.SettingsError(f"{path} must be seconds, 0.01 to 3600")
    return float(value)


def _limiter(value: Any, path: str) -> Limiter:
    if not isinstance(value, dict) or set(value) != {"max", "duration"}:
        raise errors.SettingsError(f"{path} must be {{max, duration}}: jobs and milliseconds")
    return Limiter(
        max=_in_range(value["max"], f"{path}.max", 1, 2**31),
        duration_ms=_in_range(value["duration"], f"{path}.duration", 1, 2**31),
    )


def _metrics(value: Any, path: str) -> int:
    if not isinstance(value, dict) or set(value) != {"maxDataPoints"}:
        raise errors.SettingsError(f"{path} must be {{maxDataPoints}}: minutes")
    return _in_range(value["maxDataPoints"], f"{path}.maxDataPoints", 1, MAX_METRICS_MINUTES)
