"""The environment of a worker process: this terminal's, with the variables that the operator would set."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from toril.engine.redis.settings import RedisSettings
from toril.engine.redis.tls import TLS_FILES
from toril.specs import worker_environment
from toril.specs.jobqueue import JobQueueSpec

_REFERENCE = re.compile(r"\$(?:\$|\(([^)]*)\))")


def build_environment(
    spec: JobQueueSpec, redis_url: str, folders: Sequence[Path], environ: Mapping[str, str]
) -> dict[str, str]:
    """Everything but the worker's name.

    Args:
        folders: where the workers find modules first (the manifests' own folders); then in the current one.
        environ: this process's. Its `TORIL_…` variables are left out, since they belong to another worker, except those
            of the TLS files for `redis_url`.
    """
    inherited = {name: value for name, value in environ.items() if not name.startswith("TORIL_")}
    given = worker_environment.build_worker_environment(spec)
    search = [*map(str, folders), str(Path.cwd()), *filter(None, [environ.get("PYTHONPATH")])]
    return {
        **inherited,
        **_expanded(spec.worker.env, given),
        **given,
        "TORIL_REDIS_URL": redis_url,
        **_tls_files(redis_url, environ),
        # Probes and metrics are for clusters; here many workers share one machine's ports.
        "TORIL_HTTP_PORT": "0",
        "TORIL_LOG_FORMAT": "text",
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(search)),
        "PYTHONUNBUFFERED": "1",
    }


def _expanded(variables: Sequence[Mapping[str, object]], given: Mapping[str, str]) -> dict[str, str]:
    """The manifest's own variables. `$(NAME)` is replaced by earlier variables and the operator's, as a kubelet
    does."""
    known, own = dict(given), {}
    for variable in variables:
        if _is_plain(variable):
            name = str(variable["name"])
            known[name] = own[name] = expand(str(variable.get("value") or ""), known)
    return own


def expand(text: str, known: Mapping[str, str]) -> str:
    """Replace `$(NAME)` by the variable's value, if there is one, and `$$` by `$`."""
    return _REFERENCE.sub(lambda found: "$" if found[1] is None else known.get(found[1], found[0]), text)


def ignored_fields(spec: JobQueueSpec) -> Iterator[str]:
    """Fields of a manifest that local mode ignores and that workers in a cluster would notice."""
    worker = spec.worker
    yield from (f"worker.env {variable['name']}" for variable in worker.env if not _is_plain(variable))
    if worker.env_from:
        yield "worker.envFrom"


def _tls_files(redis_url: str, environ: Mapping[str, str]) -> dict[str, str]:
    if RedisSettings.from_url(redis_url).tls is None:
        return {}
    return {name: environ[name] for name in TLS_FILES.values() if environ.get(name)}


def _is_plain(variable: Mapping[str, object]) -> bool:
    return variable.get("valueFrom") is None
