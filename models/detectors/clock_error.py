"""A station's clock that is wrong: its heartbeats carry it, and arrival minus that is the skew.

Raised at a skew above 300 s at once, or above 60 s at three heartbeats running, either way round. The times
that the station sends are corrected by the skew meanwhile (`models.sequencing`). Cleared once heartbeats have
been right for 60 s: at the first right one that comes so long after the first right one.

Starts and ends with arrivals: the station's own times are what is in doubt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from models.batch import DECODED, HEARTBEAT
from models.detecting import CLEAR, RAISE, WARNING, DetectorSpec, Emissions, Observed
from models.units import NO_TIME, NS_PER_S

from ._base import check_version, ns, require
from ._few import Few

SPEC = DetectorSpec("clock_error", "node", "rule", evidence=("skew_s", "limit_s", "heartbeats"))

VERSION: Final = 2


@dataclass(frozen=True, slots=True)
class Config:
    """Limits of `clock_error`.

    Attributes
    ----------
    skew_s : float
        Skew that raises when heartbeats running show it. Unit: s. Default 60. Source: CONVENTIONS.
    heartbeats : int
        How many that takes. Unit: heartbeats. Default 3. Source: CONVENTIONS.
    jump_s : float
        Skew that raises at once. Unit: s. Default 300. Source: CONVENTIONS.
    hold_s : float
        Clear when it was right for so long. Unit: s. Default 60. Source: CONVENTIONS, clear.
    """

    skew_s: float = 60.0
    heartbeats: int = 3
    jump_s: float = 300.0
    hold_s: float = 60.0

    def __post_init__(self) -> None:
        require(
            self,
            skew_s=(1.0, 86_400.0),
            heartbeats=(1, 1_000),
            jump_s=(1.0, 86_400.0),
            hold_s=(0.0, 86_400.0),
        )


_FIELDS: Final[list[Any]] = [
    ("since_ns", "i8"),  # first of the wrong heartbeats running
    ("good_ns", "i8"),  # first right heartbeat since, while raised
    ("start_ns", "i8"),
    ("wrong", "i4"),  # wrong heartbeats running
    ("raised", "u1"),
]
_BLANK: Final[dict[str, Any]] = {"since_ns": NO_TIME, "good_ns": NO_TIME, "start_ns": NO_TIME}


class Detector:
    """The detector behind `clock_error`."""

    def __init__(self, config: Config, resume_state: dict[str, Any] | None = None) -> None:
        self._config = config
        self._skew_ns, self._jump_ns, self._hold_ns = ns(config.skew_s), ns(config.jump_s), ns(config.hold_s)
        self._nodes = Few(_FIELDS, _BLANK)  # whose clock is or was wrong
        if resume_state is not None:
            check_version(SPEC, VERSION, resume_state)
            self._nodes.load(resume_state["nodes"], SPEC.code)

    def process(self, seen: Observed, out: Emissions) -> None:
        """Take in one batch and emit what changed."""
        m = seen.messages
        told = np.flatnonzero(
            (m.kind == HEARTBEAT) & (m.skew_ns != NO_TIME) & (m.fate == DECODED) & (m.node >= 0)
        )
        if len(told) == 0:
            return
        # heartbeats of clocks that are right and were so before say nothing: no step each for them
        suspect = np.zeros(seen.devices.n_nodes, np.bool_)
        suspect[self._nodes.rows()] = True
        suspect[m.node[told[np.abs(m.skew_ns[told]) > self._skew_ns]]] = True
        for k in told[suspect[m.node[told]]].tolist():
            node = int(m.node[k])
            rec = self._nodes.take(node)
            self._take(rec, node, int(m.skew_ns[k]), seen, k, out)
            if not rec["raised"] and not rec["wrong"]:
                self._nodes.give_back(node)

    def _take(self, rec: Any, node: int, skew_ns: int, seen: Observed, k: int, out: Emissions) -> None:
        """Take in heartbeat k of the batch."""
        recv_ns, size = int(seen.messages.recv_ns[k]), abs(skew_ns)
        kind = 0
        if size > self._skew_ns:
            if rec["wrong"] == 0:
                rec["since_ns"] = recv_ns
            rec["wrong"] = min(int(rec["wrong"]) + 1, 1_000_000)
            rec["good_ns"] = NO_TIME
            if not rec["raised"] and (size > self._jump_ns or rec["wrong"] >= self._config.heartbeats):
                rec["raised"], rec["start_ns"], kind = 1, rec["since_ns"], RAISE
        else:
            rec["wrong"] = 0
            if rec["raised"]:
                if rec["good_ns"] == NO_TIME:
                    rec["good_ns"] = recv_ns
                if recv_ns - rec["good_ns"] >= self._hold_ns:
                    rec["raised"], kind = 0, CLEAR
        if kind:
            limit_ns = self._jump_ns if size > self._jump_ns else self._skew_ns
            out.add(
                SPEC,
                order=int(seen.messages.order[k]),
                effect_ns=int(seen.messages.effect_ns[k]),
                subject=node,
                kind=kind,
                severity=WARNING,
                start_ns=int(rec["start_ns"]),
                time_ns=recv_ns if kind == RAISE else int(rec["good_ns"]),
                score=round(size / limit_ns, 6),
                evidence={
                    "skew_s": round(skew_ns / NS_PER_S, 3),
                    "limit_s": limit_ns / NS_PER_S,
                    "heartbeats": int(rec["wrong"]),
                },
            )

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data, copied."""
        return {"code": SPEC.code, "version": VERSION, "nodes": self._nodes.columns()}

    def nbytes(self) -> int:
        """Return the bytes of state held."""
        return self._nodes.nbytes


def build(config: Config, resume_state: dict[str, Any] | None = None) -> Detector:
    """Return the detector, with the state of `resume_state` if given."""
    return Detector(config, resume_state)
