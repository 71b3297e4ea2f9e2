"""Real sessions as ``sessions.jsonl``: ``python -m tests.convert.session_list DATA OUT acn|epfl``.

What `chargestream tariff simulate` reads. Times are those of the data set; nothing is added.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path

from .sessions import Session, acn_sessions, epfl_sessions


def write(sessions: Iterable[Session], out: Path) -> int:
    """Write the sessions that have an energy and do not end before they begin; return how many."""
    count = 0
    with out.open("w") as lines:
        for session in sessions:
            if session.energy_mwh < 0 or session.end_ms < session.begin_ms:
                continue
            site, _, node = session.node.partition("/")
            whole, rest = divmod(session.energy_mwh, 1000)
            row = {
                "site": site,
                "station": node,
                "evse": session.evse,
                "transaction_id": session.tx_id,
                "start": session.begin_ms,
                "end": session.end_ms,
                "energy_wh": whole if rest == 0 else session.energy_mwh / 1000,
                "state": "complete",
            }
            lines.write(json.dumps(row) + "\n")
            count += 1
    return count


if __name__ == "__main__":
    data, out, which = sys.argv[1:4]
    print(write({"acn": acn_sessions, "epfl": epfl_sessions}[which](Path(data)), Path(out)))
