"""Bursts of plug-ins and of attempts to charge in a hostile story."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from models.records import Origin, Record, StationEvent, Status, Transaction
from tests.naive.plain import Evse, S

Maker = Callable[[Origin], Record]


@dataclass(order=True)
class _Planned:
    due_ns: int
    number: int
    row: int
    kind: str
    fields: dict[str, Any]


class ConnectorBursts:
    """Plans bursts with dice of its own and says what is due at each step of a story."""

    def __init__(self, seed: int, hostility: float) -> None:
        self.rng = random.Random(f"{seed}/bursts")
        self.odd = hostility
        self._planned: list[_Planned] = []
        self._number = 0

    def due(self, evses: list[Evse], now_ns: int) -> list[tuple[str, Maker]]:
        """Return message kind and record of what these EVSEs do now."""
        rng, rows = self.rng, {evse.row for evse in evses}
        if rng.random() < 0.004 + 0.01 * self.odd:
            evse = rng.choice(evses)
            plan = self._cycles if rng.random() < 0.5 else self._attempts
            plan(evse, now_ns)
        ready = sorted(p for p in self._planned if p.due_ns <= now_ns and p.row in rows)
        self._planned = [p for p in self._planned if p not in ready]
        late_ns = rng.choice([0, 0, 0, 0, 30, 1000]) * S if rng.random() < self.odd else 0
        stations = {evse.row: evse.station for evse in evses}
        return [(p.kind, _maker(p, stations[p.row], now_ns - late_ns)) for p in ready]

    def _plan(self, evse: Evse, due_ns: int, kind: str, **fields: Any) -> None:
        self._number += 1
        self._planned.append(_Planned(due_ns, self._number, evse.row, kind, fields))

    def _cycles(self, evse: Evse, now_ns: int) -> None:
        period_s = self.rng.choice([10, 20, 40, 80])
        for i in range(self.rng.randrange(2, 6)):
            at_ns = now_ns + i * period_s * S
            self._plan(evse, at_ns, "status", status="Occupied")
            if self.rng.random() < 0.1:
                self._plan(evse, at_ns, "status", status="Occupied", status16="Charging")
            self._plan(evse, at_ns + period_s * S // 2, "status", status="Available")

    def _attempts(self, evse: Evse, now_ns: int) -> None:
        """Plan starts, most of which fail; now and then more than a site's rate needs."""
        rng = self.rng
        bad = rng.random()
        for i in range(rng.choice([3, 4, 12])):
            at_ns, tx = now_ns + i * 40 * S, f"B{self._number}"
            began = {"tx_id": tx, "seq_no": rng.choice([0, 0, 0, None]), "event_type": "Started"}
            self._plan(evse, at_ns, "tx", **began, reg_mwh=1_000_000, charging_state="EVConnected")
            failed = rng.random() < bad
            if failed and rng.random() < 0.3:
                self._plan(evse, at_ns + 5 * S, "event", code=rng.choice(["CX011", "CX012", "CX014"]))
            if not failed or rng.random() < 0.2:
                state = rng.choice(["Charging", "Charging", "SuspendedEV"])
                self._plan(
                    evse, at_ns + 10 * S, "tx", tx_id=tx, seq_no=1, event_type="Updated",
                    charging_state=state, reg_mwh=rng.choice([1_050_000, 1_000_000, None]),
                )  # fmt: skip
            self._plan(
                evse, at_ns + rng.choice([20, 90]) * S, "tx", tx_id=tx, seq_no=2, event_type="Ended",
                reg_mwh=1_000_500 if failed else rng.choice([1_100_000, None]),
                stopped_reason=rng.choice(["Local", "Timeout", "DeAuthorized", "EVDisconnected"]),
            )  # fmt: skip
            if rng.random() < 0.1:
                self._plan(evse, at_ns + 30 * S, "event", code="CX012")


def _maker(planned: _Planned, station: int, t: int) -> Maker:
    about: dict[str, Any] = {"station_row": station, "evse_row": planned.row, "conn": 1, "time_ns": t}
    fields = planned.fields

    def make(at: Origin) -> Record:
        if planned.kind == "status":
            return Status(at=at, **about, **fields)
        if planned.kind == "tx":
            return Transaction(at=at, **about, time_reported_ns=t, trigger="ChargingStateChanged", **fields)
        return StationEvent(at=at, **about, event_id=str(at.order), taxonomy="mrec", **fields)

    return make
