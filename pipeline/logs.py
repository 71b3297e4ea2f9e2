"""Log lines of all processes alike, to standard error: text for people or JSON for collectors."""

from __future__ import annotations

import logging
import sys
import time
from typing import Literal

import msgspec


class _Text(logging.Formatter):
    """``2026-11-24T06:00:00.123Z WARNING ingest: text``."""

    def __init__(self, process: str) -> None:
        super().__init__(
            f"%(asctime)s.%(msecs)03dZ %(levelname)s {process}: %(message)s", "%Y-%m-%dT%H:%M:%S"
        )
        self.converter = time.gmtime


class _Json(logging.Formatter):
    """One JSON object per line."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "t": int(record.created * 1000),
            "level": record.levelname.lower(),
            "process": self._process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def setup(process: str, level: str, style: Literal["text", "json"]) -> None:
    """Send the log lines of this process to standard error.

    Parameters
    ----------
    process : str
        What they are labelled with: ``ingest``, ``worker-0``.
    level : str
        Least severe level shown, as in ``service.log_level``.
    style : {"text", "json"}
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json(process) if style == "json" else _Text(process))
    root = logging.getLogger("chargestream")
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    root.propagate = False
