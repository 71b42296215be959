"""What kopf sees: changes of JobQueues, of our Deployments and of their pods. Passed on; nothing is decided here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import kopf

from toril_operator import labels
from toril_operator.object_cache import Kind, Seen, key_of

Publish = Callable[[Seen], None]


def register(registry: kopf.OperatorRegistry, settings: kopf.OperatorSettings, publish: Publish) -> None:
    """Add the watches.

    Args:
        publish: called on kopf's event loop; must return at once.
    """
    # The server sends only ours.
    settings.watching.label_selectors["apps", "deployments"] = labels.MANAGED_BY_SELECTOR
    settings.watching.label_selectors["v1", "pods"] = labels.POD_SELECTOR

    @kopf.on.event("toril.dev", "v1alpha1", "jobqueues", registry=registry)
    async def job_queue_changed(event: Mapping[str, Any], **_: Any) -> None:
        publish(_seen(Kind.JOB_QUEUE, event))

    @kopf.on.event("apps", "v1", "deployments", registry=registry)
    async def deployment_changed(event: Mapping[str, Any], **_: Any) -> None:
        publish(_seen(Kind.DEPLOYMENT, event))

    @kopf.on.event("v1", "pods", registry=registry)
    async def pod_changed(event: Mapping[str, Any], **_: Any) -> None:
        publish(_seen(Kind.POD, event))


def _seen(kind: Kind, event: Mapping[str, Any]) -> Seen:
    manifest = event["object"]
    return Seen(kind, key_of(manifest), manifest, is_deleted=event["type"] == "DELETED")
