"""Everything that a server holds, as plain values: what a comparison before and after goes by.

`DUMP` is no such thing: some servers write the same value in other bytes after a mere read.
"""

from __future__ import annotations

from typing import Any


def contents(client: Any, pattern: str = "*") -> dict[Any, Any]:
    """Key → its value, for every key that matches: text, dict, list, set, members with scores, entries with ids."""
    return {key: _value(client, key) for key in sorted(client.scan_iter(pattern))}


def _value(client: Any, key: Any) -> Any:
    kind = client.type(key)
    match kind if isinstance(kind, str) else kind.decode():
        case "hash":
            return client.hgetall(key)
        case "list":
            return client.lrange(key, 0, -1)
        case "set":
            return client.smembers(key)
        case "zset":
            return client.zrange(key, 0, -1, withscores=True)
        case "stream":
            return client.xrange(key)
        case _:
            return client.get(key)
