"""Which HTTP proxy leads to a server, by the environment's variables: the rules of Go, and so of kubectl. Pure.

`HTTPS_PROXY` (or `https_proxy`) holds for https servers, `HTTP_PROXY` for http ones. `NO_PROXY` is a list of: a name
(with the names below it), `.name` or `*.name` (only the names below it), an address, a network such as `10.96.0.0/12`,
each but a network also with `:port`, or `*`. The machine itself is never behind a proxy.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from toril import errors

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy."""

    url: str
    """Whole, with its password."""
    source: str
    """The variable or field that named it."""

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]} ({self.source})"

    def __repr__(self) -> str:
        return f"Proxy({str(self)!r})"


def from_environment(server: str, environment: Mapping[str, str]) -> Proxy | None:
    """The proxy for a server's URL; None = it is reached directly.

    Raises:
        SettingsError: the variable names something that is no HTTP proxy.
    """
    target = urlsplit(server)
    variable = f"{target.scheme.upper()}_PROXY"
    source, given = _first(environment, variable)
    if not given or _is_direct(target, _first(environment, "NO_PROXY")[1]):
        return None
    return parse(given, source)


def parse(url: str, source: str) -> Proxy:
    """Check a proxy's URL; without a scheme it is http.

    Raises:
        SettingsError: it is not an HTTP proxy's.
    """
    text = url.strip() if "://" in url else f"http://{url.strip()}"
    try:
        parts = urlsplit(text)
        is_proxy = parts.scheme in _DEFAULT_PORTS and bool(parts.hostname) and parts.port != 0 and " " not in text
    except ValueError:
        is_proxy = False
    if not is_proxy:
        raise errors.SettingsError(f"{source}: must be the URL of an HTTP proxy, http://host:port or https://host:port")
    return Proxy(text, source)


def _first(environment: Mapping[str, str], variable: str) -> tuple[str, str]:
    """Name and value of the variable in capitals, else in small letters; an empty value when neither is set."""
    for name in (variable, variable.lower()):
        if text := environment.get(name, "").strip():
            return name, text
    return variable, ""


def _is_direct(target: SplitResult, no_proxy: str) -> bool:
    """Whether a server is reached without the proxy."""
    host = (target.hostname or "").lower()
    port = target.port or _DEFAULT_PORTS.get(target.scheme)
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    entries = [entry for text in no_proxy.lower().split(",") if (entry := text.strip())]
    return any(entry == "*" or _matches(entry, host, address, port) for entry in entries)


def _matches(entry: str, host: str, address: Address | None, port: int | None) -> bool:
    """Whether one entry of `NO_PROXY` means this server."""
    if "/" in entry:
        return address is not None and _is_within(address, entry)
    name, wanted_port = _split_port(entry)
    if wanted_port is not None and wanted_port != str(port):
        return False
    if (wanted := _address(name)) is not None:
        return wanted == address
    name = name.removeprefix("*") if name.startswith("*.") else name
    if name.startswith("."):
        return host.endswith(name)
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _split_port(entry: str) -> tuple[str, str | None]:
    """`host:port`, `[address]:port`, or either alone."""
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        return name, rest.removeprefix(":") or None
    name, colon, port = entry.rpartition(":")
    if not colon or ":" in name:
        # No port, or an IPv6 address without brackets.
        return entry, None
    return name, port or None


def _address(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _is_within(address: Address, network: str) -> bool:
    try:
        return address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
