"""Twin of `silent_derate`: keeps the readings of a charge and looks back over them."""

from __future__ import annotations

from dataclasses import dataclass, field

from .plain import Expected, Reading, S, Story, through_plug

_CHARGING, _SUSPENDED = 2, 4 + 8


@dataclass
class _Charge:
    """What a charge has shown: (time, current, offer) of each judged reading."""

    judged: list[tuple[int, float, float]] = field(default_factory=list)
    fell: tuple[int, float, bool, float] | None = None  # time, temperature, heating, current
    n: int = 0


@dataclass
class _Evse:
    warm: list[tuple[int, float]] = field(default_factory=list)
    mean: float = 0.0
    offer: tuple[int, float] | None = None
    soc: float | None = None
    raised: tuple[int, bool] | None = None  # start, live
    good_ns: int | None = None
    last_ns: int | None = None


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit with its defaults."""
    return [e for readings in story.by_evse() for e in _of_evse(readings)]


def _given(reading: Reading, name: str) -> float | None:
    value = reading.values.get(name)
    return None if value is None or value != value else value


def _feel(evse: _Evse, r: Reading) -> None:
    found = [_given(r, name) for name in ("Temperature/Cable", "Temperature/Outlet")]
    good = [c for c in found if c is not None and -40.0 < c < 150.0]
    if not good:
        return
    celsius = max(good)
    if not evse.warm or r.time_ns - evse.warm[-1][0] > 1800 * S:
        evse.mean = celsius
    else:
        dt = r.time_ns - evse.warm[-1][0]
        evse.mean += (celsius - evse.mean) * dt / (300 * S + dt)
    evse.warm.append((r.time_ns, celsius))


def _of_evse(readings: list[Reading]) -> list[Expected]:
    out: list[Expected] = []
    evse, charge = _Evse(), _Charge()
    for r in readings:
        t = r.time_ns
        _feel(evse, r)
        offer, soc, amps = _given(r, "Current.Offered"), _given(r, "SoC"), through_plug(r)
        evse.offer = evse.offer if offer is None else (t, offer)
        evse.soc = evse.soc if soc is None else soc
        if amps is None:
            continue
        kind = ""
        charging = r.state & _CHARGING
        if not charging:
            evse.soc = None
        if not charging or r.state & _SUSPENDED or (evse.soc is not None and evse.soc >= 80.0):
            charge = _Charge()
        elif evse.offer is not None and evse.offer[1] > 0 and t - evse.offer[0] <= 900 * S:
            kind = _judge(evse, charge, r, amps)
        if not kind and evse.raised is not None and charge.fell is None:
            evse.good_ns = t if evse.good_ns is None else evse.good_ns
            kind = "clear" if t - evse.good_ns >= 300 * S else ""
        if kind:
            out.append(_said(evse, charge, r, amps, kind))
        if kind == "clear":
            evse.raised = None
        if kind == "back":
            charge.fell = None
    return out


def _judge(evse: _Evse, charge: _Charge, r: Reading, amps: float) -> str:
    t = r.time_ns
    assert evse.offer is not None
    if evse.last_ns is not None and t - evse.last_ns > 1800 * S:
        charge.fell = None
    evse.last_ns = t
    followed = [a for _, a, offered in charge.judged if a >= 0.9 * offered]
    charge.judged.append((t, amps, evse.offer[1]))
    if amps >= 0.9 * evse.offer[1]:
        fell, charge_n = charge.fell, charge.n
        long = fell is not None and charge_n >= 2 and t - fell[0] >= 300 * S
        if fell is not None and long and evse.raised is None and fell[1] - evse.warm[-1][1] >= 3.0:
            evse.raised, evse.good_ns = (fell[0], r.live), t
            return "back"
        charge.fell = None
        return ""
    evse.good_ns = None
    if charge.fell is None:
        hot = any(c >= 60.0 and t - when <= 600 * S for when, c in evse.warm)
        if not hot or not followed or amps >= 0.97 * followed[-1]:
            return ""
        celsius = evse.warm[-1][1]
        charge.fell, charge.n = (t, celsius, celsius - evse.mean >= 0.5, amps), 1
    else:
        charge.n += 1
    if not charge.fell[2] or charge.n < 2 or t - charge.fell[0] < 300 * S:
        return ""
    if evse.raised is None:
        evse.raised = (charge.fell[0], r.live)
        return "raise"
    if r.live and not evse.raised[1]:
        evse.raised = (evse.raised[0], True)
        return "raise"
    return ""


def _said(evse: _Evse, charge: _Charge, r: Reading, amps: float, kind: str) -> Expected:
    assert evse.raised is not None
    assert evse.offer is not None or kind == "clear"
    start, live = evse.raised
    end = evse.good_ns if kind == "clear" else r.time_ns
    assert end is not None
    evidence = {"duration_s": (end - start) / S}
    if kind != "clear":
        assert charge.fell is not None
        assert evse.offer is not None
        reduced = charge.fell[3] if kind == "back" else amps
        evidence |= {"current_a": reduced, "offered_a": evse.offer[1], "share": reduced / evse.offer[1]}
        evidence |= {"temperature_c": evse.warm[-1][1], "temperature_at_fall_c": charge.fell[1]}
    return Expected(
        r.order, "silent_derate", "evse", r.about.row, "clear" if kind == "clear" else "raise", "warning",
        live, start, end, evidence,
    )  # fmt: skip
