"""What the twins of the cable's detectors share: one condition per reading that must last."""

from __future__ import annotations

from collections.abc import Callable

from models import batch as b

from .lasting import Lasting
from .plain import Expected, Reading, S, Story

Sample = tuple[bool, dict[str, float]]  # whether the condition holds, and the evidence


def watched(
    story: Story,
    code: str,
    severity: str,
    judge: Callable[[Reading], Sample | None],
    least_s: float,
    least_samples: int,
    hold_s: float,
) -> list[Expected]:
    """Return the emissions of a condition that must last; `judge` returns None where nothing is known."""
    out = []
    for readings in story.by_evse():
        watch = Lasting(round(least_s * S), least_samples, round(hold_s * S), 1800 * S)
        for r in readings:
            sample = judge(r)
            if sample is None:
                continue
            kind = watch.add(r.time_ns, 1 if sample[0] else 0, r.live)
            if not kind:
                continue
            end = watch.end_ns if kind == "clear" else r.time_ns
            evidence = {} if kind == "clear" else sample[1]
            evidence = evidence | {"duration_s": (end - watch.start_ns) / S}
            out.append(
                Expected(
                    r.order, code, "evse", r.about.row, kind, severity,
                    watch.live, watch.start_ns, end, evidence,
                )
            )  # fmt: skip
    return out


def currents(r: Reading) -> list[float]:
    """Return the phase and output currents of a reading that are there."""
    names = [*(f"Current.Import@L{p}" for p in (1, 2, 3)), "Current.Import"]
    return [a for name in names if (a := r.values.get(name)) is not None and a == a]


def flows(r: Reading) -> bool:
    """Return whether energy flows: by current, without one by the station's word."""
    amps = currents(r)
    return max(amps) >= 1.0 if amps else bool(r.state & b.CHARGING)
