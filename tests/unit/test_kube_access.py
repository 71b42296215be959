"""What is read out of kubeconfigs: tokens as kubectl takes them, plugins that answer, and plugins that do not."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from toril import errors, kube_access

SERVER = "https://10.96.0.1:6443"
VERSION = "client.authentication.k8s.io/v1"


def write_kubeconfig(folder: Path, user: dict[str, Any] | None, **cluster: Any) -> str:
    context = {"cluster": "c"} if user is None else {"cluster": "c", "user": "u"}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": context}],
        "clusters": [{"name": "c", "cluster": {"server": SERVER, **cluster}}],
        "users": [] if user is None else [{"name": "u", "user": user}],
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return str(path)


def write_plugin(folder: Path, body: str) -> dict[str, Any]:
    """A user with an exec plugin, named relative to the kubeconfig."""
    script = folder / "plugin"
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return {"exec": {"apiVersion": VERSION, "command": "./plugin", "args": ["a"], "env": [{"name": "B", "value": "b"}]}}


def credential(**status: str) -> str:
    return json.dumps({"apiVersion": VERSION, "kind": "ExecCredential", "status": status})


def text_of(path: str) -> str:
    return Path(path).read_text()


@pytest.mark.parametrize("content", ["secret", "secret\n", " secret\r\n\n"])
async def test_a_token_file_may_end_with_newlines(tmp_path: Path, content: str) -> None:
    (tmp_path / "token").write_text(content)
    found = await kube_access.read_credentials(write_kubeconfig(tmp_path, {"tokenFile": "token"}))
    assert (found.scheme, found.token) == ("Bearer", "secret")


async def test_a_token_in_the_kubeconfig_may_end_with_a_newline(tmp_path: Path) -> None:
    found = await kube_access.read_credentials(write_kubeconfig(tmp_path, {"token": "secret\n"}))
    assert (found.scheme, found.token) == ("Bearer", "secret")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the token's file is empty"),
        (b"\n", "the token is empty"),
        (b"one\ntwo", "the token is empty, or holds more than one line"),
        (b"\xff\xfe", "decode"),
        (None, "No such file"),
    ],
)
async def test_a_token_file_without_a_token(tmp_path: Path, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    with pytest.raises(errors.SettingsError, match=f"cannot read how to reach Kubernetes: .*{words}"):
        await kube_access.load(write_kubeconfig(tmp_path, {"tokenFile": "token"}))


@pytest.mark.parametrize("text", ["", "[]", "a: [", "clusters: 1\ncontexts: 2\nusers: 3\n", "\x00", "users: {}"])
async def test_a_file_that_is_no_kubeconfig(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    with pytest.raises(errors.SettingsError, match="cannot read how to reach Kubernetes"):
        await kube_access.load(str(path))


async def test_a_context_without_a_user(tmp_path: Path) -> None:
    found = await kube_access.read_credentials(write_kubeconfig(tmp_path, None))
    assert (found.server, found.token) == (SERVER, None)


async def test_a_plugin_is_asked_as_kubectl_asks_it(tmp_path: Path) -> None:
    answer = credential(token="$B-$1", expirationTimestamp="2030-01-02T03:04:05Z").replace('"', '\\"')
    body = f'echo "$KUBERNETES_EXEC_INFO" > "{tmp_path}/question"; cat; echo "{answer}"'
    found = await kube_access.read_credentials(write_kubeconfig(tmp_path, write_plugin(tmp_path, body)))
    assert (found.scheme, found.token) == ("Bearer", "b-a")
    assert found.expires_at_ms == 1_893_553_445_000
    question = json.loads((tmp_path / "question").read_text())
    assert question == {"apiVersion": VERSION, "kind": "ExecCredential", "spec": {"interactive": False}}


async def test_a_plugin_may_answer_with_a_certificate(tmp_path: Path) -> None:
    answer = credential(clientCertificateData="certificate", clientKeyData="key")
    found = await kube_access.read_credentials(write_kubeconfig(tmp_path, write_plugin(tmp_path, f"echo '{answer}'")))
    assert found.certificate_file is not None
    assert found.key_file is not None
    assert text_of(found.certificate_file) == "certificate"
    assert text_of(found.key_file) == "key"
    assert found.token is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("echo please log in >&2; exit 3", "the exec plugin plugin ended with 3: please log in$"),
        ("head -c 200000 /dev/zero | tr '\\0' x >&2; exit 1", "ended with 1: x{400}$"),
        ("kill -9 $$", "ended with -9"),
        ("echo secret", "did not answer with an ExecCredential$"),
        ("echo '[]'", "did not answer with an ExecCredential$"),
        (f"echo '{credential()}'", "neither a token nor certificate and key"),
        (f"echo '{credential(clientCertificateData='c')}'", "neither a token nor certificate and key"),
        (f"echo '{credential(token='t').replace('/v1', '/v1beta1')}'", "answered as .*v1beta1, not as .*/v1$"),
        (f"echo '{credential(token='t', expirationTimestamp='soon')}'", "Invalid isoformat string"),
    ],
)
async def test_a_plugin_that_fails_is_told(tmp_path: Path, body: str, words: str) -> None:
    path = write_kubeconfig(tmp_path, write_plugin(tmp_path, body))
    with pytest.raises(errors.SettingsError, match=words) as told:
        await kube_access.load(path)
    assert "secret" not in str(told.value)


async def test_a_plugin_that_is_not_there(tmp_path: Path) -> None:
    user = {"exec": {"apiVersion": VERSION, "command": "no-such-plugin"}}
    with pytest.raises(errors.SettingsError, match="No such file or directory: 'no-such-plugin'"):
        await kube_access.load(write_kubeconfig(tmp_path, user))


async def test_a_plugin_that_never_answers_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube_access, "PLUGIN_SECONDS", 0.2)
    path = write_kubeconfig(tmp_path, write_plugin(tmp_path, "exec sleep 600"))
    with pytest.raises(errors.SettingsError, match=r"the exec plugin plugin gave no answer in 0\.2 s"):
        await asyncio.wait_for(kube_access.load(path), 30)


async def test_the_environment_names_the_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_kubeconfig(tmp_path, {"token": "t"})
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@proxy:3128")
    monkeypatch.setenv("NO_PROXY", "")
    access = await kube_access.load(path)
    assert access.configuration.proxy == "http://user:secret@proxy:3128"
    assert (await kube_access.read_credentials(path)).proxy_url == "http://user:secret@proxy:3128"
    monkeypatch.setenv("NO_PROXY", "10.96.0.0/12")
    assert (await kube_access.load(path)).configuration.proxy is None
    assert (await kube_access.read_credentials(path)).proxy_url is None


async def test_a_kubeconfigs_own_proxy_goes_before_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_kubeconfig(tmp_path, {"token": "t"}, **{"proxy-url": "http://own:1"})
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", "*")
    access = await kube_access.load(path)
    assert str(access.proxy) == "http://own:1 (proxy-url)"
    assert access.configuration.proxy == "http://own:1"


async def test_a_proxy_that_is_none_is_refused(tmp_path: Path) -> None:
    path = write_kubeconfig(tmp_path, {"token": "t"}, **{"proxy-url": "socks5://own:1"})
    with pytest.raises(errors.SettingsError, match="proxy-url: must be the URL of an HTTP proxy"):
        await kube_access.load(path)
