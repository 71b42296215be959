"""What the command line's flags say."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The command line's flags; see `main.build_parser`."""

    namespaces: tuple[str, ...] = ()
    """Namespaces to look after; none = all of them."""
    worker_image: str
    worker_image_pull_policy: str | None = None
    http_port: int = 8080
    allow_special_addresses: bool = False
    kubeconfig: str | None = None
