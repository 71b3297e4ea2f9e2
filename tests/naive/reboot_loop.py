"""Twin of `reboot_loop`."""

from __future__ import annotations

from .plain import Expected, Story
from .repeats import Happened, Subject, judge


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit with its defaults."""
    out = []
    for row in range(len(story.nodes)):
        subject, boots = Subject("reboot_loop", "node", row), [-1]
        for m in sorted(story.messages, key=lambda m: m.order):
            if m.node != row or m.duplicate or m.boot <= max(boots):
                continue
            if max(boots) >= 0 and m.live:
                subject.times.append(Happened(m.effect_ns, m.order, m.effect_ns, True))
            boots.append(m.boot)
        out += judge(story, subject, 4)
    return out
