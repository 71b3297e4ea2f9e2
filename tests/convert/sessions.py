"""Real sessions as a native log: two DC plugs (ev/epfl-dc-sessions), two workplaces (ev/acn-sessions).

A session says when, where and how much; the log says it as a station would: Started and Ended with the
register, and a few readings after the begin, at most two hours apart, the energy spread evenly over the
stay.
Sessions that overlap an earlier one on the same plug, end before they begin or have no energy figure
are left out and counted.
"""

from __future__ import annotations

import argparse
import csv
import gzip
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

from ._native_log import NativeLog, run

EPFL = Path("ev/epfl-dc-sessions/sessions.csv")
ACN = Path("ev/acn-sessions")
SWISS = ZoneInfo("Europe/Zurich")

LONGEST_GAP_MS = 2 * 3_600_000
FEWEST_READINGS = 4
DAY_MS = 86_400_000


@dataclass(frozen=True)
class Session:
    """One stay at a plug."""

    node: str  # site/node
    evse: int
    tx_id: str
    begin_ms: int
    end_ms: int
    energy_mwh: int
    dc: bool = False
    soc: tuple[float, float] | None = None


def epfl_sessions(data: Path) -> Iterator[Session]:
    """Yield the DC sessions; times are local, to the minute."""
    with (data / EPFL).open(newline="") as lines:
        for row in csv.DictReader(lines):
            begin, end = (
                int(datetime.fromisoformat(row[k]).replace(tzinfo=SWISS).timestamp() * 1000)
                for k in ("arrival", "departure")
            )
            soc = row["soc_arrival"], row["soc_departure"]
            yield Session(
                "EPFL/EPFL-DC",
                int(row["ccs"].removeprefix("CCS")),
                f"epfl-{row['session']}",
                begin,
                end,
                _mwh(row["energy_wh"], 1),
                dc=True,
                soc=(float(soc[0]), float(soc[1])) if all(soc) else None,
            )


def acn_sessions(data: Path) -> Iterator[Session]:
    """Yield the AC sessions of both workplaces; each station is a node of its own."""
    for path in sorted((data / ACN).glob("*.csv.gz")):
        site = path.name.split("_")[0].upper()
        with gzip.open(path, "rt", newline="") as lines:
            for row in csv.DictReader(lines):
                yield Session(
                    f"{site}/{row['station_id']}",
                    1,
                    row["session_id"].replace(" ", "T"),
                    int(datetime.fromisoformat(row["arrival"]).timestamp() * 1000),
                    int(datetime.fromisoformat(row["departure"]).timestamp() * 1000),
                    _mwh(row["delivered_energy (kWh)"], 1000),
                )


def _mwh(text: str, wh: int) -> int:
    return round(Decimal(text) * wh * 1000) if text else -1


class SessionLog:
    """Turns sessions, plug by plug in time order, into messages."""

    def __init__(self) -> None:
        self.log = NativeLog()
        self.taken: list[Session] = []
        self.left_out = 0
        self.energy_mwh = 0
        self._register: dict[tuple[str, int], int] = defaultdict(int)
        self._free_from: dict[tuple[str, int], int] = {}
        self._plugs: dict[str, dict[int, Session]] = defaultdict(dict)
        self._span: dict[str, tuple[int, int]] = {}

    def add(self, session: Session) -> None:
        """Add one session."""
        plug = (session.node, session.evse)
        if (
            session.end_ms <= session.begin_ms
            or session.energy_mwh < 0
            or session.begin_ms < self._free_from.get(plug, 0)
        ):
            self.left_out += 1
            return
        self.taken.append(session)
        self._free_from[plug] = session.end_ms + 3
        self._plugs[session.node].setdefault(session.evse, session)
        first, last = self._span.get(session.node, (session.begin_ms, session.end_ms))
        self._span[session.node] = (min(first, session.begin_ms), max(last, session.end_ms))
        self._add_messages(session, self._register[plug])
        self._register[plug] += session.energy_mwh
        self.energy_mwh += session.energy_mwh

    def _add_messages(self, session: Session, register: int) -> None:
        log, node, evse = self.log, session.node, session.evse
        stay = session.end_ms - session.begin_ms
        count = max(FEWEST_READINGS, -(-stay // LONGEST_GAP_MS))
        power_w = session.energy_mwh * 3600 / stay
        channels = ["Power.Active.Import", "Energy.Active.Import.Register"]
        channels += ["SoC"] if session.soc else []
        log.status(session.begin_ms, node, evse, "Occupied")
        plugged = {"seqNo": 0, "triggerReason": "CablePluggedIn", "chargingState": "Charging"}
        log.tx(session.begin_ms + 1, node, evse, session.tx_id, "Started", register, **plugged)
        for k in range(1, count + 1):
            share = k / count
            t_ms = session.begin_ms + stay * k // count
            at = register + session.energy_mwh * k // count
            row: list[float | None] = [round(power_w, 3), at / 1000]
            if session.soc:
                row.append(round(session.soc[0] + share * (session.soc[1] - session.soc[0]), 3))
            log.meter(t_ms, node, evse, channels, row, session.tx_id)
        left = {"seqNo": 1, "triggerReason": "EVDeparted", "stoppedReason": "EVDisconnected"}
        log.tx(session.end_ms + 1, node, evse, session.tx_id, "Ended", register + session.energy_mwh, **left)
        log.status(session.end_ms + 2, node, evse, "Available")

    def finish(self, out: Path) -> int:
        """Add births, daily heartbeats and the end of service, write the log, return its messages."""
        for node, plugs in self._plugs.items():
            begin, end = self._span[node]
            evses = [_inventory(node, evse, session) for evse, session in sorted(plugs.items())]
            birth = {"cid": 1, "vendor": "converted", "model": "session-log", "hb_s": DAY_MS // 1000}
            cadence = {"sample_s": LONGEST_GAP_MS // 1000, "batch_s": LONGEST_GAP_MS // 1000}
            self.log.add(begin - 10, node, "conn", online=True, evses=evses, **birth, **cadence)
            for t_ms in range((begin // DAY_MS + 1) * DAY_MS, end, DAY_MS):
                self.log.add(t_ms, node, "hb", t=t_ms, uptime_s=(t_ms - begin) // 1000)
            for evse in plugs:
                self.log.status(end + 10, node, evse, "Unavailable")
        return self.log.write(out)


def _inventory(node: str, evse: int, session: Session) -> dict[str, object]:
    kind = ("IEC_62196_T2_COMBO", 172_500, 300) if session.dc else ("IEC_62196_T1", 7_700, 32)
    return {
        "evse": evse,
        "u_n_v": 230 if session.dc else 208,
        "phases": 3 if session.dc else 1,
        "p_max_w": kind[1],
        "dc": session.dc,
        "meter": {"serial": f"{node.replace('/', '-')}-{evse}", "resolution_wh": 0.001},
        "conns": [{"conn": 1, "type": kind[0], "max_a": kind[2]}],
    }


SOURCES: dict[str, Callable[[Path], Iterator[Session]]] = {"epfl": epfl_sessions, "acn": acn_sessions}


def convert(
    data: Path, out: Path, max_sessions: int | None = None, sources: Sequence[str] = tuple(SOURCES)
) -> tuple[int, SessionLog]:
    """Write the log; return the number of messages and what was put in."""
    sessions = SessionLog()
    for source in sources:
        ordered = sorted(SOURCES[source](data), key=lambda s: (s.begin_ms, s.node, s.evse))
        for session in ordered[:max_sessions]:
            sessions.add(session)
    return sessions.finish(out), sessions


def _run(args: argparse.Namespace) -> int:
    messages, sessions = convert(args.data, args.out, args.max_sessions)
    print(f"{sessions.energy_mwh} mWh in all, {sessions.left_out} sessions left out")
    return messages


if __name__ == "__main__":
    run(__doc__, _run, limit=True)
