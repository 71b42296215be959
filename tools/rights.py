"""Write the rights that each role needs in Redis into docs/security.md; they are made from the scripts.

`python tools/rights.py` writes them; a test compares.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from toril.engine import lua_loader

PAGE = Path(__file__).resolve().parent.parent / "docs" / "security.md"
BEGIN, END = "<!-- rights: made by tools/rights.py -->\n", "<!-- rights end -->\n"

CONNECTING = ("AUTH", "CLIENT|SETNAME", "EVAL", "EVALSHA", "HELLO", "PING", "SELECT")
"""Commands that every connection of ours sends."""

_WORD = re.compile(r"'([A-Z]{3,})'")
_NO_COMMANDS = frozenset(
    ("AFTER", "BEFORE", "COUNT", "KEEPTTL", "LEFT", "LIMIT", "MAXLEN", "NOPERM", "RIGHT", "WITHSCORES", "WITHVALUES",
     "WRONGTYPE")
)  # fmt: skip
_READS = frozenset(
    ("EXISTS", "GET", "HEXISTS", "HGET", "HGETALL", "HKEYS", "HLEN", "HMGET", "LINDEX", "LLEN", "LPOS", "LRANGE",
     "HSTRLEN", "PTTL", "SCARD", "SMEMBERS", "STRLEN", "TIME", "TYPE", "ZCARD", "ZCOUNT", "ZRANGE", "ZRANGEBYSCORE",
     "ZREVRANGE", "ZSCORE")
)  # fmt: skip
"""All that a script needs whose header says that it reads only."""


@dataclass(frozen=True, slots=True)
class Role:
    """The roles, and what each calls in Redis."""

    name: str
    words: str
    scripts: tuple[str, ...]
    plain: tuple[str, ...] = ()
    """Commands that are sent as such, not by a script."""

    @property
    def commands(self) -> list[str]:
        """All commands that the role needs, sorted."""
        found = {*CONNECTING, *self.plain}
        for script in self.scripts:
            found |= commands_of(script)
        return sorted(found)

    @property
    def rules(self) -> list[str]:
        """The rules of an ACL user, but for name, password and keys."""
        return ["resetchannels", "-@all", *(f"+{command.lower()}" for command in self.commands)]


_ADDING = ("add_flow", "add_jobs")
_READING = ("count_priorities", "read_children", "read_job", "read_jobs", "read_schedulers", "read_signals")
_SCHEDULERS = ("advance_schedulers", "read_schedulers", "remove_scheduler", "upsert_scheduler")

ROLES = (
    Role(
        "producer",
        "adds jobs and waits for their results",
        (*_ADDING, "read_children", "read_job"),
        ("HMGET", "TIME", "TYPE", "XRANGE", "XREAD", "XREVRANGE"),
    ),
    Role(
        "worker",
        "runs jobs, and what these ask for: children, progress, logs; carries job schedulers on",
        (
            *_ADDING, *_SCHEDULERS, "add_log", "adopt_jobs", "extend_locks", "finish_and_take", "promote_due",
            "read_children", "recover_stalled", "register_worker", "remove_children", "update_data",
            "update_progress",
        ),
        ("BZPOPMIN", "GET", "HMGET", "PTTL", "SET", "TIME", "TYPE", "XADD", "ZADD", "ZCARD"),
    ),
    Role(
        "operator",
        "reads the numbers that scale workers, flags workers, keeps defaults, limits and job schedulers",
        (*_SCHEDULERS, "flag_workers", "promote_due", "read_signals", "recover_stalled", "set_limits",
         "write_defaults"),
        ("HDEL", "HEXISTS", "HGETALL", "HMGET", "SCAN", "TIME", "TYPE", "ZCARD"),
    ),
    Role(
        "reader",
        "looks at queues: dashboards, monitoring",
        _READING,
        ("CLIENT|LIST", "EXISTS", "GET", "HEXISTS", "HGETALL", "HMGET", "LLEN", "LRANGE", "PTTL", "SCAN", "TIME",
         "TYPE", "XRANGE", "XREAD", "XREVRANGE", "ZCARD"),
    ),
    Role(
        "steering",
        "everything that `Queue` and `toril` can do to a queue, but running jobs",
        tuple(
            name for name in lua_loader.names()
            if name not in ("adopt_jobs", "extend_locks", "finish_and_take", "register_worker")
        ),
        ("CLIENT|LIST", "DEL", "EXISTS", "GET", "HDEL", "HEXISTS", "HGETALL", "HMGET", "LLEN", "LRANGE", "LTRIM",
         "PTTL", "SCAN", "SET", "TIME", "TYPE", "UNLINK", "XADD", "XRANGE", "XREAD", "XREVRANGE", "ZCARD"),
    ),
)  # fmt: skip


def commands_of(script: str) -> set[str]:
    """The commands that a script may send, those that undo among them."""
    source = lua_loader.load(script).source
    found = {*_WORD.findall(source)} - _NO_COMMANDS
    return found & _READS if "Reads only." in source else found


def render() -> str:
    """The part of the page, with its marks."""
    parts = [BEGIN]
    parts += [f"\n**{role.name}**: {role.words}.\n\n```text\n{_wrapped(role.rules)}\n```\n" for role in ROLES]
    return "".join([*parts, END])


def _wrapped(words: list[str], width: int = 116) -> str:
    lines = [""]
    for word in words:
        if len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


def with_rights(page: str) -> str:
    """The page with its part made anew."""
    return page[: page.index(BEGIN)] + render() + page[page.index(END) + len(END) :]


if __name__ == "__main__":
    PAGE.write_text(with_rights(PAGE.read_text()))
