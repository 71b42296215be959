"""Names and labels of what the operator makes. Pure."""

from __future__ import annotations

import hashlib
import re

MANAGED_BY = "toril-operator"
"""Value of `app.kubernetes.io/managed-by`; the Deployments that are watched are chosen by it."""
MANAGED_BY_SELECTOR = f"app.kubernetes.io/managed-by={MANAGED_BY}"
JOB_QUEUE = "toril.dev/jobqueue"
"""Label with the JobQueue's name; part of every selector, so it never changes its meaning."""
POD_SELECTOR = f"{MANAGED_BY_SELECTOR},{JOB_QUEUE}"
"""The pods that are watched: those that have both labels."""
QUEUE = "toril.dev/queue"
"""Label with the queue's name in BullMQ, made fit for a label; for people and dashboards."""
FULL_NAME = "toril.dev/full-name"
"""Annotation with the JobQueue's name, since the name of a part may be cut."""

FINALIZER = "toril.dev/cleanup"
"""Keeps a deleted object until what it has in Redis is removed."""

MANAGER = "toril-operator"
"""Field manager of Deployments, all but their replicas."""
SCALER_MANAGER = "toril-operator-scaler"
"""Field manager of `spec.replicas`."""
STATUS_MANAGER = "toril-operator-status"

MAX_PART_NAME = 47
"""Longest name of a Deployment: its pods' names add 17 characters and must stay within a label's 63."""
_HASH_LENGTH = 8
_MAX_LABEL = 63


def part_name(job_queue: str) -> str:
    """Name of a JobQueue's Deployment: `jq-<name>`; a long one is cut and ends in a hash of the whole."""
    name = f"jq-{job_queue}"
    if len(name) <= MAX_PART_NAME:
        return name
    digest = hashlib.sha256(job_queue.encode()).hexdigest()[:_HASH_LENGTH]
    return f"{name[: MAX_PART_NAME - _HASH_LENGTH - 1].rstrip('-.')}-{digest}"


def label_value(text: str) -> str:
    """Any text as a label's value: what is not allowed becomes `_`, and then a hash of the whole is added."""
    cleaned = re.sub(r"[^A-Za-z0-9._-]", "_", text)
    if cleaned == text and len(text) <= _MAX_LABEL and _is_framed(text):
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:_HASH_LENGTH]
    return f"{cleaned[: _MAX_LABEL - _HASH_LENGTH - 2].strip('._-') or 'q'}-{digest}"


def selector(job_queue: str) -> dict[str, str]:
    """The labels that find a JobQueue's pods. Fixed for all releases: a Deployment's selector cannot be changed."""
    return {"app.kubernetes.io/managed-by": MANAGED_BY, JOB_QUEUE: job_queue}


def worker_labels(job_queue: str, queue_name: str) -> dict[str, str]:
    """All labels of a JobQueue's Deployment and pods."""
    return {
        "app.kubernetes.io/name": "toril-worker",
        "app.kubernetes.io/instance": job_queue,
        "app.kubernetes.io/component": "worker",
        "app.kubernetes.io/part-of": "toril",
        QUEUE: label_value(queue_name),
        **selector(job_queue),
    }


def as_selector_text(labels: dict[str, str]) -> str:
    """Labels as the API's selector text, in a fixed order."""
    return ",".join(f"{name}={value}" for name, value in sorted(labels.items()))


def is_pod_of(deployment: str, pod_name: str) -> bool:
    """Whether a pod has the name that a Deployment's ReplicaSets give."""
    return re.fullmatch(rf"{re.escape(deployment)}-[a-z0-9]{{1,10}}-?[a-z0-9]{{5}}", pod_name) is not None


def _is_framed(text: str) -> bool:
    return bool(text) and text[0].isalnum() and text[-1].isalnum()
