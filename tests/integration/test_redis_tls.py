"""TLS with an authority of one's own: a name, an authority and a client's certificate hold in every client and form."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from support import ports
from support.certificates import Certificates
from support.redis_server import RedisServer, has_tls
from toril import Queue, errors
from toril.cli import main
from toril.engine.redis.connection import AsyncConnection, BlockingConnection
from toril.engine.redis.secret import Secret
from toril.engine.redis.settings import RedisSettings
from toril.engine.redis.sync_connection import SyncConnection
from toril.engine.redis.tls import TlsSettings
from toril.errors import RedisReason

Variables = Mapping[str, str]
Form = Callable[[int], Variables]

FORMS: dict[str, Form] = {
    "TORIL_REDIS_URL": lambda port: {"TORIL_REDIS_URL": f"rediss://127.0.0.1:{port}"},
    "REDIS_URL": lambda port: {"REDIS_URL": f"rediss://127.0.0.1:{port}"},
    "TORIL_REDIS_HOST": lambda port: {
        "TORIL_REDIS_HOST": "127.0.0.1",
        "TORIL_REDIS_PORT": str(port),
        "TORIL_REDIS_TLS": "on",
    },
    "REDIS_HOST": lambda port: {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(port), "REDIS_TLS": "1"},
}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Of a server that is `127.0.0.1`, of one that is `redis.internal`, and of a client."""
    made = Certificates(tmp_path_factory.mktemp("tls") / "certificates")
    made.issue("address", "address", hosts=["127.0.0.1"])
    made.issue("name", "name", hosts=["redis.internal"])
    made.issue("client", "client")
    return made


@pytest.fixture(scope="module")
def start_server(certificates: Certificates) -> Iterator[Callable[..., int]]:
    """Start a server with TLS; returns its port for that."""
    if not has_tls():
        pytest.skip("the server that tests start is built without TLS")
    with contextlib.ExitStack() as started:

        def start(name: str, *, asks_for_certificates: bool = False) -> int:
            port = ports.free_port()
            files = {
                "--tls-port": port,
                "--tls-cert-file": certificates.certificate(name),
                "--tls-key-file": certificates.key(name),
                "--tls-ca-cert-file": certificates.ca,
                "--tls-auth-clients": "yes" if asks_for_certificates else "no",
            }
            server = RedisServer(*(str(part) for option in files.items() for part in option))
            started.callback(server.remove)
            return port

        yield start


@pytest.fixture(scope="module")
def strict_port(start_server: Callable[..., int]) -> int:
    """A server that is `redis.internal` and asks for a client's certificate."""
    return start_server("name", asks_for_certificates=True)


def files_of(certificates: Certificates) -> dict[str, str]:
    return {
        "TORIL_REDIS_TLS_CA_FILE": str(certificates.ca),
        "TORIL_REDIS_TLS_CERT_FILE": str(certificates.certificate("client")),
        "TORIL_REDIS_TLS_KEY_FILE": str(certificates.key("client")),
        "TORIL_REDIS_TLS_SERVER_NAME": "redis.internal",
    }


def set_environment(monkeypatch: pytest.MonkeyPatch, variables: Variables) -> None:
    for name in list(os.environ):
        if "REDIS" in name:
            monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


async def answer_everywhere(settings: RedisSettings) -> None:
    """One command over each client."""
    connection, blocking = AsyncConnection(settings), BlockingConnection(settings)
    sync = SyncConnection(settings)
    try:
        assert await connection.command("PING") == b"PONG"
        assert await blocking.wait_marker("none", 0.01) is None
        assert await asyncio.to_thread(sync.command, "PING") == b"PONG"
        # A second one on the same connection: what TLS itself has sent meanwhile is no answer.
        assert await asyncio.to_thread(sync.command, "PING") == b"PONG"
    finally:
        await connection.close()
        await blocking.close()
        sync.close()


async def refusals(settings: RedisSettings) -> list[errors.RedisUnavailableError]:
    found = []
    connection, blocking = AsyncConnection(settings), BlockingConnection(settings)
    sync = SyncConnection(settings)
    for call in (
        lambda: connection.command("PING"),
        lambda: blocking.wait_marker("none", 0.01),
        lambda: asyncio.to_thread(sync.command, "PING"),
    ):
        with pytest.raises(errors.RedisUnavailableError) as caught:
            await call()
        found.append(caught.value)
    return found


@pytest.mark.parametrize("form", FORMS)
async def test_everything_holds_in_every_form_and_client(
    monkeypatch: pytest.MonkeyPatch, certificates: Certificates, strict_port: int, form: str
) -> None:
    set_environment(monkeypatch, {**FORMS[form](strict_port), **files_of(certificates)})
    await answer_everywhere(RedisSettings.from_environment(os.environ))
    async with Queue("q") as queue:
        handle = await queue.add("job", {})
        assert await asyncio.to_thread(handle.sync.state) == "waiting"
        await asyncio.to_thread(queue.sync.add, "job", {})
        queue.sync.close()


async def test_certificates_hold_for_a_url_in_code_and_for_a_flag(
    monkeypatch: pytest.MonkeyPatch,
    certificates: Certificates,
    strict_port: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_environment(monkeypatch, files_of(certificates))
    url = f"rediss://127.0.0.1:{strict_port}"
    async with Queue("q", url=url) as queue:
        await queue.add("job", {})
    assert await asyncio.to_thread(main.main, ["job", "add", "q", "job", "--redis", url]) == 0, capsys.readouterr()


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("TORIL_REDIS_TLS_CA_FILE", "its certificate is not accepted: "),
        ("TORIL_REDIS_TLS_SERVER_NAME", "not valid for '127.0.0.1'"),
        ("TORIL_REDIS_TLS_CERT_FILE", "asks for a client's certificate"),
    ],
)
async def test_what_is_missing_is_told_as_a_failure_of_tls(
    certificates: Certificates, strict_port: int, missing: str, words: str
) -> None:
    given = files_of(certificates)
    del given[missing]
    if missing.endswith("CERT_FILE"):
        del given["TORIL_REDIS_TLS_KEY_FILE"]
    settings = RedisSettings.from_environment({**FORMS["REDIS_URL"](strict_port), **given})
    for error in await refusals(settings):
        assert error.reason is RedisReason.TLS_FAILED, error
        assert words in str(error)


async def test_a_server_without_tls_is_told_as_one(redis_server: RedisServer) -> None:
    for error in await refusals(RedisSettings(host="127.0.0.1", port=redis_server.port, tls=TlsSettings())):
        assert error.reason is RedisReason.TLS_FAILED
        assert "it speaks no TLS" in str(error)


async def test_a_file_that_vanishes_later_is_named(
    certificates: Certificates, start_server: Callable[..., int], tmp_path: Path
) -> None:
    """As while a Secret is renewed. The next try reads the file anew."""
    file = tmp_path / "ca.crt"
    settings = RedisSettings(host="127.0.0.1", port=start_server("address"), tls=TlsSettings(ca_file=str(file)))
    for error in await refusals(settings):
        assert error.reason is RedisReason.TLS_FAILED
        assert "TORIL_REDIS_TLS_CA_FILE cannot be read: No such file or directory" in str(error)
    file.write_bytes(certificates.ca.read_bytes())
    await answer_everywhere(settings)


async def test_certificates_may_be_given_as_text(certificates: Certificates, strict_port: int) -> None:
    """As the operator has them, which reads Secrets and has no files."""
    tls = TlsSettings(
        ca=certificates.ca.read_text(),
        cert=certificates.certificate("client").read_text(),
        key=Secret(certificates.key("client").read_text()),
        server_name="redis.internal",
    )
    settings = RedisSettings(host="127.0.0.1", port=strict_port, tls=tls)
    await answer_everywhere(settings)
    assert "PRIVATE KEY" not in repr(settings)


@pytest.mark.parametrize("program", [("-m", "toril.worker"), ("-m", "toril.cli.main", "job", "add", "q", "job")])
@pytest.mark.parametrize("file", ["CA", "CERT", "KEY"])
def test_a_program_with_a_wrong_file_ends_at_once(
    certificates: Certificates, strict_port: int, program: tuple[str, ...], file: str
) -> None:
    variables = {**FORMS["REDIS_URL"](strict_port), **files_of(certificates)}
    variables[f"TORIL_REDIS_TLS_{file}_FILE"] = "/no/such/file"
    done = start_and_wait(program, variables)
    assert done.returncode == 2
    assert f"TORIL_REDIS_TLS_{file}_FILE cannot be read" in done.stderr
    assert done.stderr.count("\n") == 1


def start_and_wait(program: tuple[str, ...], variables: Variables) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if "REDIS" not in name}
    own = {"TORIL_QUEUE": "q", "TORIL_PROCESSOR": '{"python": {"module": "none"}}', "TORIL_HTTP_PORT": "0"}
    environment = {**clean, **own, **variables}
    return subprocess.run([sys.executable, *program], env=environment, capture_output=True, text=True, timeout=90)


@pytest.mark.parametrize("word", ["on", "True ", "enabled", "rediss", "y", "2"])
@pytest.mark.parametrize("family", ["TORIL_REDIS", "REDIS"])
def test_no_word_about_tls_sends_a_password_in_the_clear(word: str, family: str) -> None:
    with Listener() as listener:
        variables = {
            f"{family}_HOST": "127.0.0.1",
            f"{family}_PORT": str(listener.port),
            f"{family}_PASSWORD": "canary-4711",
            f"{family}_TLS": word,
        }
        done = start_and_wait(("-m", "toril.cli.main", "job", "add", "q", "job"), variables)
        assert done.returncode != 0
        assert all(first[:1] == b"\x16" for first in listener.heard[:1]), "something else than a TLS handshake"
        assert b"canary" not in b"".join(listener.heard)
        assert bool(listener.heard) == (word.strip().lower() in ("on", "true"))
        assert "canary" not in done.stdout + done.stderr


class Listener:
    """Takes connections, keeps the first bytes of each, and closes it."""

    def __enter__(self) -> Listener:
        self.heard: list[bytes] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                with connection, contextlib.suppress(OSError):
                    connection.settimeout(30)
                    self.heard.append(connection.recv(4096))
