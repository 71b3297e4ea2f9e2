"""What the fleet hands out: messages in arrival order, and the truth about injected faults."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple


class SimMessage(NamedTuple):
    """One message as it reaches the broker.

    Attributes
    ----------
    t_ms : int
        Arrival, epoch ms of true time.
    topic : str
    payload : bytes
        Native JSON.
    qos : int
    retain : bool
    node : int
        Row of the sending node in `Fleet.topology`.
    boot, seq : int
        Sequence of a QoS 1 message, -1 where it has none.
    will : bool
        The broker publishes it because the node's connection is lost; a publisher with a connection
        per node drops that connection instead.
    """

    t_ms: int
    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    node: int = -1
    boot: int = -1
    seq: int = -1
    will: bool = False


@dataclass(slots=True)
class Truth:
    """What was really wrong, where and when. Times are epoch ms of true time.

    `station` and `evse` are None above the fault's scope. `episodes` lists the single occurrences of
    faults that come and go ([start, end] each).
    """

    code: str
    site: str
    node: str | None
    station: str | None
    evse: int | None
    start: int
    end: int
    severity: str
    episodes: list[list[int]] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """Return the record as plain data, one line of a truth file."""
        out: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        if not self.episodes:
            del out["episodes"]
        return out
