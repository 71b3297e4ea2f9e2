"""Serve the page, its JSON and /metrics; ends in order on SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import socket

    from connectors.api.settings import ApiSettings
    from connectors.api.views import ViewSettings
    from pipeline.config import Config

#: Answers that are still being written when we are told to stop get this long.
_FINISH_S: Final = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``chargestream api``."""
    parser.add_argument("--config", metavar="FILE", type=Path, help="TOML file; without it the defaults")


def run(args: argparse.Namespace) -> int:
    """Serve until told to stop; return the exit code."""
    import logging
    import signal

    import uvicorn

    from connectors.api.app import create_app
    from pipeline import process
    from pipeline.ingest import mqtt_settings

    config, stop = process.start("api", args.config)
    broker = mqtt_settings(config, "-page")
    data_dir = Path(config.service.data_dir)
    app = create_app(config.ledger_url(), data_dir, config.service.instance, broker, settings(config))
    listening = listen(config.api.host, config.api.port)
    log = logging.getLogger("chargestream.api")
    logging.getLogger("uvicorn").handlers = logging.getLogger("chargestream").handlers
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            log_level="warning",
            access_log=False,
            lifespan="on",
            server_header=False,
            timeout_graceful_shutdown=_FINISH_S,
            forwarded_allow_ips=list(config.api.trusted_proxies),
        )
    )

    def end(*_: object) -> None:
        server.should_exit = True

    # While it serves, uvicorn has handlers of its own; when it has ended it raises again what they caught.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    server.should_exit = stop.is_set()
    host, port = listening.getsockname()[:2]
    log.info("page at http://%s:%s/", f"[{host}]" if ":" in host else host, port)
    with listening:
        server.run(sockets=[listening])
    log.info("stopped")
    return 0


def settings(config: Config) -> ApiSettings:
    """Return what the web application is told of the configuration."""
    from connectors.api.settings import ApiSettings, OcpiSettings

    own = config.ocpi
    ocpi = OcpiSettings(
        own.country_code,
        own.party_id,
        own.business_name,
        own.public_url,
        own.currency,
        own.insecure,
        config.token_salts(),
    )
    images = None
    if config.firmware.root_file:
        from ._firmware_keeping import open_store

        images = open_store(config)
    return ApiSettings(
        config.api.rate_per_s,
        config.api.burst,
        views=views(config),
        ocpi=ocpi if own.enabled else None,
        images=images,
        names=names(config),
    )


def names(config: Config) -> tuple[str, ...] | None:
    """Return the host names to answer to; None: all, as everybody on the network was let in."""
    from urllib.parse import urlsplit

    from connectors.api.here import is_local_name

    if not config.api.names and not is_local_name(config.api.host):
        return None
    public = urlsplit(config.ocpi.public_url).hostname
    return (*config.api.names, public) if public else config.api.names


def views(config: Config) -> ViewSettings:
    """Return what pages of their own are told of the configuration."""
    from connectors.api.learned import LearnedSettings
    from connectors.api.views import ViewSettings
    from pipeline.evidence import JournalTraces

    learned = tuple(
        LearnedSettings(name, Path(given["models"]), given.get("model", ""), given.get("shadow", ""))
        for name, given in sorted(config.detectors.items())
        if given.get("models") and given.get("enabled", True)
    )
    return ViewSettings(config.maintenance.rules(), JournalTraces(config), config.detectors, learned)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens at `host` and `port`.

    Raises
    ------
    ConfigError
        If that cannot be; says why.
    """
    import errno
    import socket

    from models.errors import ConfigError

    where = f"api.host and api.port: cannot listen on {host} port {port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(f"{where}: {error.strerror or error}") from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
    except OSError as error:
        listening.close()
        advice = ""
        if error.errno == errno.EADDRINUSE:
            advice = "; another program listens there: stop it, or choose another api.port (0: any free one)"
        raise ConfigError(f"{where}: {error.strerror}{advice}") from error
    return listening
