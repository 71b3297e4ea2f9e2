"""Who keeps an EVSE out of service: findings, or a person, whom no reaction overrules."""

from __future__ import annotations

from typing import Any

import msgspec

from .command_request import CommandRequest
from .errors import DecodeError

#: The command of which a person's word counts more than a rule's.
_COMMAND = "ChangeAvailability"


def place(site: str, station: str, evse: int | None) -> str:
    """Return the name of an EVSE, or of a station as a whole, whose state is another one (OCPP 2.0.1 G03)."""
    return f"{site}/{station}/{'' if evse is None else evse}"


class OutOfService(msgspec.Struct, kw_only=True):
    """What is known of every place that is out of service.

    Attributes
    ----------
    causes : dict
        Place -> causes of steps of open cases that keep it so.
    persons : dict
        Place -> who set it Inoperative by a command.
    reported : dict
        Place -> true where the station itself says Unavailable.
    """

    causes: dict[str, list[str]] = {}
    persons: dict[str, str] = {}
    reported: dict[str, bool] = {}

    def report(self, at: str, status: str) -> None:
        """Take note of a connector's status."""
        if status == "Unavailable":
            self.reported[at] = True
        else:
            self.reported.pop(at, None)

    def ask(self, body: dict[str, Any]) -> None:
        """Take note of a person's request for a command; one that is none is refused elsewhere."""
        if body.get("command") != _COMMAND or body.get("cause"):
            return
        try:
            request = msgspec.convert(body, CommandRequest)
            evse = (request.body.get("evse") or {}).get("id", request.evse)
        except (msgspec.ValidationError, DecodeError, AttributeError):
            return
        at = place(request.site, request.station, evse if isinstance(evse, int) else None)
        if request.body.get("operationalStatus") == "Inoperative":
            self.persons[at] = request.by
        else:
            self.persons.pop(at, None)
            self.reported.pop(at, None)

    def take(self, site: str, station: str, evse: int | None, cause: str) -> str:
        """Note that a step takes a place out of service, or return why there is nothing to do."""
        at = place(site, station, evse)
        who = self.persons.get(at) or self.persons.get(place(site, station, None))
        if who:
            return f"{who} set it Inoperative already"
        causes = self.causes.get(at, [])
        if at in self.reported and not causes:
            return "it was out of service already"
        self.causes[at] = [*causes, cause]
        return ""

    def give_back(self, site: str, station: str, evse: int | None, cause: str) -> str:
        """Note that a step is undone; return who else keeps the place out of service, empty: nobody."""
        at = place(site, station, evse)
        left = [other for other in self.causes.pop(at, []) if other != cause]
        if left:
            self.causes[at] = left
            return f"finding {left[0].split('/')[1][:8]} still keeps it out of service"
        if at in self.persons:
            return f"{self.persons[at]} set it Inoperative meanwhile"
        self.reported.pop(at, None)  # what the station says comes later than what it is told
        return ""

    def forget(self, causes_of: str) -> None:
        """Forget the steps of a case that is over; what is never undone stays as it is."""
        for at, causes in list(self.causes.items()):
            left = [cause for cause in causes if not cause.startswith(causes_of)]
            if left:
                self.causes[at] = left
            else:
                del self.causes[at]
