"""Events that the API server would refuse: it limits an event's name by characters, and its note by bytes."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest

from support.cluster import Cluster
from support.kube_api import KubeApi
from support.waiting import wait_until
from toril import kube
from toril_operator.event_recorder import EventReason, EventRecorder
from toril_operator.leadership import Leadership
from toril_operator.object_cache import Key, Kind


async def test_long_names_and_long_notes(
    cluster: Cluster, namespace: str, api: KubeApi, caplog: pytest.LogCaptureFixture
) -> None:
    client = await kube.KubeClient.connect(str(cluster.kubeconfig))
    recorder = EventRecorder(client, Leadership(), "é" * 100)
    writing = asyncio.create_task(recorder.run())
    told = {"mail": "short", "n" * 240: "short", f"{'n' * 235}.{'m' * 17}": "é" * 600, "long-note": "→ x" * 500}
    try:
        for name, note in told.items():
            key = Key(namespace, name)
            recorder.emit(Kind.CRON_JOB_SCHEDULE, key, str(uuid.uuid4()), EventReason.CLEANUP_ABANDONED, note)
        await asyncio.to_thread(
            wait_until, lambda: len(events(api, namespace)) == len(told), "all events to be written"
        )
    finally:
        writing.cancel()
        await client.close()
    for event in events(api, namespace):
        note = told[event["regarding"]["name"]]
        assert event["note"] == note or (len(event["note"].encode()) > 1000 and note.startswith(event["note"][:-1]))
    assert not caplog.records


def events(api: KubeApi, namespace: str) -> list[dict[str, Any]]:
    return api.items(f"/apis/events.k8s.io/v1/namespaces/{namespace}/events")
