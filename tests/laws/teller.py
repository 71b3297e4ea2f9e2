"""Tells hostile stories for the laws: what stations and gateways may do to us, from a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

from models.records import Birth, Heartbeat, Link, Operator, Origin, Record, StationEvent, Status, Transaction
from tests.laws import moods
from tests.laws.all_moods import AllMoods
from tests.naive.plain import Evse, Message, Reading, S, Story

T0: Final = 1_780_000_020 * S


@dataclass(frozen=True)
class Profile:
    """What kind of stream `story` makes; `hostility` is the share of odd things, 0 to 1."""

    seed: int
    cadence_s: float
    hostility: float = 0.3


class _Node:
    """A node while its story is made."""

    def __init__(self, row: int, evses: list[Evse], hb_s: float, rng: random.Random) -> None:
        self.row, self.evses, self.hb_s, self.rng = row, evses, hb_s, rng
        self.boot, self.cid, self.seq = 1, 1, 0
        self.silent_until = 0
        self.next_hb = 0
        self.sampled = {evse.row: T0 + rng.randrange(S) for evse in evses}
        self.buffer: list[tuple[Evse, int, dict[str, float], int | None, int]] = []
        self.next_send = 0
        self.skew_s = 0.0
        self.registers = {evse.row: rng.randrange(10**8) for evse in evses}
        self.regime: dict[tuple[int, str], str] = {}
        self.tx: dict[int, tuple[str, int]] = {}


_VOLTS: Final = {
    "normal": (228.0, 232.0),
    "limit": (207.0, 207.0),
    "over_limit": (253.0, 253.0),
    "low": (196.0, 206.9),
    "very_low": (180.0, 194.0),
    "high": (253.1, 264.0),
    "very_high": (265.0, 280.0),
    "dip": (100.0, 232.0),
    "wild": (60.0, 300.0),
    "off": (0.0, 3.0),
    "nothing": (0.0, 0.0),
}
_DEGREES: Final = {
    "cool": (15.0, 64.9),
    "warm": (65.0, 79.9),
    "hot": (80.0, 110.0),
    "edge": (64.0, 66.0),
    "failed": (150.0, 200.0),
    "broken": (-60.0, -40.0),
    "nothing": (0.0, 0.0),
}
_AMPS: Final = {
    "idle": (0.0, 0.2),
    "charging": (0.8, 1.0),
    "edge": (1.05, 1.2),
    "too_much": (1.2, 1.5),
    "nothing": (0.0, 0.0),
}
_REGISTER: Final = ("moves", "moves", "moves", "stuck", "wobbles", "falls", "missing", "zero")


def _draw(node: _Node, evse: Evse, what: str, choices: dict[str, Any] | tuple[str, ...], odd: float) -> str:
    """Return the regime that `what` of an EVSE is in; it changes now and then."""
    rng, key = node.rng, (evse.row, what)
    names = list(choices)
    if key not in node.regime or rng.random() < 0.04:
        node.regime[key] = rng.choice(names) if rng.random() < max(odd, 0.05) else names[0]
    return node.regime[key]


def _values(node: _Node, evse: Evse, odd: float, dt_s: float) -> tuple[dict[str, float], int | None]:
    """Return one reading of an EVSE."""
    rng = node.rng
    values: dict[str, float] = {}
    regime = _draw(node, evse, "volts", _VOLTS, odd)
    where = "/Inlet" if evse.dc else ""
    names = [f"Voltage{where}"] if evse.phases == 1 else [f"Voltage@L{p}-N{where}" for p in (1, 2, 3)]
    for name in names:
        low, high = _VOLTS[regime if rng.random() < 0.8 else "normal"]
        if regime != "nothing":
            values[name] = round(rng.uniform(low, high) * evse.u_n_v / 230.0, 1)
    regime = _draw(node, evse, "degrees", _DEGREES, odd)
    for name in ("Temperature/Cable", "Temperature/Outlet"):
        if regime != "nothing" and rng.random() < 0.8:
            shift = 25.0 if evse.dc and regime in {"warm", "hot", "edge"} else 0.0
            values[name] = round(rng.uniform(*_DEGREES[regime]) + shift, 1)
    offered = float(rng.choice([0, 6, 16, 16, 16, 32]))
    if rng.random() < 0.9:
        values["Current.Offered"] = offered
    regime = _draw(node, evse, "amps", _AMPS, odd)
    names = ["Current.Import"] if evse.dc or evse.phases != 3 else [f"Current.Import@L{p}" for p in (1, 2, 3)]
    share = 0.0
    for name in names:
        if regime != "nothing":
            share = rng.uniform(*_AMPS[regime])
            values[name] = round(share * offered + (0.4 if regime == "edge" else 0.0), 2)
    watts = share * offered * 690.0 * (10.0 if evse.dc else 1.0)
    if rng.random() < 0.9:
        values["Power.Active.Import"] = round(watts, 0)
    elif rng.random() < 0.5:
        values |= {f"Power.Active.Import@L{p}": round(watts / 3, 1) for p in (1, 2, 3)}
    if rng.random() < 0.03 * odd:
        values |= dict.fromkeys(values, float("nan"))
    return values, _register(node, evse, odd, watts * dt_s / 3.6)


def _register(node: _Node, evse: Evse, odd: float, moved_mwh: float) -> int | None:
    rng, regime = node.rng, _draw(node, evse, "register", _REGISTER, odd)
    step = evse.resolution_mwh
    reg = node.registers[evse.row]
    if regime == "moves":
        reg += round(moved_mwh)
    elif regime == "wobbles":
        reg += rng.choice([-3, -2, -1, 1]) * step
    elif regime == "falls":
        reg -= rng.choice([1, 2, 3, 10_000]) * step
    elif regime == "zero":
        reg = rng.randrange(10 * step)
    node.registers[evse.row] = reg = max(0, reg // step * step)
    if evse.modulus_mwh and reg >= evse.modulus_mwh:
        node.registers[evse.row] = reg = reg % evse.modulus_mwh
    return None if regime == "missing" else reg


class _Teller:
    """Tells a story: one clock, one order."""

    def __init__(self, profile: Profile) -> None:
        self.rng = random.Random(profile.seed)
        self.clocks = random.Random(profile.seed)
        self.moods = AllMoods(profile.seed, profile.hostility)
        self.profile = profile
        self.odd = profile.hostility
        self.story = Story(
            ["A", "B"],
            [(0, "alone"), (0, "gateway"), (1, "unknown")],
            [(0, "alone", 0), (0, "G1", 1), (0, "G2", 1), (1, "unknown", 2)],
            [(0, 1), (1, 1), (2, 1), (2, 2), (3, 1)],
        )
        slow = profile.cadence_s
        self.nodes = [
            _Node(0, [Evse(0, 0, 0, sample_s=slow, conn_type="IEC_62196_T1")], max(30.0, slow), self.rng),
            _Node(
                1,
                [
                    Evse(1, 1, 1, phases=1, resolution_mwh=10_000, sample_s=slow, modulus_mwh=200_000_000),
                    Evse(2, 2, 1, dc=True, p_max_w=150_000.0, sample_s=slow),
                    Evse(3, 2, 1, phases=0, p_max_w=None, sample_s=slow, conn_type="IEC_62196_T1_COMBO"),
                ],
                max(60.0, slow),
                self.rng,
            ),
            _Node(
                2,
                [Evse(4, 3, 2, declared=False, phases=0, p_max_w=None, resolution_mwh=1000)],
                300.0,
                self.rng,
            ),
        ]
        self.batch_s = slow * self.rng.choice([1, 3])
        self.horizon_ns = round((min(max(900 * slow, 900.0), 5400.0) + 20 * slow) * S)
        self.order = 0

    def tell(self) -> Story:
        """Return the whole story."""
        now, step_s = T0, max(1.0, self.horizon_ns / S / 600)
        for node in self.nodes[:2]:
            self._birth(node, now, retained=self.rng.random() < 0.3)
        while now < T0 + self.horizon_ns:
            now += round(step_s * S)
            if self.rng.random() < 0.0005 * self.odd:
                now += 300 * S  # we did not listen
            self._message(now, -1, "tick")
            for node in self.nodes:
                self._live(node, now)
            self._operate(now)
        return self.story

    def _message(self, now: int, node: int, kind: str, **fields: Any) -> Origin:
        order, self.order = self.order, self.order + 1
        recv = now - self.rng.choice([0, 0, 0, S])
        self.story.messages.append(Message(order, recv, now, node, kind, **fields))
        return Origin(
            order=order,
            pos=order,
            recv_ns=recv,
            effect_ns=now,
            node_row=node,
            boot=fields.get("boot", -1),
            seq=fields.get("seq", -1),
            live=fields.get("live", True),
        )

    def _numbered(self, node: _Node, now: int, kind: str, live: bool = True) -> Origin | None:
        """Return the place of the node's next message, None when it is lost on the way."""
        rng = self.rng
        node.seq += 1
        if rng.random() < 0.02 * self.odd:
            node.seq += rng.randrange(1, 8)  # some before it are lost, too
        if rng.random() < 0.05 * self.odd:
            return None
        at = self._message(now, node.row, kind, boot=node.boot, seq=node.seq, live=live)
        if rng.random() < 0.03 * self.odd:
            self._message(now, node.row, kind, boot=node.boot, seq=node.seq, live=live, duplicate=True)
        if node.seq > 3 and rng.random() < 0.03 * self.odd:
            late = node.seq - rng.randrange(1, 4)
            self._message(now, node.row, "status", boot=node.boot, seq=late)
        return at

    def _birth(self, node: _Node, now: int, retained: bool = False, online: bool = True) -> None:
        at = self._message(now, node.row, "conn", boot=node.boot)
        periods: dict[str, Any] = {}
        if online:
            periods = {"hb_s": node.hb_s, "sample_s": self.profile.cadence_s, "batch_s": self.batch_s}
        self.story.records.append(Birth(at=at, online=online, retained=retained, cid=node.cid, **periods))

    def _live(self, node: _Node, now: int) -> None:
        """Let a node do what it does in one step."""
        rng, odd = self.rng, self.odd
        cadence = round(self.profile.cadence_s * S)
        for evse in node.evses:
            while (t := node.sampled[evse.row] + cadence * self.moods.nodes.pace(evse.row)) <= now:
                node.sampled[evse.row] = t
                if rng.random() > 0.1 * odd:
                    values, reg = _values(node, evse, odd, self.profile.cadence_s)
                    state = self.moods.change(evse, values, (t - T0) / self.horizon_ns)
                    reg = self.moods.register(evse, values, reg, t)
                    node.buffer.append((evse, t + rng.randrange(S // 2), values, reg, state))
        if now < node.silent_until:
            if rng.random() < 0.002 and node.row < 2:
                self._birth(node, now, online=False)
            return
        if rng.random() < 0.002 * odd:
            node.silent_until = now + rng.choice([5, 100, 400, 2000]) * S
            if rng.random() < 0.5 and node.row < 2:
                self._birth(node, now, online=False)
            return
        if node.silent_until and node.row < 2:
            node.silent_until = 0
            node.cid += 1
            if rng.random() < 0.4:
                node.boot, node.cid, node.seq = node.boot + 1, 1, 0
            if rng.random() < 0.9:
                self._birth(node, now, retained=rng.random() < 0.1)
        for what in self.moods.nodes.acts(node.row, now) if node.row < 2 else ():
            moods.act(self, node, now, what)
        if now >= node.next_hb:
            node.next_hb = now + round(node.hb_s * S)
            skew_ns = self._skew(node)
            at = self._message(now, node.row, "heartbeat", boot=node.boot, seq=node.seq, skew_ns=skew_ns)
            if (rssi := self.moods.nodes.rssi(node.row)) is not None:
                self.story.records.append(Heartbeat(at=at, time_ns=now, rssi_dbm=rssi))
        if now >= node.next_send:
            node.next_send = now + round(self.batch_s * S)
            self._send(node, now)
        self._tell_events(node, now)

    def _skew(self, node: _Node) -> int | None:
        """Return the skew that a heartbeat shows; a clock is wrong by about the same for a while."""
        rng = self.clocks
        if rng.random() < 0.1 * self.odd:
            node.skew_s = rng.choice([0.0, 0.0, 59.0, 61.0, -80.0, -290.0, 310.0, 3e8])
        skew_ms = round((node.skew_s + rng.uniform(-2.0, 2.0)) * 1000)
        return None if rng.random() < 0.1 else skew_ms * (S // 1000)

    def _send(self, node: _Node, now: int) -> None:
        """Send what is buffered, oldest first, as up to three messages."""
        rng = self.rng
        while node.buffer:
            part, node.buffer = node.buffer[:40], node.buffer[40:]
            live = now - max(t for _, t, _, _, _ in part) <= 900 * S
            at = self._numbered(node, now, "meter", live)
            if at is None:
                continue
            for evse, t, values, reg, state in part:
                self.story.readings.append(Reading(evse, t, at.order, now, live, values, reg, state))
        if rng.random() < 0.01 * self.odd:
            i = rng.randrange(len(node.evses))
            if node.evses[i].declared:
                node.evses[i] = replace(node.evses[i], generation=node.evses[i].generation + 1)
                node.registers[node.evses[i].row] = rng.randrange(1000)

    def _tell_events(self, node: _Node, now: int) -> None:
        """Transactions, statuses, station events and links, now and then."""
        rng, odd = self.rng, self.odd
        evse = rng.choice(node.evses)
        t = now - rng.choice([0, 1, 30, 1000, 90_000]) * S if rng.random() < 0.2 * odd else now
        makers: list[tuple[float, str, Any]] = [
            (0.004, "tx", self._transaction),
            (0.002, "status", self._status),
            (0.004 * odd, "event", self._event),
            (0.003 * odd if node.row == 1 else 0.0, "link", self._link),
        ]
        for share, kind, make in makers:
            if rng.random() < share and (at := self._numbered(node, now, kind)) is not None:
                self.story.records.append(make(node, evse, at, t))
        self.rng = self.moods.bursts.rng  # bursts leave the rest of the story as it is
        for kind, burst in self.moods.bursts.due(node.evses, now):
            if (origin := self._numbered(node, now, kind)) is not None:
                self.story.records.append(burst(origin))
        self.rng = rng

    def _transaction(self, node: _Node, evse: Evse, at: Origin, t: int) -> Record:
        rng = self.rng
        known = node.tx.get(evse.row)
        tx_id, seq_no = (f"T{at.order}", 0) if known is None else (known[0], known[1] + 1)
        if rng.random() < 0.1 * self.odd:
            seq_no += rng.randrange(1, 3)
        kind = "Started" if known is None else rng.choice(["Updated", "Updated", "Ended"])
        node.tx[evse.row] = (tx_id, seq_no)
        if kind == "Ended":
            del node.tx[evse.row]
        late = rng.random() < 0.1 * self.odd and seq_no > 0
        return Transaction(
            at=at,
            station_row=evse.station,
            evse_row=evse.row,
            conn=1,
            time_ns=t,
            time_reported_ns=t,
            tx_id=tx_id,
            seq_no=seq_no - 1 if late else rng.choice([seq_no, seq_no, seq_no, None]),
            event_type=kind,
            trigger=rng.choice(["ChargingStateChanged", "ChargingStateChanged", "EVCommunicationLost"]),
            charging_state=rng.choice(["Charging", "EVConnected", "SuspendedEV"]),
        )

    def _status(self, node: _Node, evse: Evse, at: Origin, t: int) -> Record:
        status = self.rng.choice(["Available", "Occupied", "Unavailable", "Faulted"])
        row = evse.row if self.rng.random() < 0.8 else -1
        return Status(at=at, station_row=evse.station, evse_row=row, conn=1, time_ns=t, status=status)

    def _event(self, node: _Node, evse: Evse, at: Origin, t: int) -> Record:
        rng = self.rng
        taxonomy, code = rng.choice(
            [
                ("mrec", "CX001"),
                ("mrec", "CX003"),
                ("mrec", "CX011"),
                ("mrec", "CX015"),
                ("mrec", "CX018"),
                ("ocpp16", "GroundFailure"),
                ("ocpp16", "NoError"),
                ("ocpp16", "OtherError"),
                ("everest", "evse_board_support/DiodeFault"),
                ("everest", "evse_board_support/MREC14PilotFault"),
                ("vendor", "E42"),
            ]
        )
        return StationEvent(
            at=at,
            station_row=evse.station,
            evse_row=evse.row if rng.random() < 0.8 else -1,
            conn=1,
            time_ns=t,
            event_id=str(at.order),
            code=code,
            taxonomy=taxonomy,
            component="EVSE",
            severity=rng.choice([None, None, 0, 4, 8]),
            cleared=rng.random() < 0.4,
            tech_info=rng.choice(["", "words"]),
        )

    def _link(self, node: _Node, evse: Evse, at: Origin, t: int) -> Record:
        online = self.rng.random() < 0.5
        return Link(
            at=at, station_row=evse.station, time_ns=t, online=online, reason="" if online else "no answer"
        )

    def _operate(self, now: int) -> None:
        rng = self.rng
        if rng.random() >= 0.002 * self.odd:
            return
        ms = now // 1_000_000
        body: dict[str, Any] = {"site": "A", "from": ms - 60_000, "until": ms + rng.choice([60, 600]) * 1000}
        body |= rng.choice([{}, {"station": "G1"}, {"node": "gateway"}, {"station": "alone"}, {"site": 7}])
        at = self._message(now, -1, "operator")
        self.story.records.append(Operator(at=at, topic="maintenance", body=body))


@lru_cache(maxsize=64)
def story(profile: Profile) -> Story:
    """Return the story of a profile; the same profile tells the same story, and nobody may change it."""
    return _Teller(profile).tell()
