"""Where Redis is and how to get in: from a URL or the environment. Passwords never show."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit

from toril import errors

DEFAULT_URL = "redis://localhost:6379"


class Secret:
    """Text that shows as `***` wherever it is printed; `reveal()` gives it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """Server certificates are always verified; TLS 1.2 is the oldest accepted."""

    ca_file: str | None = None
    """PEM file of the authorities to trust; None = the system's."""
    cert_file: str | None = None
    key_file: str | None = None
    server_name: str | None = None
    """Name the certificate must carry; None = the host."""

    def context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.cert_file:
            context.load_cert_chain(self.cert_file, self.key_file)
        return context


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """One Redis server and database. Equal settings mean the same endpoint and identity."""

    host: str = "localhost"
    port: int = 6379
    db: int = 0
    username: str | None = None
    password: Secret | None = None
    tls: TlsSettings | None = None
    unix_socket: str | None = None
    """Path of a unix socket; host and port are then not used."""
    addresses: tuple[str, ...] = field(default=(), compare=False)
    """Already checked IP addresses to connect to instead of resolving `host` anew."""

    @property
    def endpoint(self) -> str:
        """Server and database for people; holds no credentials."""
        return f"{self.unix_socket or f'{self.host}:{self.port}'}/{self.db}"

    @classmethod
    def from_url(cls, url: str, field: str = "url") -> RedisSettings:
        """Read `redis://[user:password@]host[:port][/db]`, `rediss://…` (TLS) or `unix:///path[?db=n]`.

        Raises:
            SettingsError: not such a URL; the message never holds the URL, since it may hold a password.
        """
        try:
            parts = urlsplit(url.strip())
            port = parts.port or 6379
        except ValueError:
            raise errors.SettingsError(f"{field}: not a Redis URL (redis://host:port/db)") from None
        if parts.scheme not in ("redis", "rediss", "unix"):
            raise errors.SettingsError(f"{field}: must begin with redis://, rediss:// or unix://")
        if parts.scheme == "unix":
            database = parse_qs(parts.query).get("db", ["0"])[0]
        else:
            database = parts.path.strip("/") or parse_qs(parts.query).get("db", ["0"])[0]
        settings = cls(
            host=parts.hostname or "localhost",
            port=port,
            db=_whole(database, f"{field}: the database"),
            username=unquote(parts.username) if parts.username else None,
            password=Secret(unquote(parts.password)) if parts.password else None,
            tls=TlsSettings() if parts.scheme == "rediss" else None,
        )
        return replace(settings, unix_socket=unquote(parts.path)) if parts.scheme == "unix" else settings

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> RedisSettings:
        """Read `TORIL_REDIS_URL`, or `TORIL_REDIS_HOST` with `_PORT _DB _USERNAME _PASSWORD _TLS`, or `REDIS_URL`.

        `TORIL_REDIS_USERNAME` and `TORIL_REDIS_PASSWORD` also complete a URL that has none. Without any of them:
        `redis://localhost:6379`.

        Raises:
            SettingsError: a variable is wrong; names it, never its value.
        """
        username, password = environ.get("TORIL_REDIS_USERNAME"), environ.get("TORIL_REDIS_PASSWORD")
        if url := environ.get("TORIL_REDIS_URL"):
            settings = cls.from_url(url, "TORIL_REDIS_URL")
        elif host := environ.get("TORIL_REDIS_HOST"):
            settings = cls(
                host=host,
                port=_whole(environ.get("TORIL_REDIS_PORT") or "6379", "TORIL_REDIS_PORT"),
                db=_whole(environ.get("TORIL_REDIS_DB") or "0", "TORIL_REDIS_DB"),
                tls=_tls_from(environ),
            )
        elif url := environ.get("REDIS_URL"):
            settings = cls.from_url(url, "REDIS_URL")
        else:
            settings = cls.from_url(DEFAULT_URL)
        if username:
            settings = replace(settings, username=username)
        if password:
            # A secret file often ends with a newline that is not part of the password.
            settings = replace(settings, password=Secret(password.rstrip("\r\n")))
        return settings


def paused_layout_from(environ: Mapping[str, str]) -> Literal["5", "6"]:
    """The layout of paused queues that `TORIL_PAUSED_LAYOUT` names; without it `6`.

    Raises:
        SettingsError: it names another.
    """
    match environ.get("TORIL_PAUSED_LAYOUT") or "6":
        case "5":
            return "5"
        case "6":
            return "6"
    raise errors.SettingsError("TORIL_PAUSED_LAYOUT must be 5 or 6: 5 where BullMQ 5 and 6 both pause the queue")


def _tls_from(environ: Mapping[str, str]) -> TlsSettings | None:
    if environ.get("TORIL_REDIS_TLS", "").lower() not in ("1", "true", "yes"):
        return None
    return TlsSettings(
        ca_file=environ.get("TORIL_REDIS_TLS_CA_FILE") or None,
        cert_file=environ.get("TORIL_REDIS_TLS_CERT_FILE") or None,
        key_file=environ.get("TORIL_REDIS_TLS_KEY_FILE") or None,
        server_name=environ.get("TORIL_REDIS_TLS_SERVER_NAME") or None,
    )


def _whole(text: str, what: str) -> int:
    try:
        number = int(text)
    except ValueError:
        raise errors.SettingsError(f"{what} must be a whole number") from None
    if number < 0:
        raise errors.SettingsError(f"{what} must not be negative")
    return number
