"""Starts an InfluxDB for demo, drills and tests: influxd 1.x, with nginx speaking the 2.x write path for it.

nginx rewrites ``/api/v2/write`` to what 1.x understands and checks the token, so that the same client and
the same bucket names work here, on 2.x and on 3. It does not stand in for Flux, ``/api/v2/delete``, the
administration of buckets, or the limits of InfluxDB 3. Everything listens on 127.0.0.1 and lies in one
folder. Never for production.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import secrets
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Final, Self

from models.errors import DeliveryError

from .broker import free_port

_START_TIMEOUT_S: Final = 15.0
_STOP_TIMEOUT_S: Final = 5.0
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PACKAGES: Final = {"influxd": "influxdb", "nginx": "nginx-light"}

_INFLUXD: Final = """\
reporting-disabled = true
bind-address = "127.0.0.1:{rpc}"
[meta]
  dir = "{folder}/meta"
[data]
  dir = "{folder}/data"
  wal-dir = "{folder}/wal"
[http]
  bind-address = "127.0.0.1:{http}"
  log-enabled = false
  max-body-size = 0
[monitor]
  store-enabled = false
[continuous_queries]
  enabled = false
"""

_NGINX: Final = """\
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log warn;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  client_max_body_size 64m;
  client_body_buffer_size 1m;
  map_hash_bucket_size 256;
  upstream influx {{ server 127.0.0.1:{influxd} max_fails=0; keepalive 8; }}
  map $arg_bucket $w_db {{ ~*^(?<d>[^%/]+)(%2[Ff]|/) $d; default $arg_bucket; }}
  map $arg_bucket $w_rp {{ ~*^[^%/]+(%2[Ff]|/)(?<r>.+)$ $r; default ""; }}
  map $arg_precision $w_p {{ ns n; us u; ms ms; s s; default n; }}
  map $http_authorization $tok_ok {{ "Token {token}" 1; default 0; }}
  server {{
    listen 127.0.0.1:{nginx};
    location = /api/v2/write {{
      if ($tok_ok = 0) {{ return 401 '{{"code":"unauthorized","message":"unauthorized access"}}'; }}
      proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Authorization "";
      proxy_pass http://influx/write?db=$w_db&rp=$w_rp&precision=$w_p;
    }}
    location = /query {{
      if ($tok_ok = 0) {{ return 401 '{{"error":"unauthorized access"}}'; }}
      proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Authorization "";
      proxy_pass http://influx;
    }}
    location = /ping {{ proxy_pass http://influx; }}
    location = /health {{
      default_type application/json;
      return 200 '{{"name":"influxdb","status":"pass","message":"ready","checks":[],"version":"1.6.7"}}';
    }}
  }}
}}
"""


def find_program(name: str) -> Path | None:
    """Return the path of an installed ``influxd`` or ``nginx``, also where only root's PATH looks."""
    found = shutil.which(name) or shutil.which(name, path=_PATH)
    return Path(found) if found else None


class InfluxServer:
    """influxd and nginx as child processes.

    Parameters
    ----------
    folder : Path
        For data, configuration and logs; created, kept when the server stops.
    database : str
        Created at the first start.
    token : str, optional
        What clients must send; a fresh one when left out.

    Raises
    ------
    DeliveryError
        On `start`, if a program is missing, ends, or does not answer.
    """

    def __init__(self, folder: Path, database: str = "ev", token: str | None = None) -> None:
        self.folder = folder
        self.database = database
        self.token = token or secrets.token_urlsafe(24)
        self._rpc, self._http, self._port = free_port(), free_port(), free_port()
        self._influxd: subprocess.Popen[bytes] | None = None
        self._nginx: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Base address for clients (nginx)."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int | None:
        """Process id of influxd while it runs."""
        return self._influxd.pid if self._influxd is not None else None

    def start(self) -> Self:
        """Start what does not run, create the database, and return when queries are answered."""
        programs = {name: find_program(name) for name in _PACKAGES}
        missing = [name for name, path in programs.items() if path is None]
        if missing:
            raise DeliveryError(
                f"InfluxDB cannot be started here: {' and '.join(missing)} not installed; "
                f"install the Debian packages {', '.join(_PACKAGES[name] for name in missing)}, "
                "or point influx.url at an InfluxDB of yours"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        atexit.register(self.stop)
        if self._influxd is None:
            config = self.folder / "influxd.toml"
            config.write_text(_INFLUXD.format(folder=self.folder.resolve(), rpc=self._rpc, http=self._http))
            self._influxd = self._spawn("influxd", [str(programs["influxd"]), "-config", str(config)])
            self._await(f"http://127.0.0.1:{self._http}/ping", self._influxd, "influxd")
            self.query(f'CREATE DATABASE "{self.database}"', "")
        if self._nginx is None:
            config = self.folder / "nginx.conf"
            config.touch(0o600)
            config.write_text(
                _NGINX.format(
                    folder=self.folder.resolve(), influxd=self._http, nginx=self._port, token=self.token
                )
            )
            command = [str(programs["nginx"]), "-c", str(config.resolve()), "-p", str(self.folder.resolve())]
            self._nginx = self._spawn("nginx", command)
            self._await(f"{self.url}/health", self._nginx, "nginx")
        return self

    def stop(self) -> None:
        """Stop both in order; safe to call twice."""
        atexit.unregister(self.stop)
        for process in (self._nginx, self._influxd):
            if process is not None:
                _end(process, force=False)
        self._nginx = self._influxd = None

    def kill(self) -> None:
        """Stop influxd with SIGKILL, as a crash would; nginx goes on and answers 502."""
        if self._influxd is not None:
            _end(self._influxd, force=True)
            self._influxd = None

    def restart(self) -> Self:
        """Start influxd again on the same data and ports, after stopping it in order if it runs."""
        if self._influxd is not None:
            _end(self._influxd, force=False)
            self._influxd = None
        return self.start()

    def query(self, influxql: str, database: str | None = None) -> list[dict[str, Any]]:
        """Return the rows of an InfluxQL statement, tags and columns by name, times in epoch ns.

        Raises
        ------
        DeliveryError
            If influxd refuses it or does not answer.
        """
        form = {"q": influxql, "db": self.database if database is None else database, "epoch": "ns"}
        request = urllib.request.Request(  # our own server's address
            f"http://127.0.0.1:{self._http}/query", urllib.parse.urlencode(form).encode()
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
                body = json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise DeliveryError(f"influxd refused {influxql!r}: {error.read().decode().strip()}") from error
        except OSError as error:
            raise DeliveryError(f"influxd at port {self._http} does not answer: {error}") from error
        rows: list[dict[str, Any]] = []
        for result in body["results"]:
            if "error" in result:
                raise DeliveryError(f"influxd refused {influxql!r}: {result['error']}")
            for series in result.get("series", []):
                tags = series.get("tags", {})
                rows += [
                    tags | dict(zip(series["columns"], v, strict=True)) for v in series.get("values", [])
                ]
        return rows

    def _spawn(self, name: str, command: list[str]) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder
            )

    def _await(self, url: str, process: subprocess.Popen[bytes], name: str) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=1) as answer:  # noqa: S310
                if answer.status < 300:
                    return
            code = process.poll()
            if code is not None or time.monotonic() > deadline:
                _end(process, force=True)
                what = f"ended with code {code}" if code is not None else f"does not answer at {url}"
                tail = (self.folder / f"{name}.log").read_text(errors="replace").splitlines()[-5:]
                self.stop()
                raise DeliveryError(f"{name} {what}; it said: {' | '.join(tail) or 'nothing'}")
            time.sleep(0.02)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def _end(process: subprocess.Popen[bytes], *, force: bool) -> None:
    if force:
        process.kill()
    else:
        process.terminate()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
