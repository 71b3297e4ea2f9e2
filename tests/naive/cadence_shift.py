"""Twin of `cadence_shift`: sorts all intervals of a window and takes the one in the middle."""

from __future__ import annotations

from .plain import Expected, Message, Reading, S, Story


def _torn(messages: list[Message]) -> list[int]:
    """Return the orders of a node's messages that explain a long interval before them."""
    out = []
    boot, top = -1, -1
    for m in messages:
        torn = not m.live
        if m.boot >= 0 and m.seq >= 0:
            if m.boot > boot:
                torn = torn or boot >= 0
                boot, top = m.boot, m.seq
            elif m.boot == boot and m.seq > top:
                torn = torn or m.seq > (top if m.kind == "heartbeat" else top + 1)
                top = m.seq
        if torn:
            out.append(m.order)
    return out


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit with its defaults."""
    messages = sorted(story.messages, key=lambda m: m.order)
    torn = {
        node: _torn([m for m in messages if m.node == node and not m.duplicate])
        for node in range(len(story.nodes))
    }
    periods = _declared(story)
    return [e for rs in story.by_evse() for e in _of_evse(rs, torn[rs[0].about.node], periods)]


def _declared(story: Story) -> dict[int, list[tuple[int, float]]]:
    """Return (order, declared period) of each node, oldest first, as its readings know it."""
    out: dict[int, list[tuple[int, float]]] = {}
    for r in sorted(story.readings, key=lambda r: (r.order, r.about.row)):
        known = out.setdefault(r.about.node, [])
        period = r.about.sample_s or 0.0
        if r.about.declared and (not known or known[-1][1] != period):
            known.append((r.order, period))
    return out


def _of_evse(
    readings: list[Reading], torn: list[int], periods: dict[int, list[tuple[int, float]]]
) -> list[Expected]:
    out: list[Expected] = []
    window: list[float] = []
    raised, start, end = False, 0, 0
    known = 0.0
    before: Reading | None = None
    for r in readings:
        period = ([p for order, p in periods[r.about.node] if order <= r.order] or [0.0])[-1]
        if period != known:
            known, window, before = period, [], None
        if before is not None and r.live and period and before.live:
            interval = (r.time_ns - before.time_ns) / S
            explained = any(before.order < order <= r.order for order in torn)
            if not explained and interval <= 20 * period:
                if not window and not raised:
                    start = before.time_ns
                window.append(interval)
                if sum(window) >= 1800 and len(window) >= 4:
                    slow = sorted(window)[(len(window) - 1) // 2] >= 1.4 * period
                    evidence = {
                        "interval_mean_s": sum(window) / len(window),
                        "declared_s": period,
                        "long_share": sum(i >= 1.4 * period for i in window) / len(window),
                        "intervals": len(window),
                    }
                    end = r.time_ns if slow else end
                    if slow != raised:
                        raised = slow
                        kind = "raise" if slow else "clear"
                        where = (r.order, "cadence_shift", "evse", r.about.row, kind, "info", True)
                        out.append(Expected(*where, start, end, evidence))
                    window = []
        before = r
    return out
