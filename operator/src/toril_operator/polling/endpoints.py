"""Which addresses a Redis endpoint may have. A JobQueue's author names the endpoint; the operator connects to it."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from dataclasses import replace

from toril import errors
from toril.engine.redis.settings import RedisSettings
from toril.errors import RedisReason

SERVICE_SUFFIX = ".svc"
"""Ends the name of a Service that is looked up from another namespace; the cluster's own domain is left to DNS."""

_METADATA = frozenset(map(ipaddress.ip_address, ("fd00:ec2::254", "100.100.100.200")))
"""Addresses of clouds' metadata services that are not link-local."""

_EXPLANATIONS = {
    RedisReason.CONNECTION_REFUSED: "nobody answers there, or the name is not known",
    RedisReason.TIMEOUT: "no answer in time",
    RedisReason.AUTH_FAILED: "the user or the password is not accepted, or the user lacks a right",
    RedisReason.TLS_FAILED: "its certificate is not accepted, or it speaks no TLS",
    RedisReason.NOT_MASTER: "it is a read-only replica",
    RedisReason.LOADING: "it is still loading its data, or a script keeps it busy",
    RedisReason.NO_REPLICAS: "it refuses writes, since too few replicas follow it",
    RedisReason.CLUSTER_DOWN: "its cluster cannot serve this queue",
    RedisReason.IS_CLUSTER: "it is a Cluster: use the node of the queue's slot, and a prefix in braces such as {bull}",
    RedisReason.IS_SENTINEL: "it is a Sentinel, which holds no data: use the address of the primary",
    RedisReason.NOT_REDIS: "it is a PostgreSQL: Toril speaks Redis only",
    RedisReason.NO_SUCH_DATABASE: "it has no database of that number",
    RedisReason.OUT_OF_MEMORY: "it is out of memory",
    RedisReason.DISK_FAILED: "it refuses writes, since it could not write to its disk",
    RedisReason.PROTOCOL_ERROR: "it does not answer as a Redis does",
    RedisReason.ENDPOINT_REFUSED: "its address is loopback, link-local or the like, which this operator does not allow",
    RedisReason.WRONG_TYPE: "a key of this queue has a type that is not BullMQ's",
}


def explain(reason: RedisReason, settings: RedisSettings) -> str:
    """What is wrong with an endpoint, in our words: what a server says is shown to nobody."""
    return f"Redis {settings.endpoint}: {_EXPLANATIONS[reason]}"


def qualify(settings: RedisSettings, namespace: str) -> RedisSettings:
    """The same endpoint as workers in `namespace` mean it: `redis` is the Service of that name beside them.

    Without this the operator would look in its own namespace, and take the queues of two namespaces for one.
    """
    host = settings.host
    if settings.unix_socket is not None or host == "localhost" or "." in host or ":" in host:
        return settings
    tls = settings.tls and replace(settings.tls, server_name=settings.tls.server_name or host)
    return replace(settings, host=f"{host}.{namespace}{SERVICE_SUFFIX}", tls=tls)


async def resolve(settings: RedisSettings, *, allow_special: bool) -> RedisSettings:
    """The settings with the addresses that were looked at, so that the connection goes to no other.

    Raises:
        RedisUnavailableError: the name is not known.
        RedisError: one of the addresses is special and that is not allowed; reason EndpointRefused.
    """
    if settings.unix_socket is not None:
        if not allow_special:
            raise errors.RedisError(RedisReason.ENDPOINT_REFUSED, "a unix socket is not a Redis endpoint here")
        return settings
    found = await _look_up(settings.host, settings.port)
    if not found and settings.host.endswith(SERVICE_SUFFIX):
        # No Service: a name that means the same everywhere, as outside a cluster.
        found = await _look_up(settings.host.partition(".")[0], settings.port)
    if not found:
        message = f"the name of Redis {settings.endpoint} is not known"
        raise errors.RedisUnavailableError(RedisReason.CONNECTION_REFUSED, message)
    if not allow_special:
        for address in found:
            if is_special(address):
                raise errors.RedisError(RedisReason.ENDPOINT_REFUSED, f"the address {address} is refused")
    return replace(settings, addresses=found)


async def _look_up(host: str, port: int) -> tuple[str, ...]:
    """All addresses of a name; none when it is not known."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))


def is_special(address: str) -> bool:
    """Whether an address means this machine, this link, or a cloud's metadata."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    is_here = parsed.is_loopback or parsed.is_link_local or parsed.is_unspecified or parsed.is_multicast
    return is_here or parsed in _METADATA
