"""Small status files: what a process says of itself to the page and to /metrics."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import msgspec


def status_path(data_dir: Path, process: str) -> Path:
    """Return where `process` keeps its status."""
    return data_dir / "status" / f"{process}.json"


def write_status(data_dir: Path, process: str, status: dict[str, Any]) -> bool:
    """Replace the status of `process` as a whole; return whether that worked.

    A status that cannot be written (a full disk) is no reason to stop the work it reports.
    """
    path = status_path(data_dir, process)
    new = path.with_suffix(f".{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.write_bytes(msgspec.json.encode(status))
        new.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        return False
    return True


def read_status(data_dir: Path, process: str) -> dict[str, Any]:
    """Return the last status of `process`, empty when there is none that can be read."""
    try:
        found: dict[str, Any] = msgspec.json.decode(status_path(data_dir, process).read_bytes(), type=dict)
    except (OSError, msgspec.DecodeError):
        return {}
    return found
