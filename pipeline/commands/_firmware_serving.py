"""The processes ``chargestream firmware serve`` and ``serve-chunks``."""

from __future__ import annotations

import hmac
import logging
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from connectors.firmware_pace import Doorkeeper, TokenBucket
from connectors.firmware_repository import Keys, Repository
from connectors.firmware_store import FirmwareStore
from connectors.status import write_status
from models.errors import ChargestreamError, ConfigError
from models.firmware_urls import Grant, check_secret
from models.secret import Secret
from pipeline import process
from pipeline.config import Config

from ._firmware_keeping import open_store, repository_folder
from .api import listen

if TYPE_CHECKING:
    from connectors.firmware_shed import ShedTeller

_LOG = logging.getLogger("chargestream.firmware")

_STATUS_S: Final = 1.0
_RESIGN_S: Final = 60.0
_FINISH_S: Final = 3
#: What may go out at once after a pause: this part of a second's bandwidth.
_BURST: Final = 0.25


def _secrets(config: Config) -> list[Secret]:
    own = config.firmware
    if not own.url_secret:
        raise ConfigError("[firmware] url_secret: expected a reference env:NAME or file:PATH")
    found = [secret for secret in (own.url_secret, own.url_secret_old) if secret]
    for secret in found:
        check_secret(secret)
    return found


def _group(config: Config) -> str:
    """Return the group of all servers of chunks: a station that could guess it would take requests away."""
    secret = config.firmware.url_secret.reveal().encode()
    return f"{config.service.instance}-{hmac.new(secret, b'chunks', 'sha256').hexdigest()[:32]}"


def _pace(config: Config) -> TokenBucket:
    rate = config.firmware.bandwidth_bytes
    return TokenBucket(rate, max(1.0, rate * _BURST))


def _start(config: Config) -> FirmwareStore:
    """Return the store; what does not verify now is said, and may be mended while we run."""
    store = open_store(config)
    try:
        _LOG.info("%d images in %s", len(store.images()), store.folder)
    except ChargestreamError as error:
        _LOG.error("%s", error)
    return store


def _teller(config: Config, name: str = "-firmware") -> ShedTeller | None:
    """Return what tells of put-off stations, started; None if that is not wanted."""
    if not config.firmware.shed_enabled:
        return None
    from connectors.firmware_shed import ShedTeller
    from pipeline.ingest import mqtt_settings

    teller = ShedTeller(mqtt_settings(config, name))
    teller.start()
    return teller


def _told_nobody(_grant: Grant, _what: object) -> None:
    """Tell nobody that a station was put off or refused."""


class _Resigner(threading.Thread):
    """Signs snapshot and timestamp anew when half their term is over."""

    def __init__(self, config: Config, stop: threading.Event) -> None:
        super().__init__(name="firmware-resigner", daemon=True)
        self._config, self._ending = config, stop

    def run(self) -> None:
        said = ""
        while True:
            try:
                keys = Keys(Path(self._config.firmware.online_keys_dir))
                if Repository(repository_folder(self._config)).publish(keys, if_needed=True):
                    _LOG.info("snapshot and timestamp signed anew")
                said = ""
            except (ChargestreamError, OSError) as error:
                if str(error) != said:
                    said = str(error)
                    _LOG.error("metadata cannot be signed anew: %s", error)
            if self._ending.wait(_RESIGN_S):
                return


def serve(path: Path | None) -> int:
    """Serve images over HTTP until told to stop; return the exit code."""
    import uvicorn

    from connectors.firmware_http import FirmwareServer

    config, stop = process.start("firmware", path)
    own = config.firmware
    door = Doorkeeper(own.max_downloads, own.station_starts, own.retry_s)
    teller = _teller(config)
    shed = teller.tell if teller is not None else _told_nobody
    gone = teller.tell_withdrawn if teller is not None else _told_nobody
    made = FirmwareServer(_start(config), _secrets(config), _pace(config), door, shed, withdrawn=gone)
    listening = listen(own.host, own.port)
    logging.getLogger("uvicorn").handlers = logging.getLogger("chargestream").handlers
    server = uvicorn.Server(
        uvicorn.Config(
            made.app(),
            log_config=None,
            log_level="warning",
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=_FINISH_S,
            ssl_certfile=own.tls_cert_file or None,
            ssl_keyfile=own.tls_key_file or None,
        )
    )

    def end(*_: object) -> None:
        server.should_exit = True

    # While it serves, uvicorn has handlers of its own; when it has ended it raises again what they caught.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    server.should_exit = stop.is_set()
    if own.online_keys_dir:
        _Resigner(config, stop).start()

    def report() -> None:
        while True:
            made.look()
            write_status(Path(config.service.data_dir), "firmware", made.status())
            if stop.wait(_STATUS_S):
                return

    threading.Thread(target=report, name="firmware-status", daemon=True).start()
    host, port = listening.getsockname()[:2]
    scheme = "https" if own.tls_cert_file else "http"
    _LOG.info("images at %s://%s:%s/firmware/", scheme, f"[{host}]" if ":" in host else host, port)
    with listening:
        server.run(sockets=[listening])
    stop.set()
    if teller is not None:
        teller.close()
    _LOG.info("stopped")
    return 0


def serve_chunks(path: Path | None) -> int:
    """Answer requests for chunks until told to stop; return the exit code."""
    import dataclasses
    import os
    import time

    from connectors.firmware_chunks import REQUESTS, Chunks, ChunkServer
    from pipeline.ingest import mqtt_settings

    config, stop = process.start("firmware-chunks", path)
    own = config.firmware
    settings = dataclasses.replace(
        mqtt_settings(config, "-chunks"),
        filters=(REQUESTS,),
        share_group=_group(config) if config.mqtt.protocol_version == "5" else "",
    )
    settings.tls_context()
    teller = _teller(config, "-chunks-shed")
    gone = teller.tell_withdrawn if teller is not None else _told_nobody
    chunks = Chunks(_start(config), _secrets(config), own.chunk_max_bytes, withdrawn=gone)
    server = ChunkServer(settings, chunks, _pace(config), own.chunk_window, own.chunk_in_flight)

    def report() -> None:
        while True:
            counts = chunks.counts
            status = {
                "pid": os.getpid(),
                "updated_ns": time.time_ns(),
                "waiting": len(server.waiting),
                **dataclasses.asdict(counts),
                "refused": dict(counts.refused),
                "last_error": server.said,
            }
            write_status(Path(config.service.data_dir), "firmware-chunks", status)
            if stop.wait(_STATUS_S):
                return

    threading.Thread(target=report, name="chunks-status", daemon=True).start()
    server.run(stop)
    if teller is not None:
        teller.close()
    _LOG.info("stopped")
    return 0
