"""Twin of `contact_resistance`: plain Python, matrices written out, every estimate kept."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field

from .plain import Expected, Reading, S, Story, through_plug

Matrix = list[list[float]]


@dataclass
class Estimate:
    """What counts of a plug at one moment."""

    reading: Reading
    k: float
    sigma: float
    baseline: float | None
    celsius: float
    ambient: float


@dataclass
class _Plug:
    rated: float = 0.0
    seen: list[tuple[int, float]] = field(default_factory=list)  # since the last step
    u: float = 0.0
    state: list[float] = field(default_factory=list)  # ambient, k
    p: Matrix = field(default_factory=list)
    known: bool = False
    load_s: float = 0.0
    baseline: float = 0.0
    said_ns: int | None = None


def _temperature(r: Reading) -> float | None:
    found = [r.values.get(name) for name in ("Temperature/Cable", "Temperature/Outlet")]
    good = [c for c in found if c is not None and -40.0 < c < 150.0]
    return max(good) if good else None


def _of_evse(readings: list[Reading]) -> list[Estimate]:
    out: list[Estimate] = []
    plug = _Plug()
    for r in readings:
        celsius, amps = _temperature(r), through_plug(r)
        if celsius is None or amps is None:
            continue
        about = r.about
        rated = about.max_a if about.declared else (200.0 if about.dc else 32.0)
        if rated != plug.rated:
            plug = _Plug(rated, said_ns=plug.said_ns)
        if _advance(plug, r.time_ns, amps, celsius):
            warm = plug.load_s >= 3600.0
            ambient, k = plug.state
            sigma = math.sqrt(max(plug.p[1][1], 0.0))
            out.append(Estimate(r, k, sigma, plug.baseline if warm else None, celsius, ambient))
    return out


def _advance(plug: _Plug, t: int, amps: float, celsius: float) -> bool:
    if not plug.seen or t - plug.seen[-1][0] > 3600 * S:
        plug.u = 0.0 if plug.seen else (amps / plug.rated) ** 2
        plug.seen = [(t, amps)]
        k, var = (plug.state[1], plug.p[1][1]) if plug.known else (14.0, 400.0)
        plug.state, plug.p, plug.known = [celsius, k], [[25.0, 0.0], [0.0, var]], True
        return False
    plug.seen.append((t, amps))
    dt = t - plug.seen[0][0]
    if dt < 30 * S:
        return False
    mean = 0.0
    for (t0, a), (t1, _) in zip(plug.seen, plug.seen[1:], strict=False):
        mean += (a / plug.rated) ** 2 * (t1 - t0) / dt
    plug.seen = [(t, amps)]
    plug.u += (mean - plug.u) * (1.0 - math.exp(-dt / (480.0 * S)))
    _correct(plug, celsius, dt / S / 3600.0)
    if plug.u < 0.1:
        return False
    k = plug.state[1]
    sure = plug.p[1][1] <= (0.2 * k) ** 2
    if sure and (plug.load_s < 3600.0 or k <= 1.3 * plug.baseline):
        plug.load_s += dt / S
        plug.baseline += (k - plug.baseline) * (dt / S) / min(plug.load_s, 1_800_000.0)
    if plug.said_ns is not None and t - plug.said_ns < 300 * S:
        return False
    plug.said_ns = t
    return True


def _correct(plug: _Plug, celsius: float, hours: float) -> None:
    """Take in one temperature by the textbook: x += K e, P -= K H P, with H = (1, u)."""
    h = [1.0, plug.u]
    p = [row[:] for row in plug.p]
    p[0][0] += 2.25 * hours
    p[1][1] = min(p[1][1] + 9.0 * hours * min(plug.u, 1.0), 400.0)
    error = celsius - sum(hi * xi for hi, xi in zip(h, plug.state, strict=True))
    hp = [sum(h[i] * p[i][j] for i in range(2)) for j in range(2)]
    var = sum(hp[j] * h[j] for j in range(2)) + 0.7**2
    error = max(-4.0 * math.sqrt(var), min(4.0 * math.sqrt(var), error))
    gain = [value / var for value in hp]
    plug.state = [plug.state[0] + gain[0] * error, max(plug.state[1] + gain[1] * error, 0.0)]
    plug.p = [[p[i][j] - gain[i] * hp[j] for j in range(2)] for i in range(2)]


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit with its defaults."""
    estimates = [e for readings in story.by_evse() for e in _of_evse(readings)]
    estimates.sort(key=lambda e: (e.reading.order, e.reading.about.row, e.reading.time_ns))
    out: list[Expected] = []
    past: dict[int, list[tuple[int, bool]]] = {}  # time, too high
    last: dict[int, tuple[Reading, float | None]] = {}
    raised: dict[int, tuple[int, bool]] = {}
    for e in estimates:
        r, row = e.reading, e.reading.about.row
        median = _median(story, r, last)
        last[row] = (r, e.k if e.baseline is not None else None)
        low = e.k - 2.0 * e.sigma
        high = any(
            base is not None and low >= ratio * base and e.k - 4.0 >= base
            for ratio, base in ((1.8, e.baseline), (2.0, median))
        )
        run = past.setdefault(row, [])
        run.append((r.time_ns, high))
        same = [t for t, _ in run[len(run) - _tail(run) :]]
        kind, end = "", r.time_ns
        if high:
            if row not in raised and len(same) >= 3 and r.time_ns - same[0] >= 600 * S:
                kind, raised[row] = "raise", (same[0], r.live)
            elif row in raised and r.live and not raised[row][1]:
                kind, raised[row] = "raise", (raised[row][0], True)
        elif row in raised and r.time_ns - same[0] >= 600 * S:
            kind, end = "clear", same[0]
        if not kind:
            continue
        start, live = raised[row] if kind == "raise" else raised.pop(row)
        evidence = {
            "rise_k": e.k,
            "rise_error_k": e.sigma,
            "temperature_c": e.celsius,
            "ambient_c": e.ambient,
        }
        evidence |= {} if e.baseline is None else {"baseline_k": e.baseline}
        evidence |= {} if median is None else {"siblings_k": median}
        out.append(
            Expected(r.order, "contact_resistance", "evse", row, kind, "warning", live, start, end, evidence)
        )
    return out


def _tail(run: list[tuple[int, bool]]) -> int:
    """Return how many of the last judgements are like the last one."""
    n = 0
    for _, high in reversed(run):
        if high != run[-1][1]:
            break
        n += 1
    return n


def _median(story: Story, r: Reading, last: dict[int, tuple[Reading, float | None]]) -> float | None:
    def like(about: Reading) -> tuple[object, ...]:
        a = about.about
        return (story.stations[a.station][0], a.declared, a.conn_type, a.dc, a.max_a)

    found = [
        k
        for row, (other, k) in last.items()
        if row != r.about.row and k is not None and like(other) == like(r)
    ]
    return statistics.median(found) if len(found) >= 3 else None
