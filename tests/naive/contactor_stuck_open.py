"""Twin of `contactor_stuck_open`: looks back over the charge for a taper."""

from __future__ import annotations

from .lasting import Lasting
from .plain import Expected, Reading, S, Story, through_plug

_CHARGING, _SUSPENDED = 2, 4 + 8


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit with its defaults."""
    return [e for readings in story.by_evse() for e in _of_evse(readings)]


def _given(reading: Reading, name: str) -> float | None:
    value = reading.values.get(name)
    return None if value is None or value != value else value


def _of_evse(readings: list[Reading]) -> list[Expected]:
    out: list[Expected] = []
    watch = Lasting(60 * S, 2, 60 * S, 1800 * S)
    offers: list[tuple[int, float]] = []
    shares: list[float] = []  # of this charge
    for r in readings:
        offer = _given(r, "Current.Offered")
        if offer is not None:
            offers.append((r.time_ns, offer))
        amps = through_plug(r)
        if amps is None:
            continue
        if not r.state & _CHARGING or r.state & _SUSPENDED:
            shares = []
        offered = offers[-1][1] if offers and r.time_ns - offers[-1][0] <= 900 * S else 0.0
        power, pilot, soc = _given(r, "Power.Active.Import"), _given(r, "x.CP.V"), _given(r, "SoC")
        bad = False
        if r.state & _CHARGING and not r.state & _SUSPENDED and offered >= 6.0:
            if amps >= 1.0:
                shares.append(amps / offered)
            else:
                tapered = bool(shares) and shares[-1] < 0.5
                asks = (pilot is None or pilot <= 7.5) and (soc is None or soc < 95.0)
                bad = asks and not tapered and (power is None or power <= 500.0)
        kind = watch.add(r.time_ns, int(bad), r.live)
        if not kind:
            continue
        end = watch.end_ns if kind == "clear" else r.time_ns
        evidence: dict[str, float] = {"duration_s": (end - watch.start_ns) / S}
        if kind != "clear":
            evidence |= {"current_a": amps, "offered_a": offered}
            evidence |= {} if pilot is None else {"pilot_v": pilot}
            evidence |= {} if soc is None else {"soc_percent": soc}
        out.append(
            Expected(
                r.order, "contactor_stuck_open", "evse", r.about.row, kind, "warning",
                watch.live, watch.start_ns, end, evidence,
            )
        )  # fmt: skip
    return out
