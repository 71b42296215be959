"""The Deployment that a JobQueue should have. Pure."""

from __future__ import annotations

from typing import Any

from toril.specs.jobqueue import JobQueueSpec, SecretKey, TlsSpec
from toril.specs.worker_environment import build_worker_environment
from toril_operator import labels

HTTP_PORT = 8080
GRACE_BEYOND_DRAIN_SECONDS = 15
"""What a pod has on top of `drain.maxSeconds` to give unfinished jobs back and end."""
CONTAINER = "worker"
TLS_VOLUME, TLS_FOLDER = "toril-redis-tls", "/etc/toril/redis-tls"
"""Where workers find what `redis.tls` names."""
PROGRESS_DEADLINE_SECONDS = 600


def build_deployment(
    spec: JobQueueSpec, owner: dict[str, Any], *, image: str, image_pull_policy: str | None, replicas: int | None
) -> dict[str, Any]:
    """The manifest for server-side apply.

    Args:
        owner: the JobQueue's owner reference (see `owner_reference`).
        image: for JobQueues that name none; the same for `image_pull_policy`.
        replicas: None leaves the number to whoever owns it, which must be the scaler: a number that nobody owns
            any more becomes 1.
    """
    all_labels = labels.worker_labels(spec.name, spec.queue_name)
    deployment: dict[str, Any] = {
        "selector": {"matchLabels": labels.selector(spec.name)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0}},
        "revisionHistoryLimit": 3,
        "progressDeadlineSeconds": PROGRESS_DEADLINE_SECONDS,
        "template": {
            "metadata": {
                "labels": all_labels,
                "annotations": {"kubectl.kubernetes.io/default-container": CONTAINER},
            },
            "spec": _pod(spec, image, image_pull_policy),
        },
    }
    if replicas is not None:
        deployment["replicas"] = replicas
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": labels.part_name(spec.name),
            "namespace": spec.namespace,
            "labels": all_labels,
            "annotations": {labels.FULL_NAME: spec.name},
            "ownerReferences": [owner],
        },
        "spec": deployment,
    }


def owner_reference(api_version: str, kind: str, name: str, uid: str) -> dict[str, Any]:
    """Makes the part go when its owner goes, and tells other controllers to leave it alone."""
    return {
        "apiVersion": api_version,
        "kind": kind,
        "name": name,
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def _pod(spec: JobQueueSpec, image: str, image_pull_policy: str | None) -> dict[str, Any]:
    worker = spec.worker
    pod: dict[str, Any] = {
        "containers": [_container(spec, image, image_pull_policy)],
        "terminationGracePeriodSeconds": worker.drain_seconds + GRACE_BEYOND_DRAIN_SECONDS,
        # Whoever may create a JobQueue gets no token of another account by it.
        "automountServiceAccountToken": worker.service_account_name is not None,
        "enableServiceLinks": False,
        # The pause process is process 1 then: it reaps orphans, and the worker is a process that SIGTERM ends from its
        # first instruction on. As process 1 it would be deaf to it until its handler stands.
        "shareProcessNamespace": True,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    if spec.redis.tls.secret_keys:
        pod["volumes"].append(_tls_volume(spec.redis.tls))
    if worker.service_account_name is not None:
        pod["serviceAccountName"] = worker.service_account_name
    if worker.node_selector:
        pod["nodeSelector"] = dict(worker.node_selector)
    if worker.tolerations:
        pod["tolerations"] = [dict(each) for each in worker.tolerations]
    return pod


def _container(spec: JobQueueSpec, image: str, image_pull_policy: str | None) -> dict[str, Any]:
    worker = spec.worker
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": worker.image or image,
        "env": _environment(spec),
        "ports": [{"name": "http", "containerPort": HTTP_PORT, "protocol": "TCP"}],
        # A worker takes jobs before it is asked whether it is ready, so these need not be hasty. The first one lets
        # imports take two minutes.
        "startupProbe": _probe("/livez", period_seconds=1, failures=120),
        "livenessProbe": _probe("/livez", period_seconds=10, failures=6),
        "readinessProbe": _probe("/readyz", period_seconds=3, failures=3),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108
    }
    if spec.redis.tls.secret_keys:
        container["volumeMounts"].append({"name": TLS_VOLUME, "mountPath": TLS_FOLDER, "readOnly": True})
    policy = worker.image_pull_policy or (None if worker.image else image_pull_policy)
    if policy is not None:
        container["imagePullPolicy"] = policy
    if worker.env_from:
        container["envFrom"] = [dict(each) for each in worker.env_from]
    if worker.resources:
        container["resources"] = dict(worker.resources)
    return container


def _probe(path: str, *, period_seconds: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": period_seconds,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _environment(spec: JobQueueSpec) -> list[dict[str, Any]]:
    """Ours first: the user's values may refer to them as `$(TORIL_QUEUE)`."""
    variables: list[dict[str, Any]] = [
        {"name": name, "value": value} for name, value in build_worker_environment(spec).items()
    ]
    variables.append(_from_pod("TORIL_POD_NAME", "metadata.name"))
    # By these two a process that starts anew in its container knows the jobs of the one before it.
    variables.append(_from_pod("TORIL_POD_UID", "metadata.uid"))
    variables.append({"name": "TORIL_CONTAINER", "value": CONTAINER})
    variables.append({"name": "TORIL_HTTP_PORT", "value": str(HTTP_PORT)})
    variables += _redis_environment(spec)
    return variables + [dict(each) for each in spec.worker.env]


def _from_pod(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}


def _redis_environment(spec: JobQueueSpec) -> list[dict[str, Any]]:
    """Each part from its own source: a password never becomes part of a URL here."""
    redis = spec.redis
    variables: list[dict[str, Any]] = []
    if redis.url is not None:
        variables.append({"name": "TORIL_REDIS_URL", "value": redis.url})
    elif redis.url_from is not None:
        variables.append(_from_secret("TORIL_REDIS_URL", redis.url_from))
    else:
        variables.append({"name": "TORIL_REDIS_HOST", "value": redis.host or ""})
        variables.append({"name": "TORIL_REDIS_PORT", "value": str(redis.port)})
        variables.append({"name": "TORIL_REDIS_DB", "value": str(redis.db)})
        if redis.has_tls:
            variables.append({"name": "TORIL_REDIS_TLS", "value": "true"})
    if redis.username_from is not None:
        variables.append(_from_secret("TORIL_REDIS_USERNAME", redis.username_from))
    if redis.password_from is not None:
        variables.append(_from_secret("TORIL_REDIS_PASSWORD", redis.password_from))
    return variables + _tls_environment(redis.tls)


def _tls_environment(tls: TlsSpec) -> list[dict[str, Any]]:
    names = {"ca": "TORIL_REDIS_TLS_CA_FILE", "cert": "TORIL_REDIS_TLS_CERT_FILE", "key": "TORIL_REDIS_TLS_KEY_FILE"}
    variables = [{"name": names[part], "value": f"{TLS_FOLDER}/{part}.pem"} for part in tls.secret_keys]
    if tls.server_name is not None:
        variables.append({"name": "TORIL_REDIS_TLS_SERVER_NAME", "value": tls.server_name})
    return variables


def _tls_volume(tls: TlsSpec) -> dict[str, Any]:
    """Each file from its own Secret. The kubelet renews them, and the next connection reads them anew."""
    sources = [
        {"secret": {"name": key.name, "items": [{"key": key.key, "path": f"{part}.pem"}]}}
        for part, key in tls.secret_keys.items()
    ]
    return {"name": TLS_VOLUME, "projected": {"sources": sources}}


def _from_secret(name: str, key: SecretKey) -> dict[str, Any]:
    reference: dict[str, Any] = {"name": key.name, "key": key.key}
    if key.is_optional:
        reference["optional"] = True
    return {"name": name, "valueFrom": {"secretKeyRef": reference}}
