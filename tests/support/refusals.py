"""Scripts of which Redis refuses one command: test builds of them, users who lack a right, and what is stored after."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from toril.engine import lua_loader
from toril.engine.redis.connection import Call
from toril.engine.redis.settings import RedisSettings
from toril.engine.redis.sync_connection import SyncConnection

REFUSED, CALLS, SITES = "test:refused", "test:calls", "test:sites"
"""Keys of a test build: which call it refuses (0 = none), the calls that it made, the places that it reached."""

_SITE = re.compile(r"(?<![\w.:'\"-])(?<!function )((?:redis\.)?p?call|change|try|call_in_batches|delete)\((?!\.\.\.\))")
_UNDOING = re.compile(r"^local function (?:insert_at|put_at_ranks|undo_taking)\b.*?^end$", re.MULTILINE | re.DOTALL)
"""Functions that only undo: they run when something is refused."""
_HEAD = f"""
local real, number = redis, 0
local refused = tonumber(real.call('GET', '{REFUSED}') or 0)
local function noted_call(how, ...)
  number = number + 1
  local parts = {{...}}
  for index = 1, #parts do parts[index] = tostring(parts[index]) end
  real.call('RPUSH', '{CALLS}', cjson.encode(parts))
  if number ~= refused then return how(...) end
  if how == real.pcall then return {{err = 'ERR the test refuses this call'}} end
  error('ERR the test refuses this call', 0)
end
local redis = setmetatable({{
  call = function(...) return noted_call(real.call, ...) end,
  pcall = function(...) return noted_call(real.pcall, ...) end,
}}, {{__index = real}})
local function site_at(site, how) real.call('SADD', '{SITES}', site) return how end
"""


def sites(script: str) -> Iterator[re.Match[str]]:
    """The places in a script from which it calls Redis, without those that only undo."""
    source = lua_loader.load(script).source
    source = source[: source.index("-- The tail of every script")]
    undoing = [found.span() for found in _UNDOING.finditer(source)]
    for found in _SITE.finditer(source):
        line = source[source.rfind("\n", 0, found.start()) + 1 : found.start()]
        if "--" not in line and not any(first <= found.start() < last for first, last in undoing):
            yield found


def text_of(found: re.Match[str]) -> str:
    """A place as it can be compared and read: its line."""
    start = found.string.rfind("\n", 0, found.start()) + 1
    number = found.string.count("\n", 0, found.start()) + 1
    return f"{number}: {found.string[start : found.string.index(chr(10), start)].strip()}"


def build_of(script: str) -> str:
    """A script that notes its calls and the places from which it made them, and refuses a chosen one."""
    source = lua_loader.load(script).source
    for found in reversed(list(sites(script))):
        place = json.dumps(f"{script} {text_of(found)}")
        source = f"{source[: found.start()]}site_at({place}, {found.group(1)})({source[found.end() :]}"
    return _HEAD + source


_DUMP = """
local found = {}
for index, key in ipairs(redis.call('KEYS', '*')) do
  local kind, value = redis.call('TYPE', key).ok, nil
  if kind == 'string' then value = redis.call('GET', key)
  elseif kind == 'hash' then value = redis.call('HGETALL', key)
  elseif kind == 'list' then value = redis.call('LRANGE', key, 0, -1)
  elseif kind == 'set' then value = redis.call('SMEMBERS', key)
  elseif kind == 'zset' then value = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  else value = redis.call('XRANGE', key, '-', '+') end
  found[index] = {key, kind, value, redis.call('PTTL', key)}
end
return found
"""
_LIFETIME_MS = 600_000


def pairs_of(flat: Sequence[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


class Server:
    """An empty database of a test server: what is stored there, and calls of scripts by the user that a test makes."""

    def __init__(self, url: str, user: str) -> None:
        settings = RedisSettings.from_url(url)
        where: dict[str, Any] = {"host": settings.host, "port": settings.port, "db": settings.db}
        self.raw: Any = redis.Redis(**where, decode_responses=True)
        self._binary: Any = redis.Redis(**where)
        self.user = user
        self.make_user("~*", "+@all")
        self.limited = SyncConnection(RedisSettings.from_url(url.replace("://", f"://{user}:secret@")))

    def make_user(self, *rules: str) -> None:
        """Let `limited` have these rights alone."""
        self.raw.execute_command("ACL", "SETUSER", self.user, "reset", "on", ">secret", *rules)

    def denials(self) -> int:
        """How often Redis has refused a command or a key to `user` so far, by its `ACL LOG`."""
        entries = self.raw.acl_log(100)
        return sum(int(entry["count"]) for entry in entries if entry["username"] == self.user)

    def close(self) -> None:
        self.limited.close()
        self.raw.execute_command("ACL", "DELUSER", self.user)
        self.raw.close()
        self._binary.close()

    def run_build(self, source: str, call: Call[Any]) -> Any:
        """Run a test build of a script. Raises redis.ResponseError."""
        return self.raw.execute_command("EVAL", source, len(call.keys), *call.keys, *call.args)

    def save(self) -> list[tuple[bytes, int, bytes]]:
        keys = self._binary.keys("*")
        with self._binary.pipeline() as together:
            for key in keys:
                together.pttl(key).dump(key)
            replies = together.execute()
        return [(key, max(0, replies[at * 2]), replies[at * 2 + 1]) for at, key in enumerate(keys)]

    def restore(self, saved: list[tuple[bytes, int, bytes]]) -> None:
        with self._binary.pipeline() as together:
            together.flushdb()
            for key, lifetime_ms, dumped in saved:
                together.restore(key, lifetime_ms, dumped)
            together.execute()

    def stored(self) -> dict[str, Any]:
        """All that is stored but for wake-ups that are there anyway, `stalled`, and the order in `active`; with the
        lifetimes of keys, in minutes."""
        found: dict[str, Any] = {}
        for key, kind, value, left_ms in self.raw.eval(_DUMP, 0):
            name = key.rpartition(":")[2]
            if key.startswith("test:") or name == "stalled" or value == []:
                continue
            if name == "marker":
                value = "a token"
            elif kind in ("hash", "zset"):
                value = pairs_of(value)
            elif kind == "stream":
                value = [pairs_of(fields) for _, fields in value]
            elif kind == "set" or name == "active":
                value = sorted(value)
            # How long a lock lives is its holder's to renew.
            found[key] = (value, left_ms >= 0 if name == "lock" else -(-left_ms // _LIFETIME_MS))
        return found


@dataclass(frozen=True, slots=True)
class Made:
    """What a script did when nothing was refused."""

    calls: list[list[str]]
    """Commands with their arguments, in order."""
    sites: set[str]

    @property
    def commands(self) -> list[str]:
        return sorted({call[0].upper() for call in self.calls})

    @property
    def keys(self) -> list[str]:
        return sorted({key for call in self.calls for key in keys_of(call)})


def keys_of(call: list[str]) -> list[str]:
    """The keys of a command."""
    match call[0].upper():
        case "TIME":
            return []
        case "MGET" | "EXISTS" | "DEL" | "UNLINK":
            return call[1:]
        case "LMOVE" | "RENAME":
            return call[1:3]
        case _:
            return call[1:2]


def made(server: Server) -> Made:
    return Made([json.loads(call) for call in server.raw.lrange(CALLS, 0, -1)], server.raw.smembers(SITES))


def pattern_of(key: str) -> str:
    """The key pattern of an ACL rule that fits this key alone."""
    return "~" + re.sub(r"([*?\[\]\\^])", r"\\\1", key)
