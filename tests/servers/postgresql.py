"""A PostgreSQL of our own for tests: initdb and postgres in a folder, reached by a socket in it."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from . import require


class PostgresServer:
    """Runs PostgreSQL on a Unix socket; as root it drops to an unprivileged user, as PostgreSQL wants."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._programs = {name: str(require(name)) for name in ("initdb", "postgres")}
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            user = pwd.getpwnam("nobody")
            self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            folder.mkdir(parents=True, exist_ok=True)
            shutil.chown(folder, user.pw_uid, user.pw_gid)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """SQLAlchemy address of its database."""
        return f"postgresql://ledger@/postgres?host={self.folder}"

    def __enter__(self) -> PostgresServer:
        data = self.folder / "data"
        subprocess.run(
            [self._programs["initdb"], "-D", data, "-U", "ledger", "--auth=trust", "--no-sync", "-E", "UTF8"],
            check=True, capture_output=True, cwd=self.folder, **self._as,
        )  # fmt: skip
        command = [self._programs["postgres"], "-D", str(data), "-k", str(self.folder)]
        command += ["-c", "listen_addresses=", "-c", "fsync=off"]
        process: subprocess.Popen[bytes] = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            cwd=self.folder, **self._as,
        )  # fmt: skip
        self._process = process
        deadline = time.monotonic() + 20
        while not self._ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"postgres in {self.folder} does not start")
            time.sleep(0.05)
        return self

    def _ready(self) -> bool:
        import psycopg

        try:
            psycopg.connect(host=str(self.folder), user="ledger", dbname="postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.send_signal(2)  # fast shutdown
            self._process.wait(20)
