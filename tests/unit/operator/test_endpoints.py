"""Which server a JobQueue's author means, and which addresses are refused."""

from __future__ import annotations

import pytest

from toril import errors
from toril.engine.redis.settings import RedisSettings
from toril.engine.redis.tls import TlsSettings
from toril_operator.polling import endpoints


@pytest.mark.parametrize(
    ("host", "meant"),
    [
        ("redis", "redis.shop.svc"),
        ("redis.cache", "redis.cache"),
        ("redis.cache.svc.cluster.local", "redis.cache.svc.cluster.local"),
        ("10.0.0.7", "10.0.0.7"),
        ("fd00::7", "fd00::7"),
        ("localhost", "localhost"),
    ],
)
def test_a_short_name_is_a_service_beside_the_jobqueue(host: str, meant: str) -> None:
    assert endpoints.qualify(RedisSettings(host=host), "shop").host == meant


def test_the_same_short_name_in_two_namespaces_is_two_servers() -> None:
    url = RedisSettings.from_url("redis://redis:6379/1")
    assert endpoints.qualify(url, "shop") != endpoints.qualify(url, "blog")


def test_the_certificate_is_still_the_one_of_the_name_that_was_given() -> None:
    tls = endpoints.qualify(RedisSettings(host="redis", tls=TlsSettings()), "shop").tls
    assert tls is not None
    assert tls.server_name == "redis"


async def test_where_there_are_no_services_a_short_name_means_itself() -> None:
    """`localhost` is a short name that every machine knows."""
    resolved = await endpoints.resolve(RedisSettings(host="localhost.shop.svc"), allow_special=True)
    assert "127.0.0.1" in resolved.addresses


@pytest.mark.requirement("T112")
@pytest.mark.parametrize(
    "host", ["127.0.0.1", "::1", "169.254.169.254", "0.0.0.0", "::ffff:127.0.0.1", "fd00:ec2::254"]
)
async def test_special_addresses_are_refused(host: str) -> None:
    with pytest.raises(errors.RedisError) as refused:
        await endpoints.resolve(RedisSettings(host=host), allow_special=False)
    assert refused.value.reason is errors.RedisReason.ENDPOINT_REFUSED


async def test_an_unknown_name_is_an_outage_not_a_mistake() -> None:
    with pytest.raises(errors.RedisUnavailableError, match="is not known"):
        await endpoints.resolve(RedisSettings(host="no-such-name.invalid"), allow_special=False)


@pytest.mark.requirement("T112")
@pytest.mark.parametrize("host", ["localhost", "127.1", "2130706433", "::ffff:7f00:1"])
async def test_every_way_to_write_this_machine_is_refused(host: str) -> None:
    with pytest.raises(errors.RedisError) as refused:
        await endpoints.resolve(RedisSettings(host=host), allow_special=False)
    assert refused.value.reason is errors.RedisReason.ENDPOINT_REFUSED


@pytest.mark.parametrize("address", ["10.96.0.1", "192.168.1.4", "8.8.8.8", "fd12::4"])
def test_addresses_of_clusters_and_of_the_world_are_not_special(address: str) -> None:
    assert not endpoints.is_special(address)


async def test_the_addresses_that_were_looked_at_are_the_ones_to_connect_to() -> None:
    found = await endpoints.resolve(RedisSettings(host="127.0.0.1"), allow_special=True)
    assert found.addresses == ("127.0.0.1",)


async def test_a_socket_file_is_of_this_machine() -> None:
    with pytest.raises(errors.RedisError):
        await endpoints.resolve(RedisSettings(unix_socket="/run/redis.sock"), allow_special=False)


def test_there_is_an_explanation_for_every_reason() -> None:
    for reason in errors.RedisReason:
        assert endpoints.explain(reason, RedisSettings()).startswith("Redis localhost:6379/0: ")
