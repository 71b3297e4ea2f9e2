"""Real servers for tests, and the one rule for machines that lack them."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path
from typing import Final

import pytest

#: Binary -> Debian package.
PACKAGES: Final = {
    "mosquitto": "mosquitto",
    "mosquitto_sub": "mosquitto-clients",
    "mosquitto_pub": "mosquitto-clients",
    "influxd": "influxdb",
    "nginx": "nginx-light",
    "postgres": "postgresql",
    "initdb": "postgresql",
    "chromium": "chromium",
}
MISSING: Final = "missing server:"  # how the reason of such a skip begins; conftest counts them
_SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def find(binary: str) -> Path | None:
    """Return the path of a program; also looks where only root's PATH does."""
    found = shutil.which(binary) or shutil.which(binary, path=_SYSTEM_PATH)
    return Path(found) if found else None


def require(binary: str) -> Path:
    """Return the path of a server's program, or skip the test saying why; fail when ``CI=true``."""
    path = find(binary)
    if path:
        return path
    reason = f"{MISSING} {binary} is not installed (Debian package {PACKAGES.get(binary, binary)})"
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nothing listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
