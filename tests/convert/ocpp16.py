"""The OCPP 1.6 log of two chargers (ev/ocpp16-synthetic) as OCPP-J over MQTT, raw form.

What the station calls and answers goes to ``<charger>/in``, what its central system calls and answers
to ``<charger>/out``.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
from datetime import datetime
from pathlib import Path

from connectors.msglog import LogWriter

from ._native_log import run

SOURCE = Path("ev/ocpp16-synthetic/ocpp_logs.csv.gz")

#: Calls of the central system (OCPP 1.6 edition 2, chapter 5); all others come from the station.
CENTRAL = frozenset(
    {
        "CancelReservation",
        "ChangeAvailability",
        "ChangeConfiguration",
        "ClearCache",
        "ClearChargingProfile",
        "GetCompositeSchedule",
        "GetConfiguration",
        "GetDiagnostics",
        "GetLocalListVersion",
        "RemoteStartTransaction",
        "RemoteStopTransaction",
        "ReserveNow",
        "Reset",
        "SendLocalList",
        "SetChargingProfile",
        "TriggerMessage",
        "UnlockConnector",
        "UpdateFirmware",
    }
)


def convert(data: Path, out: Path) -> int:
    """Write the log and return the number of messages."""
    asked_by_central: dict[tuple[str, str], bool] = {}
    with gzip.open(data / SOURCE, "rt", newline="") as lines, LogWriter(out) as log:
        for line in csv.DictReader(lines):
            message = json.loads(line["msg"])
            key = (line["id"], str(message[1]))
            if message[0] == 2:
                asked_by_central[key] = message[2] in CENTRAL
                to_central = not asked_by_central[key]
            else:
                to_central = asked_by_central.get(key, False)
            at = datetime.fromisoformat(line["timestamp"].replace("Z", "+00:00"))
            topic = f"{line['id']}/{'in' if to_central else 'out'}"
            log.write(round(at.timestamp() * 1000) * 10**6, topic, line["msg"].encode())
        return log.messages


def _run(args: argparse.Namespace) -> int:
    return convert(args.data, args.out)


if __name__ == "__main__":
    run(__doc__, _run)
