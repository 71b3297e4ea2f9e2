"""Compare sessions, registers and grid meters of a period: what was billed, what is left, what was lost."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.config import Config


#: What 360 kW may draw in the second by which a reading may miss the border of a month, for each session
#: that runs over one: intervals take such a reading, sessions go by its time.
_BORDER_MWH = 100_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``chargestream reconcile``."""
    parser.add_argument(
        "--month", required=True, metavar="YYYY-MM", help="in the time of [billing] time_zone"
    )
    parser.add_argument("--site", default="", help="only this site")
    parser.add_argument("--ledger", metavar="URL", help="instead of the configured one")
    parser.add_argument("--config", metavar="FILE", type=Path, help="TOML file; without it the defaults")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print the comparison; return 0, or 1 where more was billed than the registers show."""
    import json
    import os
    import sys

    from connectors.billing_reader import BillingReader
    from connectors.reconciliation import connections, reconcile
    from pipeline.config import load

    config = load(args.config, os.environ)
    choice = _choice(config, args.month, args.site)
    reader = BillingReader(args.ledger or config.ledger_url())
    try:
        sites = reconcile(reader, choice)
        named = {c.name: (c.sites, c.meter_file) for c in config.billing.connections}
        grid = connections(reader, choice, named)
    finally:
        reader.close()
    if args.json:
        sys.stdout.write(json.dumps({"sites": sites, "connections": grid}) + "\n")
    else:
        sys.stdout.writelines(_lines(sites, grid))
    return 1 if any(row["unassigned_mwh"] < -_BORDER_MWH * row["crossing"] for row in sites) else 0


def _choice(config: Config, month: str, site: str) -> Any:
    from connectors.billing_reader import Choice
    from connectors.site_months import month_span
    from models.errors import ConfigError

    zone = config.billing.zones().get(site, config.billing.time_zone)
    try:
        start, end = month_span(month, zone)
    except ValueError as error:
        raise ConfigError(f"--month {error}") from error
    return Choice(site=site, from_ms=start, until_ms=end)


def _lines(sites: list[dict[str, Any]], grid: list[dict[str, Any]]) -> list[str]:
    def kwh(mwh: int) -> str:
        return f"{mwh / 1e6:,.3f}"

    titles = ("registers kWh", "billed kWh", "review kWh", "running kWh", "unassigned kWh")
    out = [f"{'site':14}" + "".join(f"{title:>15}" for title in titles) + f"{'peak kW':>12}\n"]
    for row in sites:
        figures = [row[f"{name}_mwh"] for name in ("registers", "billed", "review", "running", "unassigned")]
        peak = float(row["peak_w"]) / 1000
        out.append(f"{row['site'][:14]:14}" + "".join(f"{kwh(f):>15}" for f in figures) + f"{peak:>12,.3f}\n")
    for row in grid:
        text = f"connection {row['connection']}: registers {kwh(row['registers_mwh'])} kWh"
        if "grid_mwh" in row:
            share = "" if row["loss_share"] is None else f" ({row['loss_share']:.2%})"
            text += f", grid meter {kwh(row['grid_mwh'])} kWh, loss {kwh(row['loss_mwh'])} kWh{share}"
        out.append(f"{text}, peak {float(row['peak_w']) / 1000:,.3f} kW\n")
    return out
