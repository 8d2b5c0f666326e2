"""Addresses to listen on: without a token, only those of this machine."""

from __future__ import annotations

import ipaddress

from promoter_core import ConfigError


def is_loopback(host: str) -> bool:
    """Return whether only programs on this machine can reach an address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_exposed(host: str, token: str | None, *, public: bool, allow_actions: bool) -> None:
    """Raise ConfigError for pages that others could see or use without a token."""
    if token is not None:
        return
    if allow_actions:
        raise ConfigError("actions need a token: set PROMOTER_UI_TOKEN")
    if not public and not is_loopback(host):
        raise ConfigError(
            f"{host} is reachable from other machines, and the pages show jobs: set PROMOTER_UI_TOKEN, "
            "or make the pages public (--public, or ui:public=yes)"
        )
