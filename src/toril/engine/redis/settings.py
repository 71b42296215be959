"""Where Redis is and how to get in: from a URL or the environment. Passwords never show."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from toril import errors
from toril.engine.redis.secret import Secret
from toril.engine.redis.tls import TLS_FILES, TlsMaterialError, TlsSettings
from toril.jobs import hints

DEFAULT_URL = "redis://localhost:6379"
DEFAULT_PORT = 6379

logger = logging.getLogger(__name__)


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

    @property
    def certificate_name(self) -> str:
        """The name that the server's certificate must carry."""
        return (self.tls and self.tls.server_name) or self.host

    @classmethod
    def from_url(cls, url: str, field: str = "url") -> RedisSettings:
        """Read `redis://[user:password@]host[:port][/db]`, `rediss://…` (TLS) or `unix:///path[?db=n]`.

        Raises:
            SettingsError: not such a URL; the message never holds the URL, since it may hold a password.
        """
        if hint := hints.of_url(url):
            raise errors.SettingsError(f"{field}: {hint}")
        try:
            parts = urlsplit(url.strip())
            port = DEFAULT_PORT if parts.port is None else parts.port
        except ValueError:
            raise errors.SettingsError(f"{field}: not a Redis URL (redis://host:port/db, of one server)") from None
        # Without the slashes, `redis:6379` would be database 6379 of localhost.
        _refuse_scheme(parts.scheme if parts.scheme == "unix" or "://" in url else "", field)
        if port == 0:
            raise errors.SettingsError(f"{field}: the port must be between 1 and 65535")
        if parts.scheme == "unix" and not parts.path:
            raise errors.SettingsError(f"{field}: lacks the path of a unix socket (unix:///path)")
        query = parse_qs(parts.query, keep_blank_values=True)
        if parts.fragment or not _is_understood(query):
            # Not even the names are shown: they may be the rest of a password that holds `?` or `#`.
            raise errors.SettingsError(
                f"{field}: holds parameters other than db; in a password, ? is written %3F and # is written %23"
            )
        path = "" if parts.scheme == "unix" else parts.path.strip("/")
        settings = cls(
            host=parts.hostname or "localhost",
            port=port,
            db=_whole(path or query.get("db", ["0"])[0], f"{field}: the database"),
            username=unquote(parts.username) if parts.username else None,
            password=Secret(unquote(parts.password)) if parts.password else None,
            tls=TlsSettings() if parts.scheme == "rediss" else None,
        )
        return replace(settings, unix_socket=unquote(parts.path)) if parts.scheme == "unix" else settings

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str], *, url: str | None = None, field: str = "url"
    ) -> RedisSettings:
        """Read where Redis is from the first of these that is set; without any: `redis://localhost:6379`.

        1. `url`, which a flag or the caller gives;
        2. `TORIL_REDIS_URL`;
        3. `TORIL_REDIS_HOST` with `_PORT _DB _USERNAME _PASSWORD _TLS`;
        4. `REDIS_URL`;
        5. `REDIS_HOST` with `REDIS_PORT REDIS_QUEUE_DB REDIS_DB REDIS_USERNAME REDIS_PASSWORD REDIS_TLS`.

        A URL is taken whole: a separate variable may add a user or a password that the URL lacks, and may not say
        otherwise. `TORIL_REDIS_TLS_CA_FILE`, `_CERT_FILE`, `_KEY_FILE` and `_SERVER_NAME` hold for each of them with
        TLS; what these files hold is checked here.

        Args:
            field: what `url` is called in errors.

        Raises:
            SettingsError: a variable is wrong or contradicts another one; names them, never their values.
        """
        if url:
            settings = cls.from_url(url, field)
            return _with_tls_files(settings, environ) if settings.tls else settings
        source = next((name for name in ("TORIL_REDIS_URL", "TORIL_REDIS_HOST", "REDIS_URL") if environ.get(name)), "")
        # Beside an address of ours, `REDIS_…` is about another server, whose password that one must not get.
        given = _Given(environ, (_TORIL,) if source.startswith("TORIL_") else (_TORIL, _PLAIN))
        if source.endswith("_URL"):
            return _completed(cls.from_url(environ[source], source), source, given, environ)
        has_tls = given.flag("tls")
        settings = cls(
            host=given.host() or "localhost",
            port=given.port() or DEFAULT_PORT,
            db=given.whole("db") or 0,
            username=given.text("username"),
            password=given.password(),
            tls=TlsSettings() if has_tls else None,
        )
        if has_tls is None:
            _refuse_tls_files(environ, f"{given.name('tls')} is not set to true")
        return _with_tls_files(settings, environ) if has_tls else settings


class _Family(NamedTuple):
    """The names of the separate variables, the first that is set counts."""

    host: Sequence[str]
    port: Sequence[str]
    db: Sequence[str]
    username: Sequence[str]
    password: Sequence[str]
    tls: Sequence[str]


_TORIL = _Family(
    host=["TORIL_REDIS_HOST"], port=["TORIL_REDIS_PORT"], db=["TORIL_REDIS_DB"],
    username=["TORIL_REDIS_USERNAME"], password=["TORIL_REDIS_PASSWORD"], tls=["TORIL_REDIS_TLS"],
)  # fmt: skip
_PLAIN = _Family(
    host=["REDIS_HOST"], port=["REDIS_PORT"], db=["REDIS_QUEUE_DB", "REDIS_DB"],
    username=["REDIS_USERNAME"], password=["REDIS_PASSWORD"], tls=["REDIS_TLS"],
)  # fmt: skip

_WORDS = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}
"""What a switch may say, in small or capital letters."""


class _Given:
    """What separate variables say. Every method answers None when none of the variables is set."""

    def __init__(self, environ: Mapping[str, str], families: Sequence[_Family]) -> None:
        self._environ = environ
        self._families = families

    def name(self, part: str) -> str:
        """The variable that counts; the first of all when none is set."""
        names: list[str] = [name for family in self._families for name in getattr(family, part)]
        return next((name for name in names if self._is_set(name)), names[0])

    def text(self, part: str) -> str | None:
        name = self.name(part)
        return self._environ[name].strip() if self._is_set(name) else None

    def password(self) -> Secret | None:
        text = self._environ.get(self.name("password"), "")
        # A secret file often ends with a newline that is not part of the password.
        return Secret(text.rstrip("\r\n")) if text else None

    def host(self) -> str | None:
        host = self.text("host")
        if host is None:
            return None
        host = host.removeprefix("[").removesuffix("]")
        if any(char in host for char in "/@ ") or host.count(":") == 1:
            raise errors.SettingsError(f"{self.name('host')} must be a name or an address, without port or scheme")
        return host

    def port(self) -> int | None:
        port = self.whole("port")
        if port is not None and not 1 <= port <= 65535:
            raise errors.SettingsError(f"{self.name('port')} must be between 1 and 65535")
        return port

    def whole(self, part: str) -> int | None:
        text = self.text(part)
        return None if text is None else _whole(text, self.name(part))

    def flag(self, part: str) -> bool | None:
        text = self.text(part)
        if text is None:
            return None
        if (found := _WORDS.get(text.lower())) is None:
            raise errors.SettingsError(f"{self.name(part)} must be one of {', '.join(_WORDS)}")
        return found

    def _is_set(self, name: str) -> bool:
        text = self._environ.get(name, "").strip()
        if name in (*_TORIL.port, *_PLAIN.port) and text.startswith("tcp://"):
            logger.debug("%s is ignored: it is a link that Kubernetes sets for a Service of that name", name)
            return False
        return bool(text)


def _completed(settings: RedisSettings, source: str, given: _Given, environ: Mapping[str, str]) -> RedisSettings:
    """Settings of a URL, with the credentials that it lacks.

    Args:
        source: the variable that holds the URL.
    """
    has_tls, host = given.flag("tls"), given.host()
    is_socket = settings.unix_socket is not None
    said = {
        "host": (host and host.lower(), None if is_socket else settings.host),
        "port": (given.port(), None if is_socket else settings.port),
        "db": (given.whole("db"), settings.db),
        "tls": (has_tls, settings.tls is not None),
        "username": (settings.username and given.text("username"), settings.username),
        "password": (settings.password and given.password(), settings.password),
    }
    for part, (separate, in_url) in said.items():
        if separate is not None and separate != in_url:
            raise errors.SettingsError(
                f"{given.name(part)} says otherwise than {source}, and a URL is taken whole: remove one of the two"
            )
    if settings.tls is None and has_tls is None:
        _refuse_tls_files(environ, f"{source} asks for no TLS (rediss://)")
    settings = replace(
        settings,
        username=settings.username or given.text("username"),
        password=settings.password or given.password(),
    )
    return _with_tls_files(settings, environ) if settings.tls else settings


def _refuse_tls_files(environ: Mapping[str, str], why: str) -> None:
    """Whoever names a certificate means TLS: nothing is sent without."""
    for name in TLS_FILES.values():
        if environ.get(name):
            raise errors.SettingsError(f"{name} is set, but {why}")


def _with_tls_files(settings: RedisSettings, environ: Mapping[str, str]) -> RedisSettings:
    given: dict[str, Any] = {field: environ[name] for field, name in TLS_FILES.items() if environ.get(name)}
    if not given:
        return settings
    tls = replace(TlsSettings(), **given)
    try:
        tls.context()
    except TlsMaterialError as problem:
        field = f"{problem.part}_file"
        raise errors.SettingsError(f"{TLS_FILES[field if field in given else 'cert_file']} {problem}") from None
    return replace(settings, tls=tls)


def _refuse_scheme(scheme: str, field: str) -> None:
    if scheme in ("redis", "rediss", "unix"):
        return
    if "sentinel" in scheme:
        raise errors.SettingsError(
            f"{field}: names a Sentinel, which Toril cannot ask; give the address of the primary, as redis://host:port"
        )
    raise errors.SettingsError(f"{field}: must begin with redis://, rediss:// or unix://")


def _is_understood(query: Mapping[str, Sequence[str]]) -> bool:
    """`family=0` is what ioredis needs to look for addresses of both families, which Toril always does."""
    return all(name == "db" or (name == "family" and values == ["0"]) for name, values in query.items())


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


def _whole(text: str, what: str) -> int:
    try:
        number = int(text)
    except ValueError:
        raise errors.SettingsError(f"{what} must be a whole number") from None
    if number < 0:
        raise errors.SettingsError(f"{what} must not be negative")
    return number
