"""Whether the network answers, known in moments: without one, a client that tries again and again costs half a minute."""

from __future__ import annotations

import os
import socket
import threading
import time
import urllib.parse
import urllib.request
from functools import lru_cache

_CONNECT = 3.0  # seconds for a connection; the hub's client tries five times, for 23 s without a network
_REMEMBERED = 10.0  # seconds that the answer holds for
_PORTS = {"https": 443, "http": 80, "socks5": 1080, "socks5h": 1080}


def endpoint() -> str:
    """The hub's address: `$HF_ENDPOINT`, by default the public one."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def hub_reachable() -> bool:
    """Whether the hub takes connections, known within three seconds; False where `HF_HUB_OFFLINE` forbids to ask."""
    return not told_offline() and reachable(endpoint())


def told_offline() -> bool:
    """Whether the user forbids to ask the hub."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def reachable(address: str) -> bool:
    """Whether the server of that address takes connections, or the proxy that stands before it."""
    parts = urllib.parse.urlsplit(address)
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all") or ""
    if proxy and not urllib.request.proxy_bypass(parts.hostname or ""):
        parts = urllib.parse.urlsplit(proxy if "//" in proxy else f"//{proxy}")
    port = parts.port or _PORTS.get(parts.scheme, 80)
    return _connects(parts.hostname or "", port, int(time.monotonic() // _REMEMBERED))


@lru_cache(maxsize=16)
def _connects(host: str, port: int, _when: int) -> bool:
    """Whether a connection is taken in time; the look-up of the name, which knows no limit, runs beside."""
    taken: list[bool] = []

    def attempt() -> None:
        try:
            with socket.create_connection((host, port), _CONNECT):
                taken.append(True)
        except OSError:
            return

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(_CONNECT)
    return bool(taken)
