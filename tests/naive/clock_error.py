"""Twin of `clock_error`: judges each node's heartbeats one after the other, with all that came before."""

from __future__ import annotations

from typing import Any

from .plain import Expected, S, Story


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit with its defaults."""
    out: list[Expected] = []
    for row in range(len(story.nodes)):
        beats = [
            m
            for m in sorted(story.messages, key=lambda m: m.order)
            if m.node == row and m.kind == "heartbeat" and m.skew_ns is not None and not m.duplicate
        ]
        sizes = [abs(m.skew_ns or 0) for m in beats]
        raised, start, at = False, 0, 0
        for i, beat in enumerate(beats):
            run = i
            while run >= 0 and sizes[run] > 60 * S:
                run -= 1
            wrong = i - run
            evidence: dict[str, Any] = {
                "skew_s": (beat.skew_ns or 0) / S,
                "limit_s": 300 if sizes[i] > 300 * S else 60,
                "heartbeats": wrong,
            }
            kind = ""
            if not raised and (wrong >= 3 or sizes[i] > 300 * S):
                kind, raised, start, at = "raise", True, beats[run + 1].recv_ns, beat.recv_ns
            elif raised and wrong == 0:
                first = i
                while sizes[first - 1] <= 60 * S:
                    first -= 1
                at = beats[first].recv_ns
                if beat.recv_ns - at >= 60 * S:
                    kind, raised = "clear", False
            if kind:
                out.append(
                    Expected(
                        beat.order, "clock_error", "node", row, kind, "warning", True, start, at, evidence
                    )
                )
    return out
