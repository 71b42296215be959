"""`toril.kube` against a real API server: what goes in and out, and what each refusal becomes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.cluster import Cluster
from toril import errors, kube

CONFIG_MAPS = kube.Resource("v1", "configmaps")


@pytest.fixture
async def client(cluster: Cluster) -> AsyncIterator[kube.KubeClient]:
    connected = await kube.KubeClient.connect(str(cluster.kubeconfig))
    yield connected
    await connected.close()


def config_map(namespace: str, name: str = "one", **data: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "labels": {"kind": "test"}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


async def test_apply_owns_its_fields_and_gives_them_up(client: kube.KubeClient, namespace: str) -> None:
    await client.apply(CONFIG_MAPS, config_map(namespace, a="1", b="2"), manager="first")
    made = await client.apply(CONFIG_MAPS, config_map(namespace, a="1"), manager="first")
    assert made["data"] == {"a": "1"}
    with pytest.raises(errors.KubeConflictError):
        await client.apply(CONFIG_MAPS, config_map(namespace, a="9"), manager="second")
    forced = await client.apply(CONFIG_MAPS, config_map(namespace, a="9"), manager="second", force=True)
    assert forced["data"] == {"a": "9"}
    await client.apply(CONFIG_MAPS, config_map(namespace, a="10"), manager="second", dry_run=True)
    assert (await client.get(CONFIG_MAPS, namespace, "one"))["data"] == {"a": "9"}


async def test_an_old_version_is_a_conflict(client: kube.KubeClient, namespace: str) -> None:
    old = await client.create(CONFIG_MAPS, config_map(namespace, a="1"))
    await client.apply(CONFIG_MAPS, config_map(namespace, b="2"), manager="first")
    manifest = config_map(namespace, b="3")
    manifest["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
    with pytest.raises(errors.KubeConflictError) as refused:
        await client.apply(CONFIG_MAPS, manifest, manager="first")
    assert refused.value.status == 409


async def test_lists_are_read_page_by_page(
    client: kube.KubeClient, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube, "PAGE_SIZE", 2)
    for number in range(5):
        await client.create(CONFIG_MAPS, config_map(namespace, f"number-{number}"))
    listed = [item["metadata"]["name"] async for item in client.list(CONFIG_MAPS, namespace, "kind=test")]
    assert listed == [f"number-{number}" for number in range(5)]


async def test_what_is_not_there(client: kube.KubeClient, namespace: str) -> None:
    assert await client.get_or_none(CONFIG_MAPS, namespace, "nothing") is None
    assert await client.secret_or_none(namespace, "nothing") is None
    with pytest.raises(errors.KubeNotFoundError):
        await client.get(CONFIG_MAPS, namespace, "nothing")
    assert not await client.serves(kube.Resource("nothing.dev/v1", "nothings"))
    assert await client.serves(kube.DEPLOYMENTS)
    await client.delete(CONFIG_MAPS, namespace, "nothing", uid="any")


async def test_only_the_object_that_was_meant_is_deleted(client: kube.KubeClient, namespace: str) -> None:
    made = await client.create(CONFIG_MAPS, config_map(namespace))
    with pytest.raises(errors.KubeConflictError):
        await client.delete(CONFIG_MAPS, namespace, "one", uid="another")
    await client.delete(CONFIG_MAPS, namespace, "one", uid=made["metadata"]["uid"])
    assert await client.get_or_none(CONFIG_MAPS, namespace, "one") is None


async def test_a_wrong_object_and_an_unknown_field(client: kube.KubeClient, namespace: str) -> None:
    with pytest.raises(errors.KubeInvalidError, match=r"metadata\.name"):
        await client.create(CONFIG_MAPS, config_map(namespace, "Not A Name"))
    with pytest.raises(errors.KubeInvalidError, match="unknown"):
        await client.apply(CONFIG_MAPS, {**config_map(namespace), "unknown": 1}, manager="first")


async def test_a_token_is_read_anew_when_it_is_refused(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    config: dict[str, Any] = yaml.safe_load(cluster.kubeconfig.read_text())
    path = tmp_path / "kubeconfig"

    def write(token: str) -> None:
        config["users"][0]["user"] = {"token": token}
        path.write_text(yaml.safe_dump(config))

    write("expired")
    client = await kube.KubeClient.connect(str(path))
    try:
        write(cluster.kubectl("create", "token", "default", "-n", namespace).strip())
        with pytest.raises(errors.KubeForbiddenError) as refused:
            await client.get(CONFIG_MAPS, namespace, "one")
        assert refused.value.status == 403, "let in, as somebody without rights"
    finally:
        await client.close()


async def test_nobody_answers(tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube, "DEADLINE_SECONDS", 0.5)
    config: dict[str, Any] = yaml.safe_load(cluster.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    client = await kube.KubeClient.connect(str(path))
    try:
        with pytest.raises(errors.KubeUnavailableError, match="no answer"):
            await client.get(CONFIG_MAPS, "default", "one")
        assert not await client.is_alive()
    finally:
        await client.close()


async def test_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(errors.SettingsError, match="cannot read how to reach Kubernetes"):
        await kube.KubeClient.connect(str(tmp_path / "missing"))
