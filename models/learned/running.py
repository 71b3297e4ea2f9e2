"""What learned models do in the running service: who judges, what a shadow would say, whether they still fit.

Each shard counts for itself; counts add up, over shards and over workers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from .drift import report


def merged(parts: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one entry per detector and pair of models, of what shards or workers said of theirs.

    An entry has ``detector, kind, model, shadow, refused, compared`` (how both judged, by count),
    ``sessions`` (counted for drift), ``drifted``, ``drift`` (feature, psi, state), and ``features, shares,
    counts, trained``, from which entries are merged again.
    """
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for part in parts:
        key = tuple(str(part[name]) for name in ("detector", "kind", "model", "shadow"))
        if key not in found:
            found[key] = {name: part[name] for name in _KEPT} | {"compared": dict(part["compared"])}
            continue
        entry = found[key]
        entry["refused"] = entry["refused"] or part["refused"]
        entry["compared"] = {name: n + part["compared"][name] for name, n in entry["compared"].items()}
        entry["counts"] = (np.array(entry["counts"]) + np.array(part["counts"])).tolist()
    return [_judged(found[key]) for key in sorted(found)]


_KEPT = ("detector", "kind", "model", "shadow", "refused", "features", "shares", "counts", "trained")


def _judged(entry: dict[str, Any]) -> dict[str, Any]:
    counts = np.array(entry["counts"], np.int64)
    rows = (
        report(entry["features"], np.array(entry["shares"]), counts, entry["trained"]) if len(counts) else []
    )
    sessions = int(counts[0].sum()) if len(counts) else 0
    drifted = any(row["state"] == "drifted" for row in rows)
    return entry | {"sessions": sessions, "drifted": drifted, "drift": rows}


def problems(entry: dict[str, Any]) -> list[str]:
    """Return what a person should know of a merged entry, in words."""
    out = []
    worst = [row for row in entry["drift"] if row["state"] == "drifted"]
    if worst:
        names = ", ".join(f"{row['feature']} {row['psi']:.2f}" for row in worst)
        out.append(
            f"{entry['detector']}: model {entry['model']} no longer fits its input ({names}; stability index"
            f" above 0.25): train a new one, and compare it as shadow"
        )
    if entry["refused"]:
        out.append(
            f"{entry['detector']}: an operator asked for model {entry['refused']}, which the folder of models"
            " does not have"
        )
    return out
