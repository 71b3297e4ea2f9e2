"""What `chargestream command` tells of a command, and how it waits for its end."""

from __future__ import annotations

import difflib
import json
import sys
import time
from typing import Any, Final

#: Beyond the life of a command, for the journal and the ledger to say so.
GRACE_S: Final = 15.0
#: A request that the ledger does not know after this long says that nobody works at it.
_SILENT_S: Final = 15.0
_LOOK_S: Final = 0.2
_GOOD: Final = ("accepted", "scheduled")


def utc(time_ms: int) -> str:
    """Return a time in UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time_ms / 1000))


def change(row: dict[str, Any]) -> str:
    """Return a line about one change."""
    return f"{utc(row['changed_ms'])}  {row['event']:<9} {row['state']:<9} {_why(row)}".rstrip()


def ending(row: dict[str, Any]) -> str:
    """Return how a command ended, and why if it says."""
    why = _why(row)
    return f"{row['state']}: {why}" if why else str(row["state"])


def _why(row: dict[str, Any]) -> str:
    return str(row.get("note") or row["reason"] or row["status"])


def hint(reader: Any, site: str, station: str) -> None:
    """Say so when the ledger knows no such station: a typing error shows before its command fails.

    The ledger may be behind, so this refuses nothing.
    """
    stations = reader.stations(site)
    known, name = (stations, station) if stations else (reader.sites(), site)
    if not known or name in known:
        return
    near = difflib.get_close_matches(name, known, 3, 0.5) or known[:3]
    what = f"no station {station!r} at {site}" if stations else f"no site {site!r}"
    print(f"chargestream: note: the ledger knows {what}; there are {', '.join(near)}", file=sys.stderr)


def follow(reader: Any, cmd_id: str, most_s: float, *, as_json: bool) -> int:
    """Tell what becomes of a command until it has ended; return 0 if the station does it, else 1."""
    from models.command_states import ENDED

    began, told = time.monotonic(), 0
    row: dict[str, Any] | None = None
    silent = False
    while time.monotonic() - began < most_s:
        row = reader.command(cmd_id)
        if row is not None:
            for one in row["changes"][told:]:
                if not as_json:
                    print(change(one), flush=True)
                told += 1
            if row["state"] in ENDED:
                if as_json:
                    print(json.dumps(row))
                return 0 if row["state"] in _GOOD else 1
        elif not silent and time.monotonic() - began > _SILENT_S:
            silent = True
            print(
                f"chargestream: the ledger has not heard of {cmd_id} for {_SILENT_S:.0f} s: do ingest, "
                "worker and egress run?",
                file=sys.stderr,
            )
        time.sleep(_LOOK_S)
    if as_json and row is not None:
        print(json.dumps(row))
    state = "not in the ledger" if row is None else row["state"]
    print(
        f"chargestream: {cmd_id} has not ended after {most_s:g} s: {state}; see `chargestream command show "
        f"{cmd_id[:8]}`",
        file=sys.stderr,
    )
    return 1
