"""Serve the page, its JSON and /metrics; ends in order on SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``chargestream api``."""
    parser.add_argument("--config", metavar="FILE", type=Path, help="TOML file; without it the defaults")


def run(args: argparse.Namespace) -> int:
    """Serve until told to stop; return the exit code."""
    import logging
    import os

    import uvicorn

    from connectors.api.app import create_app
    from models.errors import ConfigError
    from pipeline import config as configuration
    from pipeline import logs

    config = configuration.load(args.config, os.environ)
    logs.setup("api", config.service.log_level, config.service.log_format)
    app = create_app(config.ledger_url(), Path(config.service.data_dir), config.service.instance)
    server = uvicorn.Server(
        uvicorn.Config(app, host=config.api.host, port=config.api.port, log_level="warning", lifespan="on")
    )
    try:
        socket = server.config.bind_socket()
    except SystemExit:
        raise ConfigError(
            f"api.host and api.port: {config.api.host}:{config.api.port} cannot be listened on; is it in use?"
        ) from None
    host, port = socket.getsockname()[:2]
    logging.getLogger("chargestream.api").info("page at http://%s:%s/", host, port)
    server.run(sockets=[socket])
    return 0
