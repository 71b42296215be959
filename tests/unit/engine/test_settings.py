"""Where Redis is, from a URL or the environment; secrets stay hidden."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from support.certificates import Certificates
from toril import errors
from toril.engine.redis.secret import Secret
from toril.engine.redis.settings import RedisSettings


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
    plain = {"REDIS_HOST": "five"}
    url = {**plain, "REDIS_URL": "redis://four", "REDIS_HOST": "four"}
    own = {**url, "TORIL_REDIS_HOST": "three"}
    own_url = {**url, "TORIL_REDIS_URL": "redis://two"}
    for environment, host in ((plain, "five"), (url, "four"), (own, "three"), (own_url, "two"), ({}, "localhost")):
        assert RedisSettings.from_environment(environment).host == host
        assert RedisSettings.from_environment(environment, url="redis://one").host == "one"
    assert RedisSettings.from_environment({}).endpoint == "localhost:6379/0"


def test_the_names_that_applications_use_are_understood() -> None:
    settings = RedisSettings.from_environment(
        {
            "REDIS_HOST": "cache",
            "REDIS_PORT": "7000",
            "REDIS_DB": "1",
            "REDIS_USERNAME": "ann",
            "REDIS_PASSWORD": "pw",
            "REDIS_TLS": "true",
        }
    )
    assert (settings.endpoint, settings.username, settings.password) == ("cache:7000/1", "ann", Secret("pw"))
    assert settings.tls is not None
    assert RedisSettings.from_environment({"REDIS_QUEUE_DB": "2", "REDIS_DB": "1"}).db == 2


def test_a_password_for_one_server_never_goes_to_another() -> None:
    """`REDIS_…` beside `TORIL_REDIS_HOST` or a URL of ours is about the application's own server."""
    others = {"REDIS_PASSWORD": "canary", "REDIS_USERNAME": "ann", "REDIS_DB": "5", "REDIS_TLS": "what"}
    for own in ({"TORIL_REDIS_HOST": "h"}, {"TORIL_REDIS_URL": "redis://h"}):
        settings = RedisSettings.from_environment({**others, **own})
        assert settings == RedisSettings(host="h")
    given = RedisSettings.from_environment({"TORIL_REDIS_PASSWORD": "canary", **others}, url="redis://h")
    assert given == RedisSettings(host="h")


def test_the_link_that_kubernetes_sets_is_no_port(caplog: pytest.LogCaptureFixture) -> None:
    """A Service called `redis` gives every pod of its namespace such a variable."""
    link = "tcp://10.96.0.7:6379"
    with caplog.at_level(logging.DEBUG, "toril.engine.redis.settings"):
        settings = RedisSettings.from_environment({"REDIS_HOST": "redis", "REDIS_PORT": link})
        assert RedisSettings.from_environment({"REDIS_URL": "redis://redis:7000", "REDIS_PORT": link}).port == 7000
    assert settings.port == 6379
    assert "REDIS_PORT is ignored" in caplog.text
    assert {record.levelno for record in caplog.records} == {logging.DEBUG}


@pytest.mark.parametrize(
    ("variable", "other"),
    [
        ("REDIS_HOST", "elsewhere"),
        ("REDIS_PORT", "7001"),
        ("REDIS_DB", "3"),
        ("REDIS_QUEUE_DB", "3"),
        ("REDIS_TLS", "true"),
        ("REDIS_USERNAME", "bob"),
        ("REDIS_PASSWORD", "canary-2"),
        ("TORIL_REDIS_DB", "3"),
        ("TORIL_REDIS_TLS", "on"),
    ],
)
def test_a_url_and_a_variable_that_says_otherwise_are_refused(variable: str, other: str) -> None:
    environment = {"REDIS_URL": "redis://ann:canary@cache:7000/1", variable: other}
    with pytest.raises(errors.SettingsError) as refusal:
        RedisSettings.from_environment(environment)
    assert variable in str(refusal.value)
    assert "REDIS_URL" in str(refusal.value).replace(variable, "")
    assert "canary" not in str(refusal.value)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://127.0.0.1:0", "the port must be between 1 and 65535"),
        ("unix://", "lacks the path of a unix socket"),
        ("redis:6379", "must begin with redis://"),
        ("rediss:6380", "must begin with redis://"),
        (
            "POSTGRESQL+asyncpg://a:5432,b:5432/jobs",
            "url: names a PostgreSQL, .*: give redis://host:port/db of the Redis",
        ),
    ],
)
def test_a_url_that_names_no_place_is_refused(url: str, words: str) -> None:
    with pytest.raises(errors.SettingsError, match=words):
        RedisSettings.from_url(url)


def test_a_url_and_variables_that_say_the_same_agree() -> None:
    settings = RedisSettings.from_environment(
        {
            "REDIS_URL": "redis://ann:pw@cache:7000/1",
            "REDIS_HOST": "Cache",
            "REDIS_PORT": "7000",
            "REDIS_DB": "1",
            "REDIS_TLS": "false",
            "REDIS_USERNAME": "ann",
            "REDIS_PASSWORD": "pw",
        }
    )
    assert settings.endpoint == "cache:7000/1"


def test_separate_credentials_complete_a_url_without() -> None:
    settings = RedisSettings.from_environment(
        {"TORIL_REDIS_URL": "redis://h", "TORIL_REDIS_USERNAME": "ann", "TORIL_REDIS_PASSWORD": "pw"}
    )
    assert (settings.username, settings.password) == ("ann", Secret("pw"))


# ---- TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    made = Certificates(tmp_path_factory.mktemp("tls") / "certificates")
    for name in ("own", "client"):
        made.issue(name, name)
    return made


@pytest.mark.parametrize("word", ["1", "true", "TRUE", "True ", "yes", "on", "On"])
@pytest.mark.parametrize("family", ["TORIL_REDIS", "REDIS"])
def test_words_that_switch_tls_on(word: str, family: str) -> None:
    assert RedisSettings.from_environment({f"{family}_HOST": "h", f"{family}_TLS": word}).tls is not None


@pytest.mark.parametrize("word", ["0", "false", "FALSE", "no", "off", "", " "])
def test_words_that_leave_tls_off(word: str) -> None:
    assert RedisSettings.from_environment({"TORIL_REDIS_HOST": "h", "TORIL_REDIS_TLS": word}).tls is None


@pytest.mark.parametrize("word", ["enabled", "y", "rediss", "2", "tls", "null", "disabled"])
@pytest.mark.parametrize("family", ["TORIL_REDIS", "REDIS"])
def test_other_words_about_tls_are_refused(word: str, family: str) -> None:
    """Read as no, they would send the password in the clear."""
    with pytest.raises(errors.SettingsError, match=f"{family}_TLS must be one of"):
        RedisSettings.from_environment({f"{family}_HOST": "h", f"{family}_TLS": word})


@pytest.mark.parametrize("name", ["CA_FILE", "CERT_FILE", "KEY_FILE", "SERVER_NAME"])
@pytest.mark.parametrize(
    "environment", [{"TORIL_REDIS_HOST": "h"}, {"TORIL_REDIS_URL": "redis://h"}, {"REDIS_HOST": "h"}]
)
def test_who_names_certificates_never_gets_a_plain_connection(name: str, environment: dict[str, str]) -> None:
    with pytest.raises(errors.SettingsError, match=f"TORIL_REDIS_TLS_{name} is set, but"):
        RedisSettings.from_environment({**environment, f"TORIL_REDIS_TLS_{name}": "/x"})
    switched_off = {**environment, "TORIL_REDIS_TLS": "false", f"TORIL_REDIS_TLS_{name}": "/x"}
    assert RedisSettings.from_environment(switched_off).tls is None


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({"TORIL_REDIS_HOST": "h", "TORIL_REDIS_TLS": "on"}, None),
        ({"REDIS_HOST": "h", "REDIS_TLS": "on"}, None),
        ({"TORIL_REDIS_URL": "rediss://h"}, None),
        ({"REDIS_URL": "rediss://h"}, None),
        ({}, "rediss://h"),
    ],
)
def test_certificates_hold_however_redis_is_named(
    certificates: Certificates, environment: dict[str, str], url: str | None
) -> None:
    certificates.issue("client", "client")
    files = {
        "TORIL_REDIS_TLS_CA_FILE": str(certificates.ca),
        "TORIL_REDIS_TLS_CERT_FILE": str(certificates.certificate("client")),
        "TORIL_REDIS_TLS_KEY_FILE": str(certificates.key("client")),
        "TORIL_REDIS_TLS_SERVER_NAME": "redis.internal",
    }
    tls = RedisSettings.from_environment({**environment, **files}, url=url).tls
    assert tls is not None
    assert [tls.ca_file, tls.cert_file, tls.key_file, tls.server_name] == list(files.values())


def test_what_the_files_hold_is_checked_at_once(certificates: Certificates, tmp_path: Path) -> None:
    own, own_key = certificates.certificate("own"), certificates.key("own")
    encrypted, no_pem = tmp_path / "encrypted", tmp_path / "text"
    key = serialization.load_pem_private_key(own_key.read_bytes(), None)
    encryption = serialization.BestAvailableEncryption(b"canary")
    encrypted.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))
    no_pem.write_text("canary")
    good = {"CA": certificates.ca, "CERT": own, "KEY": own_key}
    wrong = {
        "cannot be read": [("CA", tmp_path / "none"), ("CERT", tmp_path / "none"), ("KEY", tmp_path / "none")],
        "in PEM form": [("CA", no_pem), ("CA", own_key), ("CERT", no_pem), ("CERT", own_key), ("KEY", own)],
        "does not belong": [("KEY", certificates.key("client"))],
        "is encrypted": [("KEY", encrypted)],
    }
    for problem, files in wrong.items():
        for part, file in files:
            variables = {f"TORIL_REDIS_TLS_{each}_FILE": str(path) for each, path in {**good, part: file}.items()}
            with pytest.raises(errors.SettingsError, match=f"TORIL_REDIS_TLS_{part}_FILE .*{problem}") as refusal:
                RedisSettings.from_environment({"REDIS_URL": "rediss://h", **variables})
            assert "canary" not in str(refusal.value)


def test_a_key_without_a_certificate_is_refused(certificates: Certificates) -> None:
    variables = {"REDIS_URL": "rediss://h", "TORIL_REDIS_TLS_KEY_FILE": str(certificates.key("own"))}
    with pytest.raises(errors.SettingsError, match="TORIL_REDIS_TLS_KEY_FILE goes with a certificate"):
        RedisSettings.from_environment(variables)


def test_a_certificate_may_hold_its_key(certificates: Certificates, tmp_path: Path) -> None:
    own, both = certificates.certificate("own"), tmp_path / "both.pem"
    both.write_text(own.read_text() + certificates.key("own").read_text())
    variables = {"REDIS_URL": "rediss://h", "TORIL_REDIS_TLS_CERT_FILE": str(both)}
    assert RedisSettings.from_environment(variables).tls is not None
    with pytest.raises(errors.SettingsError, match=r"TORIL_REDIS_TLS_CERT_FILE .*private key"):
        RedisSettings.from_environment({**variables, "TORIL_REDIS_TLS_CERT_FILE": str(own)})


# ---- what is refused


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
        ({"TORIL_REDIS_HOST": "h", "TORIL_REDIS_PORT": "70000"}, "TORIL_REDIS_PORT"),
        ({"REDIS_HOST": "redis://:canary@h"}, "REDIS_HOST"),
        ({"REDIS_HOST": "h:6379"}, "REDIS_HOST"),
        ({"REDIS_DB": "canary"}, "REDIS_DB"),
        ({"REDIS_PORT": "canary"}, "REDIS_PORT"),
        ({"REDIS_URL": "redis://h/0?ssl_cert_reqs=none&x=canary"}, "REDIS_URL.*parameters"),
        ({"REDIS_URL": "redis://h/0?password=canary"}, "REDIS_URL.*parameters"),
        ({"REDIS_URL": "redis://:?canary@h/0"}, "REDIS_URL.*parameters"),
        ({"REDIS_URL": "redis://:#canary@h/0"}, "REDIS_URL.*parameters"),
        ({"REDIS_URL": "postgres://ann:canary@h/toril"}, "REDIS_URL.*PostgreSQL.*Redis only"),
        ({"TORIL_REDIS_URL": "postgresql://ann:canary@h/toril"}, "TORIL_REDIS_URL.*PostgreSQL.*Redis only"),
        ({"REDIS_URL": "redis+sentinel://:canary@h:26379/mymaster/0"}, "REDIS_URL.*Sentinel"),
        ({"REDIS_URL": "redis://:canary@h:1,i:2/0"}, "REDIS_URL.*one server"),
    ],
)
def test_mistakes_name_the_variable_and_never_its_value(environment: dict[str, str], named: str) -> None:
    with pytest.raises(errors.SettingsError, match=named) as refusal:
        RedisSettings.from_environment(environment)
    assert "canary" not in str(refusal.value)


def test_an_ipv6_address_is_a_host() -> None:
    assert RedisSettings.from_environment({"REDIS_HOST": "fd00::7"}).host == "fd00::7"
    assert (
        RedisSettings.from_environment({"REDIS_HOST": "[fd00::7]", "REDIS_URL": "redis://[fd00::7]"}).host == "fd00::7"
    )


def test_what_ioredis_needs_for_both_families_is_understood() -> None:
    assert RedisSettings.from_url("redis://h:1/2?family=0") == RedisSettings.from_url("redis://h:1?db=2")


@pytest.mark.requirement("T32")
def test_passwords_never_show() -> None:
    settings = RedisSettings.from_url("redis://ann:canary@h")
    assert "canary" not in f"{settings!r} {settings} {settings.endpoint} {settings.password!r}"
