"""Write what billing systems ask for into a file: intervals, sessions, bills or months, as CSV or Parquet."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from connectors.billing_reader import BillingReader, Choice
    from pipeline.config import Config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``chargestream export``."""
    parser.add_argument("what", choices=("intervals", "sessions", "cdrs", "months"))
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="ends with .csv or .parquet")
    parser.add_argument("--site", default="", help="only this site")
    parser.add_argument(
        "--month",
        metavar="YYYY-MM",
        help="quarter hours and sessions that begin in it, bills and credits made in it, in the time of "
        "--site or else of [billing] time_zone; of months this one",
    )
    parser.add_argument("--ledger", metavar="URL", help="instead of the configured one")
    parser.add_argument("--config", metavar="FILE", type=Path, help="TOML file; without it the defaults")


def run(args: argparse.Namespace) -> int:
    """Write the file; return the exit code."""
    import os
    import sys

    from connectors.billing_reader import BillingReader
    from models.errors import ConfigError
    from pipeline.config import load

    config = load(args.config, os.environ)
    choice = _choice(config, args.month, args.site)
    kind = args.out.suffix.removeprefix(".")
    if kind not in ("csv", "parquet"):
        raise ConfigError(f"--out {args.out}: expected a name that ends with .csv or .parquet")
    reader = BillingReader(args.ledger or config.ledger_url())
    size = 0
    try:
        with args.out.open("wb") as file:
            for part in _parts(reader, args.what, choice, kind, args.month):
                size += file.write(part)
    except OSError as error:
        raise ConfigError(f"--out {args.out}: {error.strerror or error}") from error
    finally:
        reader.close()
    sys.stdout.write(f"{args.out}: {size:,} bytes\n")
    return 0


def _choice(config: Config, month: str | None, site: str) -> Choice:
    from connectors.billing_reader import Choice
    from connectors.site_months import month_span
    from models.errors import ConfigError

    if month is None:
        return Choice(site=site)
    try:
        start, end = month_span(month, config.billing.zones().get(site, config.billing.time_zone))
    except ValueError as error:
        raise ConfigError(f"--month {error}") from error
    return Choice(site=site, from_ms=start, until_ms=end)


def _parts(reader: BillingReader, what: str, choice: Choice, kind: str, month: str | None) -> Iterator[bytes]:
    from connectors.api import formats

    if what == "intervals":
        if kind == "csv":
            return formats.csv_intervals(reader.interval_blocks(choice))
        return formats.parquet_intervals(reader.interval_columns(choice))
    rows: Any
    if what == "months":
        rows = [row for row in reader.months(choice) if month in (None, row["month"])]
    else:
        newest = {"sessions": "start_ms", "cdrs": "last_updated_ms"}[what]
        rows = reader.changed(what, choice, 0, None, newest_ms=newest)
    columns = {"sessions": formats.SESSIONS, "cdrs": formats.CDRS, "months": formats.MONTHS}[what]
    return formats.csv_lines(columns, rows) if kind == "csv" else formats.parquet_rows(columns, rows)
