"""What every long-running process does first: configuration, log lines, signals."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

from . import config as configuration
from . import logs


def start(name: str, path: Path | None) -> tuple[configuration.Config, threading.Event]:
    """Return the configuration and the event that SIGTERM and SIGINT set.

    Raises
    ------
    ConfigError
        If the configuration is wrong.
    """
    config = configuration.load(path, os.environ)
    logs.setup(name, config.service.log_level, config.service.log_format)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return config, stop
