"""Textbook form of a condition that must last: looks back over all samples each time."""

from __future__ import annotations


class Lasting:
    """Levels 0, 1, 2 of one EVSE; `add` returns raise, update, clear or "" for each sample."""

    def __init__(self, least_ns: int, least_samples: int, hold_ns: int, gap_ns: int) -> None:
        self.least_ns, self.least_samples = least_ns, least_samples
        self.hold_ns, self.gap_ns = hold_ns, gap_ns
        self.samples: list[tuple[int, int]] = []
        self.raised = 0
        self.live = False
        self.start_ns = 0
        self.end_ns = 0

    def _reached(self, level: int) -> int | None:
        """Return when the run of at least `level` up to now began, if it lasted long enough."""
        run: list[int] = []
        for t, found in reversed(self.samples):
            if found < level or (run and run[-1] - t > self.gap_ns):
                break
            run.append(t)
        if len(run) >= self.least_samples and run[0] - run[-1] >= self.least_ns:
            return run[-1]
        return None

    def add(self, t: int, level: int, live: bool) -> str:
        """Take in a sample."""
        self.samples.append((t, level))
        if level == 0:
            absent = []
            for when, found in reversed(self.samples):
                if found:
                    break
                absent.append(when)
            if self.raised and t - absent[-1] >= self.hold_ns:
                self.raised, self.end_ns = 0, absent[-1]
                return "clear"
            return ""
        reached = 2 if self._reached(2) is not None else 1 if self._reached(1) is not None else 0
        if not self.raised:
            if reached:
                began = self._reached(1)
                assert began is not None
                self.raised, self.live, self.start_ns = reached, live, began
                return "raise"
            return ""
        higher = reached > self.raised
        self.raised = max(self.raised, reached)
        if live and not self.live:
            self.live = True
            return "raise"
        return "update" if higher else ""
