"""Fixtures for every test: a private Redis server and an empty database of it."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator

import hypothesis
import pytest

from support.redis_server import RedisServer

# How fast an example is made or run says something about the machine, not about the code.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")

_databases = itertools.cycle(range(1, 64))


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One private server for the whole run. Tests that stop or change a server start their own `RedisServer`."""
    server = RedisServer()
    yield server
    server.remove()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """Address of an empty database of the shared server."""
    db = next(_databases)
    with redis_server.client(db) as client:
        client.flushdb()
        # Else it would depend on the tests before this one whether the server knows a script.
        client.script_flush()
    return f"redis://127.0.0.1:{redis_server.port}/{db}"


@pytest.fixture
def queue_name() -> str:
    return f"q-{uuid.uuid4().hex[:8]}"
