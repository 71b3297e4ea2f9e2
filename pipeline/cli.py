"""``chargestream``: finds the command by its name and reports errors as one plain message."""

from __future__ import annotations

import argparse
import sys

from models import plugins
from models.errors import ChargestreamError, ConfigError

from . import selfcheck

# Exit codes that mean something to whoever supervises us.
EXIT_OK = 0
EXIT_FAILED = 1  # the command ran and its result is bad (a test drill failed, a log does not verify)
EXIT_USAGE = 2  # arguments or configuration are wrong: restarting will not help
EXIT_UNAVAILABLE = 69  # something outside is missing or does not answer: restart later
EXIT_STORAGE = 74  # disk full or stored data corrupt: a person is needed


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with every command."""
    parser = argparse.ArgumentParser(
        prog="chargestream",
        description="EV charging telemetry: faults, energy, billing and commands as one stream",
    )
    parser.add_argument("--version", action="version", version=f"chargestream {version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in plugins.names("pipeline.commands"):
        module = plugins.load("pipeline.commands", name)
        summary = (module.__doc__ or "").strip().splitlines()[0]
        sub = commands.add_parser(name.replace("_", "-"), help=summary, description=module.__doc__)
        module.add_arguments(sub)
        sub.set_defaults(run=module.run)
    return parser


def version() -> str:
    """Return the installed version."""
    from importlib.metadata import version as installed

    return installed("chargestream")


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    from models.errors import DeliveryError, StorageError

    args = build_parser().parse_args(argv)
    try:
        selfcheck.packages()
        return int(args.run(args))
    except ConfigError as error:
        print(f"chargestream: configuration: {error}", file=sys.stderr)
        return EXIT_USAGE
    except StorageError as error:
        print(f"chargestream: storage: {error}", file=sys.stderr)
        return EXIT_STORAGE
    except DeliveryError as error:
        print(f"chargestream: {error}", file=sys.stderr)
        return EXIT_UNAVAILABLE
    except ChargestreamError as error:
        print(f"chargestream: {error}", file=sys.stderr)
        return EXIT_FAILED
    except BrokenPipeError:
        return EXIT_OK
    except KeyboardInterrupt:
        return 130
