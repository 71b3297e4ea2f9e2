"""Something that happens too often: so many times within a window, of nodes and of stations.

Times are event times; the last so many are kept. Raised when the oldest of them lies within the window
before the newest; over when that is no longer so, and cleared a hold later if it stays over.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from models.detecting import CLEAR, RAISE, WARNING, DetectorSpec, Emissions, Observed, Scope
from models.units import NS_PER_S

from ._base import check_version
from ._nodes import NEVER, NodeDetector

#: Most times that a configuration may ask for.
MOST: Final = 64
_VERSION: Final = 2

EVIDENCE: Final = ("times", "span_s", "window_s")


class Often(NamedTuple):
    """How often is too often."""

    least: int
    window_ns: int
    hold_ns: int


class Moment(NamedTuple):
    """When something happened, and when that was learnt."""

    time_ns: int
    order: int
    effect_ns: int
    live: bool


@dataclass(slots=True)
class _Times:
    """When it happened to one node or station, oldest first, and what is raised of it."""

    times: list[int] = field(default_factory=list)
    start_ns: int = 0
    n: int = 0  # times since the start of what is raised
    raised: bool = False
    live: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes held (an estimate)."""
        return 200 + 40 * len(self.times)


class RepeatDetector(NodeDetector):
    """Base of `flapping` and `reboot_loop`.

    Times are kept of what happened to lately only: once the newest is longer ago than the window it counts
    no more. `keep_ns` is by how much later than others' a scope's times may still come in.
    """

    def __init__(
        self, spec: DetectorSpec, often: Often, keep_ns: dict[Scope, int], resume_state: dict[str, Any] | None
    ) -> None:
        self.spec, self._often, self._keep_ns = spec, often, keep_ns
        self._lately: dict[Scope, dict[int, _Times]] = {scope: {} for scope in keep_ns}
        self.due_ns = NEVER
        if resume_state is not None:
            check_version(spec, _VERSION, resume_state)
            for scope, lately in self._lately.items():
                for row, times, *rest in resume_state[scope]:
                    lately[row] = _Times(list(times), *rest)
            self._set_due()

    def happened(self, scope: Scope, row: int, when: Moment, out: Emissions) -> None:
        """Count one more time."""
        of = self._lately[scope].setdefault(row, _Times())
        time_ns = max([when.time_ns, *of.times[-1:]])
        of.times = [*of.times, time_ns][-self._often.least :]
        of.n += 1
        if len(of.times) == self._often.least and time_ns - of.times[0] <= self._often.window_ns:
            if not of.raised:
                of.start_ns, of.n = of.times[0], self._often.least
            if not of.raised or (when.live and not of.live):
                of.raised, of.live = True, when.live
                self._emit(scope, row, RAISE, time_ns, when.order, when.effect_ns, out)
        self.due_ns = min(self.due_ns, self._deadline(scope, of))

    def _deadline(self, scope: Scope, of: _Times) -> int:
        """Return when what is raised clears, or what is not is forgotten."""
        if of.raised:
            return of.times[0] + self._often.window_ns + self._often.hold_ns
        return of.times[-1] + self._often.window_ns + self._keep_ns[scope] + 1

    def _set_due(self) -> None:
        self.due_ns = min(
            (self._deadline(scope, of) for scope, lately in self._lately.items() for of in lately.values()),
            default=NEVER,
        )

    def _due(self, now_ns: int, order: int, seen: Observed, out: Emissions) -> None:
        if now_ns < self.due_ns:
            return
        for scope, lately in self._lately.items():
            for row, of in sorted(lately.items()):
                if of.raised and self._deadline(scope, of) <= now_ns:
                    of.raised = False
                    end_ns = of.times[0] + self._often.window_ns
                    self._emit(scope, row, CLEAR, end_ns, order, now_ns, out)
                if not of.raised and self._deadline(scope, of) <= now_ns:
                    del lately[row]
        self._set_due()

    def _emit(
        self, scope: Scope, row: int, kind: int, time_ns: int, order: int, effect_ns: int, out: Emissions
    ) -> None:
        of = self._lately[scope][row]
        span_ns = of.times[-1] - of.times[0]
        evidence: dict[str, Any] = {"times": of.n}
        if kind == RAISE:
            evidence |= {"span_s": round(span_ns / NS_PER_S, 3)}
            evidence |= {"window_s": self._often.window_ns / NS_PER_S}
        out.add(
            self.spec,
            scope=scope,
            order=order,
            effect_ns=effect_ns,
            subject=row,
            kind=kind,
            severity=WARNING,
            start_ns=of.start_ns,
            time_ns=time_ns,
            live=of.live,
            score=round(self._often.window_ns / max(span_ns, NS_PER_S), 6),
            evidence=evidence,
        )

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data, copied."""
        state: dict[str, Any] = {"code": self.spec.code, "version": _VERSION}
        for scope, lately in self._lately.items():
            state[scope] = [
                [row, list(of.times), of.start_ns, of.n, of.raised, of.live]
                for row, of in sorted(lately.items())
            ]
        return state

    def nbytes(self) -> int:
        """Return the bytes of state held."""
        return sum(of.nbytes for lately in self._lately.values() for of in lately.values())
