"""What kopf tells of: changes of CronJobSchedules. Passed on at once; nothing is decided here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import kopf

from toril_operator.object_cache import Kind, Seen, key_of

Publish = Callable[[Seen], None]


def register(registry: kopf.OperatorRegistry, publish: Publish) -> None:
    """Add the watch.

    Args:
        publish: called on kopf's event loop; must return at once.
    """

    @kopf.on.event("toril.dev", "v1alpha1", "cronjobschedules", registry=registry)
    async def schedule_changed(event: Mapping[str, Any], **_: Any) -> None:
        manifest = event["object"]
        is_deleted = event["type"] == "DELETED"
        publish(Seen(Kind.CRON_JOB_SCHEDULE, key_of(manifest), manifest, is_deleted=is_deleted))
