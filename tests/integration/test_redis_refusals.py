"""Servers that refuse: each client says why, with the same reason, and calls what is no Redis what it is."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import subprocess
import tempfile
import traceback
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support import ports
from support.certificates import Certificates
from support.redis_server import RedisServer, die_with_parent, find_server, has_tls
from support.waiting import wait_until
from toril import Queue, errors
from toril.engine.redis.connection import AsyncConnection, BlockingConnection
from toril.engine.redis.secret import Secret
from toril.engine.redis.settings import RedisSettings
from toril.engine.redis.sync_connection import SyncConnection
from toril.errors import RedisReason

StartServer = Callable[..., RedisServer]


@pytest.fixture
def start_server() -> Iterator[StartServer]:
    with contextlib.ExitStack() as started:

        def start(*options: str) -> RedisServer:
            server = RedisServer(*options)
            started.callback(server.remove)
            return server

        yield start


async def refusals(settings: RedisSettings, *parts: str) -> list[errors.RedisError]:
    """What the clients raise for one command: the asynchronous one and the synchronous one."""
    found: list[errors.RedisError] = []
    connection, sync = AsyncConnection(settings), SyncConnection(settings)
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: connection.command(*parts),
        lambda: asyncio.to_thread(sync.command, *parts),
    ]
    try:
        for call in calls:
            with pytest.raises(errors.RedisError) as caught:
                await call()
            found.append(caught.value)
    finally:
        await connection.close()
        sync.close()
    return found


async def greeting_refusals(settings: RedisSettings) -> list[errors.RedisError]:
    """The same, and what a connection for reads that wait raises."""
    blocking = BlockingConnection(settings)
    try:
        with pytest.raises(errors.RedisError) as caught:
            await blocking.wait_marker("m", 0.01)
    finally:
        await blocking.close()
    return [*await refusals(settings, "GET", "k"), caught.value]


def assert_told(found: list[errors.RedisError], reason: RedisReason, words: str) -> None:
    for error in found:
        assert type(error) is errors.RedisUnavailableError, repr(error)
        assert error.reason is reason
        assert words in str(error)


# ---- who one is


@pytest.mark.parametrize(
    ("username", "password", "words"),
    [
        (None, None, "NOAUTH"),
        (None, "wrong", "WRONGPASS"),
        ("nobody", "pw", "WRONGPASS"),
        ("poor", "pw", "NOPERM"),
    ],
)
async def test_who_is_not_let_in_is_told_so(
    start_server: StartServer, username: str | None, password: str | None, words: str
) -> None:
    server = start_server()
    run(server, "ACL", "SETUSER", "poor", "on", ">pw", "~other", "+@all")
    run(server, "ACL", "SETUSER", "default", "resetpass", ">pw")
    settings = RedisSettings(host="127.0.0.1", port=server.port, username=username)
    settings = replace(settings, password=Secret(password) if password else None)
    found = await (refusals(settings, "GET", "k") if username == "poor" else greeting_refusals(settings))
    assert_told(found, RedisReason.AUTH_FAILED, words)


@pytest.mark.requirement("T32")
async def test_neither_objects_nor_tracebacks_show_a_password(start_server: StartServer) -> None:
    """Tools that report errors print the variables of every function on the way."""
    server = start_server()
    run(server, "ACL", "SETUSER", "default", "resetpass", ">pw")
    async with Queue("q", url=f"redis://:canary-4711@127.0.0.1:{server.port}/0") as queue:
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: queue.add("job", {}),
            lambda: asyncio.to_thread(queue.sync.add, "job", {}),
        ]
        for call in calls:
            with pytest.raises(errors.RedisUnavailableError, match="WRONGPASS") as caught:
                await call()
            told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
            frames = [frame for frame in told.stack if "toril" in frame.filename]
            assert frames
            assert "canary" not in str([frame.locals for frame in frames]) + str(caught.value)
        shown = [
            vars(queue),
            vars(queue.client),
            vars(queue.sync),
            vars(queue.settings) if hasattr(queue.settings, "__dict__") else "",
        ]
        assert "canary" not in f"{shown} {queue!r} {queue.settings!r} {dataclasses.asdict(queue.settings)}"


async def test_a_password_for_a_server_without_one_is_refused(start_server: StartServer) -> None:
    settings = replace(RedisSettings.from_url(start_server().url), password=Secret("pw"))
    assert_told(await greeting_refusals(settings), RedisReason.AUTH_FAILED, "without any password")


async def test_a_right_that_is_missing_inside_a_script_is_told(start_server: StartServer) -> None:
    server = start_server()
    run(server, "ACL", "SETUSER", "poor", "on", ">pw", "~*", "+@all", "-lpush")
    settings = RedisSettings(host="127.0.0.1", port=server.port, username="poor", password=Secret("pw"))
    script = "return redis.call('LPUSH', KEYS[1], 1)"
    # Redis says that the user can't run this command, Valkey which one.
    for error in await refusals(settings, "EVAL", script, "1", "k"):
        assert_told([error], RedisReason.AUTH_FAILED, "lpush" if "lpush" in str(error) else "can't run this command")


async def test_clients_beyond_the_limit_are_turned_away(start_server: StartServer) -> None:
    server = start_server()
    server.client().config_set("maxclients", 1)
    with server.client() as only:
        only.ping()
        settings = RedisSettings.from_url(server.url)
        assert_told(await greeting_refusals(settings), RedisReason.CONNECTION_REFUSED, "max number of clients")


async def test_a_database_that_is_not_there_is_named(start_server: StartServer) -> None:
    settings = replace(RedisSettings.from_url(start_server().url), db=900)
    assert_told(await greeting_refusals(settings), RedisReason.NO_SUCH_DATABASE, "out of range")


# ---- what state it is in


async def test_a_server_without_its_replicas_refuses_writes(start_server: StartServer) -> None:
    server = start_server("--min-replicas-to-write", "1")
    settings = RedisSettings.from_url(server.url)
    assert_told(await refusals(settings, "SET", "k", "v"), RedisReason.NO_REPLICAS, "NOREPLICAS")
    for error in await added(server.url):
        assert (type(error), error.reason) == (errors.RedisUnavailableError, RedisReason.NO_REPLICAS)


async def test_a_server_that_cannot_save_refuses_writes(start_server: StartServer) -> None:
    server = start_server()
    with server.client() as client:
        client.set("k", "v")
        client.config_set("save", "3600 1")
        # A folder stands where the file should be.
        (server.folder / "dump.rdb").mkdir()
        client.bgsave()
        wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", "a save that fails")
    settings = RedisSettings.from_url(server.url)
    assert_told(await refusals(settings, "SET", "k", "v"), RedisReason.DISK_FAILED, "MISCONF")
    for error in await added(server.url):
        assert (type(error), error.reason) == (errors.RedisUnavailableError, RedisReason.DISK_FAILED)


async def added(url: str, prefix: str = "bull") -> list[errors.RedisError]:
    """What an add raises, in both kinds of clients."""
    found = []
    async with Queue("q", url=url, prefix=prefix) as queue:
        with pytest.raises(errors.RedisError) as caught:
            await queue.add("job", {})
        found.append(caught.value)
        with pytest.raises(errors.RedisError) as caught:
            await asyncio.to_thread(queue.sync.add, "job", {})
        found.append(caught.value)
        queue.sync.close()
    return found


# ---- what it is


@pytest.fixture
def sentinel() -> Iterator[int]:
    """The port of a Sentinel."""
    with tempfile.TemporaryDirectory() as folder:
        port, file = ports.free_port(), Path(folder, "sentinel.conf")
        file.write_text(f"port {port}\nbind 127.0.0.1\ndir {folder}\nlogfile {folder}/log\n")
        command = [find_server(), str(file), "--sentinel"]
        process = subprocess.Popen(command, preexec_fn=die_with_parent, stdout=subprocess.DEVNULL)
        try:
            wait_until(lambda: "Sentinel" in why_not(port), "the Sentinel to answer")
            yield port
        finally:
            process.kill()
            process.wait()


async def test_a_sentinel_is_called_one(sentinel: int) -> None:
    for database, password in ((0, None), (3, None), (0, Secret("pw"))):
        settings = RedisSettings(host="127.0.0.1", port=sentinel, db=database, password=password)
        assert_told(await greeting_refusals(settings), RedisReason.IS_SENTINEL, "is a Sentinel")


def why_not(port: int) -> str:
    sync = SyncConnection(RedisSettings(host="127.0.0.1", port=port))
    try:
        sync.command("PING")
    except errors.RedisError as problem:
        return str(problem)
    finally:
        sync.close()
    return ""


async def test_a_cluster_is_called_one(start_server: StartServer) -> None:
    """Two nodes, each with half of the slots. The queue's slot is in the second half."""
    buses = [ports.free_port() for _ in range(2)]
    nodes = [start_server("--cluster-enabled", "yes", "--cluster-port", str(bus)) for bus in buses]
    for node, first, last in ((nodes[0], 0, 8191), (nodes[1], 8192, 16383)):
        run(node, "CLUSTER", "ADDSLOTSRANGE", first, last)
    run(nodes[0], "CLUSTER", "MEET", "127.0.0.1", nodes[1].port, buses[1])

    def has_formed() -> bool:
        return all("cluster_state:ok" in str(run(node, "CLUSTER", "INFO")) for node in nodes)

    await asyncio.to_thread(wait_until, has_formed, "the cluster to form", timeout_seconds=60)
    prefixes = ("{a}", "{b}", "{c}", "{d}", "{e}")
    prefix = next(each for each in prefixes if run(nodes[0], "CLUSTER", "KEYSLOT", f"{each}:q:wait") > 8191)
    for error in [*await added(nodes[0].url, prefix), *await added(nodes[0].url), *await added(nodes[1].url)]:
        assert (type(error), error.reason) == (errors.RedisUnavailableError, RedisReason.IS_CLUSTER)
        assert "is a Cluster" in str(error)
    other = replace(RedisSettings.from_url(nodes[0].url), db=1)
    if "valkey_version" in run(nodes[0], "INFO", "server"):
        # A Cluster of Valkey 9 has as many databases as `cluster-databases` says.
        assert_told(await greeting_refusals(other), RedisReason.NO_SUCH_DATABASE, "out of range")
    else:
        assert_told(await greeting_refusals(other), RedisReason.IS_CLUSTER, "is a Cluster")
    async with Queue("q", url=nodes[1].url, prefix=prefix) as queue:
        assert (await queue.add("job", {})).id == "1"


def run(server: RedisServer, *command: Any) -> Any:
    """The reply to a command of an administrator."""
    client: Any = server.client()
    with client:
        return client.execute_command(*command)


async def test_a_postgresql_is_called_one(postgresql: int) -> None:
    for tls in ("redis", "rediss"):
        settings = RedisSettings.from_url(f"{tls}://:pw@127.0.0.1:{postgresql}/0")
        assert_told(await greeting_refusals(settings), RedisReason.NOT_REDIS, "Toril speaks Redis only")


@pytest.fixture
def postgresql() -> Iterator[int]:
    """The port of a PostgreSQL."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not programs:
        pytest.skip("no PostgreSQL is installed (Debian: postgresql)")
    # It refuses to run as root.
    user = "nobody" if os.getuid() == 0 else None
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        data, port = f"{folder}/data", ports.free_port()
        initdb = [str(programs[-1].with_name("initdb")), "-D", data, "--auth", "trust", "--no-sync"]
        subprocess.run(initdb, check=True, capture_output=True, user=user)
        options = ["-D", data, "-p", str(port), "-k", folder, "-c", "listen_addresses=127.0.0.1", "-F"]
        process = subprocess.Popen(
            [str(programs[-1]), *options], preexec_fn=die_with_parent, stderr=subprocess.DEVNULL, user=user
        )
        try:
            wait_until(lambda: "PostgreSQL" in why_not(port), "PostgreSQL to listen")
            yield port
        finally:
            process.kill()
            process.wait()


@pytest.mark.skipif(not has_tls(), reason="the server that tests start is built without TLS")
async def test_a_server_that_wants_tls_is_told_so(tmp_path: Path, start_server: StartServer) -> None:
    certificates = Certificates(tmp_path / "certificates")
    certificates.issue("server", "server", hosts=["127.0.0.1"])
    port = ports.free_port()
    start_server(*tls_options(certificates, port))
    settings = RedisSettings.from_url(f"redis://127.0.0.1:{port}")
    assert_told(await greeting_refusals(settings), RedisReason.TLS_FAILED, "wants TLS")


def tls_options(certificates: Certificates, port: int) -> list[str]:
    files = ("--tls-cert-file", certificates.certificate("server"), "--tls-key-file", certificates.key("server"))
    trusted = ("--tls-ca-cert-file", certificates.ca, "--tls-auth-clients", "no")
    return ["--tls-port", str(port), *map(str, (*files, *trusted))]
