"""Where Redis is, from a URL or the environment; secrets stay hidden."""

from __future__ import annotations

import pytest

from toril import errors
from toril.engine.redis.settings import RedisSettings, Secret


def test_a_url_reads() -> None:
    settings = RedisSettings.from_url("redis://ann:p%40ss@cache.example:6380/2")
    assert (settings.host, settings.port, settings.db, settings.username) == ("cache.example", 6380, 2, "ann")
    assert settings.password == Secret("p@ss")
    assert settings.tls is None


def test_rediss_means_tls_and_unix_means_a_socket() -> None:
    assert RedisSettings.from_url("rediss://h").tls is not None
    settings = RedisSettings.from_url("unix:///run/redis.sock?db=3")
    assert (settings.unix_socket, settings.db) == ("/run/redis.sock", 3)


@pytest.mark.requirement("Z-30", "C-29", "I-27", "Z-32")
def test_the_environment_in_its_order() -> None:
    full = {"TORIL_REDIS_URL": "redis://one", "TORIL_REDIS_HOST": "two", "REDIS_URL": "redis://three"}
    assert RedisSettings.from_environment(full).host == "one"
    del full["TORIL_REDIS_URL"]
    assert RedisSettings.from_environment(full).host == "two"
    del full["TORIL_REDIS_HOST"]
    assert RedisSettings.from_environment(full).host == "three"
    assert RedisSettings.from_environment({}).endpoint == "localhost:6379/0"


def test_parts_come_from_their_own_variables() -> None:
    settings = RedisSettings.from_environment(
        {"TORIL_REDIS_HOST": "h", "TORIL_REDIS_PORT": "7", "TORIL_REDIS_DB": "1", "TORIL_REDIS_PASSWORD": "s3cret\n"}
    )
    assert (settings.port, settings.db, settings.password) == (7, 1, Secret("s3cret"))


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"TORIL_REDIS_URL": "http://user:canary@x"}, "TORIL_REDIS_URL"),
        ({"REDIS_URL": "redis://:canary@h:port"}, "REDIS_URL"),
        ({"REDIS_URL": "redis://:canary@h/x"}, "REDIS_URL"),
        ({"TORIL_REDIS_HOST": "h", "TORIL_REDIS_PORT": "canary"}, "TORIL_REDIS_PORT"),
        ({"TORIL_REDIS_HOST": "h", "TORIL_REDIS_DB": "-1"}, "TORIL_REDIS_DB"),
    ],
)
def test_mistakes_name_the_variable_and_never_its_value(environment: dict[str, str], named: str) -> None:
    with pytest.raises(errors.SettingsError, match=named) as refusal:
        RedisSettings.from_environment(environment)
    assert "canary" not in str(refusal.value)


@pytest.mark.requirement("T32")
def test_passwords_never_show() -> None:
    settings = RedisSettings.from_url("redis://ann:canary@h")
    assert "canary" not in f"{settings!r} {settings} {settings.endpoint} {settings.password!r}"
