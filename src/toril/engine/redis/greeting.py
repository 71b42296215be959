"""The first commands of every connection, and what the answers say about the server. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from toril import errors
from toril.engine.redis import replies
from toril.engine.redis.secret import Secret
from toril.engine.redis.settings import RedisSettings
from toril.errors import RedisReason

Command = tuple[str | int | Secret, ...]


def build_greeting(settings: RedisSettings, client_name: str | None) -> list[Command]:
    """Log in, ask what the server is, choose the database, set the name.

    All of them are sent at once. `HELLO` comes before `SELECT`, which a Sentinel does not know.
    """
    commands: list[Command] = []
    if settings.password is not None:
        user = (settings.username,) if settings.username else ()
        commands.append(("AUTH", *user, settings.password))
    commands.append(("HELLO",))
    if settings.db:
        commands.append(("SELECT", settings.db))
    if client_name:
        commands.append(("CLIENT", "SETNAME", client_name))
    commands.append(("PING",))
    return commands


def revealed(command: Command) -> list[str | int]:
    """The command as it is sent. Until then a traceback that shows variables shows no password."""
    return [part.reveal() if isinstance(part, Secret) else part for part in command]


def refusal(commands: Sequence[Command], outcomes: Sequence[Any], endpoint: str) -> errors.RedisUnavailableError | None:
    """Why the connection cannot be used, or None.

    Args:
        outcomes: for each command, as far as they came, its reply or the error in its place.
    """
    hello = next((outcome for command, outcome in zip(commands, outcomes, strict=False) if command[0] == "HELLO"), None)
    if _mode(hello) == b"sentinel":
        message = f"Redis {endpoint} is a Sentinel, which holds no data: give the address of the primary"
        return errors.RedisUnavailableError(RedisReason.IS_SENTINEL, message)
    # Servers before Redis 6, some proxies, and users without that right refuse `HELLO` and go on.
    problem = next((outcome for outcome in outcomes if isinstance(outcome, Exception) and outcome is not hello), None)
    if problem is None:
        return None
    if isinstance(problem, errors.RedisError) and isinstance(hello, replies.ServerReply):
        # The server did not go on: it has refused the connection, in the place of the first reply.
        problem = hello
    error = problem if isinstance(problem, errors.RedisError) else replies.from_server(problem, endpoint)
    return errors.RedisUnavailableError(error.reason, str(error))


def _mode(hello: Any) -> Any:
    """`mode` in the reply to `HELLO`, which is a list of names and values."""
    if not isinstance(hello, list) or b"mode" not in hello[::2]:
        return None
    at = 2 * hello[::2].index(b"mode") + 1
    return hello[at] if at < len(hello) else None
