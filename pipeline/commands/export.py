"""Write what billing systems ask for into a file: intervals, sessions, bills or months, as CSV or Parquet."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from connectors.billing_reader import BillingReader


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``chargestream export``."""
    parser.add_argument("what", choices=("intervals", "sessions", "cdrs", "months"))
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="ends with .csv or .parquet")
    parser.add_argument("--site", default="", help="only this site")
    parser.add_argument("--ledger", metavar="URL", help="instead of the configured one")
    parser.add_argument("--config", metavar="FILE", type=Path, help="TOML file; without it the defaults")


def run(args: argparse.Namespace) -> int:
    """Write the file; return the exit code."""
    import os
    import sys

    from connectors.billing_reader import BillingReader
    from models.errors import ConfigError
    from pipeline.config import load

    kind = args.out.suffix.removeprefix(".")
    if kind not in ("csv", "parquet"):
        raise ConfigError(f"--out {args.out}: expected a name that ends with .csv or .parquet")
    reader = BillingReader(args.ledger or load(args.config, os.environ).ledger_url())
    size = 0
    try:
        with args.out.open("wb") as file:
            for part in _parts(reader, args.what, args.site, kind):
                size += file.write(part)
    except OSError as error:
        raise ConfigError(f"--out {args.out}: {error.strerror or error}") from error
    finally:
        reader.close()
    sys.stdout.write(f"{args.out}: {size:,} bytes\n")
    return 0


def _parts(reader: BillingReader, what: str, site: str, kind: str) -> Iterator[bytes]:
    from connectors.api import formats
    from connectors.billing_reader import Choice

    choice = Choice(site=site)
    if what == "intervals":
        if kind == "csv":
            return formats.csv_intervals(reader.interval_blocks(choice))
        return formats.parquet_intervals(reader.interval_columns(choice))
    rows: Any = reader.months(choice) if what == "months" else reader.changed(what, choice, 0, None)
    columns = {"sessions": formats.SESSIONS, "cdrs": formats.CDRS, "months": formats.MONTHS}[what]
    return formats.csv_lines(columns, rows) if kind == "csv" else formats.parquet_rows(columns, rows)
