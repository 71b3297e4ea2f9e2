"""Commands of ours as processes, with everything they print kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

_ROOT = Path(__file__).resolve().parents[2]


class Running:
    """``chargestream WORDS`` in a process of its own.

    Parameters
    ----------
    log : Path
        Gets both output streams.
    words : str
    """

    def __init__(self, log: Path, *words: str, env: dict[str, str] | None = None) -> None:
        self.log = log
        environment = os.environ | {"PYTHONPATH": str(_ROOT)} | (env or {})
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "pipeline", *words], stdout=file, stderr=file, env=environment
            )

    def says(self, text: str) -> bool:
        """Return whether it has printed `text`; fail when it has ended."""
        assert self.process.poll() is None, self.log.read_text(errors="replace")
        return text in self.log.read_text(errors="replace")

    def stop(self) -> int:
        """Stop in order; return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(15)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
