"""What campaigns know of every station: identity, version, whether it is there and whether it charges."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from ._campaign_columns import Columns
from ._campaign_plan import Target
from ._firmware_versions import FirmwareError, meets
from ._gate_history import History

_NEVER: Final = -1


class Fleet(Columns):
    """Stations to rows; rows are never reused or removed. Words (vendors, models, versions) are interned."""

    COLUMNS: ClassVar[Mapping[str, tuple[str, int]]] = {
        "site": ("int32", 0),
        "vendor": ("int32", 0),
        "model": ("int32", 0),
        "fw": ("int32", 0),
        "boot": ("int64", _NEVER),
        "online": ("uint8", 0),
        "charging": ("uint8", 0),
        "seen_order": ("int64", _NEVER),
        "charging_order": ("int64", _NEVER),
        "hour": ("int64", _NEVER),  # newest hour whose digest came, and the 64 hours up to it as bits
        "hours": ("uint64", 0),
    }
    site: NDArray[np.int32]
    vendor: NDArray[np.int32]
    model: NDArray[np.int32]
    fw: NDArray[np.int32]
    boot: NDArray[np.int64]
    online: NDArray[np.uint8]
    charging: NDArray[np.uint8]
    seen_order: NDArray[np.int64]
    charging_order: NDArray[np.int64]
    hour: NDArray[np.int64]
    hours: NDArray[np.uint64]

    def __init__(self) -> None:
        self.names: list[tuple[str, str]] = []
        self.words: list[str] = [""]
        self.history = History()
        self.tags: list[tuple[str, str]] = []  # pattern of site/station, tag
        self._row: dict[tuple[str, str], int] = {}
        self._word: dict[str, int] = {"": 0}
        super().__init__()

    def __len__(self) -> int:
        return len(self.names)

    def row(self, site: str, station: str) -> int:
        """Return the row of a station, added if new."""
        key = (site, station)
        row = self._row.get(key)
        if row is None:
            row = self._row[key] = len(self.names)
            self.names.append(key)
            self.room(row + 1)
            self.site[row] = self.code(site)
        return row

    def find(self, site: str, station: str) -> int:
        """Return the row of a station, -1 if nothing was heard of it."""
        return self._row.get((site, station), -1)

    def code(self, word: str) -> int:
        """Return the code of a word, added if new; "" is 0."""
        code = self._word.get(word)
        if code is None:
            code = self._word[word] = len(self.words)
            self.words.append(word)
        return code

    def identity(self, row: int) -> tuple[str, str, str]:
        """Return vendor, model and version of a station."""
        return self.words[self.vendor[row]], self.words[self.model[row]], self.words[self.fw[row]]

    def tags_of(self, row: int) -> set[str]:
        """Return the tags of a station."""
        path = "/".join(self.names[row])
        return {tag for pattern, tag in self.tags if fnmatchcase(path, pattern)}

    def fits(self, row: int, target: Target) -> bool:
        """Return whether a target chooses a station (its vendor and model left aside)."""
        site, station = self.names[row]
        if target.sites and not any(fnmatchcase(site, pattern) for pattern in target.sites):
            return False
        path = f"{site}/{station}"
        if target.stations and not any(fnmatchcase(path, pattern) for pattern in target.stations):
            return False
        if target.tags and not self.tags_of(row) & set(target.tags):
            return False
        try:
            return meets(self.words[self.fw[row]], target.versions)
        except FirmwareError:
            return False

    def tag(self, stations: tuple[str, ...], tags: tuple[str, ...], *, remove: bool) -> None:
        """Give tags to all stations, present and future, that a pattern of ``site/station`` fits."""
        pairs = [(pattern, tag) for pattern in stations for tag in tags]
        if remove:
            self.tags = [pair for pair in self.tags if pair not in pairs]
        else:
            self.tags += [pair for pair in pairs if pair not in self.tags]

    def new_hour(self, row: int, hour: int) -> bool:
        """Note that the digest of an hour came; return whether it is the first of that hour.

        One that is 64 or more hours older than the newest counts as known.
        """
        newest = int(self.hour[row])
        seen = int(self.hours[row])
        if hour > newest:
            seen = ((seen << min(64, hour - newest)) | 1) & 0xFFFF_FFFF_FFFF_FFFF if newest >= 0 else 1
            self.hour[row], self.hours[row] = hour, seen
            return True
        bit = 1 << (newest - hour) if newest - hour < 64 else 0
        if bit == 0 or seen & bit:
            return False
        self.hours[row] = seen | bit
        return True

    def snapshot(self) -> dict[str, Any]:
        """Return plain data from which `restore` makes an equal table."""
        named = {"names": list(self.names), "words": list(self.words), "tags": list(self.tags)}
        return self.columns(len(self)) | named | {"history": self.history.snapshot(len(self))}

    @classmethod
    def restore(cls, state: dict[str, Any]) -> Fleet:
        """Return the table saved in `state`."""
        fleet = cls()
        for word in state["words"]:
            fleet.code(word)
        for site, station in state["names"]:
            fleet.row(site, station)
        fleet.tags = [(pattern, tag) for pattern, tag in state["tags"]]
        fleet.history = History.restore(state["history"])
        fleet.fill(state)
        return fleet
