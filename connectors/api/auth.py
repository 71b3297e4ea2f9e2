"""Who may ask: bearer tokens with scopes, and how often."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Annotated, Any, Final

from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel

from connectors.billing_reader import BillingReader
from connectors.billing_writer import Caller, any_token, find_caller

from .forms import refuse_foreign
from .here import from_here

_MOST_KEYS: Final = 10_000


class Refusal(BaseModel):
    """Why there is no answer."""

    detail: str


#: Answers that every address with a token may give, for its description.
REFUSALS: Final[dict[int | str, dict[str, Any]]] = {
    401: {"description": "no token, or one that is unknown, expired or revoked", "model": Refusal},
    403: {"description": "the token lacks the scope", "model": Refusal},
    429: {"description": "too many requests; see Retry-After", "model": Refusal},
    503: {"description": "the ledger cannot be read now", "content": {"text/plain": {}}},
}


class RateLimit:
    """A token bucket for each key. Thread-safe.

    Parameters
    ----------
    per_s : float
        Requests that come back each second.
    burst : int
        Requests that may come at once.
    steady_s : callable
        A clock that never steps back, s.
    """

    def __init__(self, per_s: float, burst: int, steady_s: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._burst, self._steady_s = per_s, float(burst), steady_s
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait_s(self, key: str, cost: float = 1.0) -> float:
        """Take one request of `key` and return 0, or return how long to wait and take none."""
        now = self._steady_s()
        with self._lock:
            left, at = self._buckets.pop(key, (self._burst, now))
            left = min(self._burst, left + (now - at) * self._per_s)
            wait = max(0.0, (1.0 - left) / self._per_s) if left < 1.0 else 0.0
            self._buckets[key] = (left if wait else left - cost, now)
            if len(self._buckets) > _MOST_KEYS:
                self._buckets.popitem(last=False)
        return wait


#: A person at this machine, as long as there are no tokens.
NOBODY: Final = Caller("", "", frozenset(), None)

bearer: Final = HTTPBearer(auto_error=False, description="A token of `chargestream token create`.")
Given = Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]


class Gate:
    """Lets callers in.

    Parameters
    ----------
    reader : BillingReader
    limit : RateLimit
        By token.
    strangers : RateLimit
        By address, of requests whose token is wrong: guessing must not be cheap.
    now_ms : callable
    """

    def __init__(
        self,
        reader: BillingReader,
        limit: RateLimit,
        strangers: RateLimit,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.reader, self.limit, self.strangers, self.now_ms = reader, limit, strangers, now_ms

    def needs(self, *scopes: str) -> Callable[..., Caller]:
        """Return the dependency that lets in whoever has one of `scopes`."""

        def enter(request: Request, given: Given) -> Caller:
            caller = self._caller(request, given.credentials if given else "")
            slow_down(self.limit.wait_s(caller.token_id))
            if not caller.scopes & set(scopes):
                raise HTTPException(403, f"this token has no scope {' or '.join(scopes)}")
            return caller

        return enter

    def changes(self, *scopes: str) -> Callable[..., Caller]:
        """Return the dependency that lets in whoever may change something.

        Once there was any token, that is whoever has one of `scopes`. Before, it is a person at this machine,
        whose name is what he says it is: the caller's name is empty then (`who`).
        """

        def enter(request: Request, given: Given) -> Caller:
            refuse_foreign(request)
            if given is None and not self.tokens():
                if from_here(request):
                    return NOBODY
                raise HTTPException(
                    403,
                    "there are no tokens yet, so only the user that runs this service may change anything, at"
                    " this machine itself (http://127.0.0.1) and through no proxy. Make one:"
                    f" chargestream token create NAME --scope {' '.join(scopes)}",
                )
            return allowed(request, given)

        allowed = self.needs(*scopes)
        return enter

    def tokens(self) -> bool:
        """Return whether there ever was a token.

        Raises
        ------
        StorageError
            If there is no ledger that could tell.
        """
        with self.reader.connected() as db:
            return any_token(db)

    def _caller(self, request: Request, token: str) -> Caller:
        host = request.client.host if request.client else ""
        caller = None
        if token:
            slow_down(self.strangers.wait_s(host, cost=0.0))
            with self.reader.connected() as db:
                caller = find_caller(db, token, self.now_ms())
        if caller is None:
            slow_down(self.strangers.wait_s(host))
            raise HTTPException(
                401, "a valid token is needed: Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"}
            )
        return caller


def who(caller: Caller, says: str | None) -> str:
    """Return who changes something: the name of the token, or without tokens what the person says.

    Raises
    ------
    HTTPException
        422 if neither says anything.
    """
    name = caller.name or (says or "").strip()
    if not name:
        raise HTTPException(422, "by: a name is needed")
    return name


def has(caller: Caller, scope: str) -> None:
    """Refuse a token without `scope`, where a request's body says which is needed."""
    if caller is not NOBODY and scope not in caller.scopes:
        raise HTTPException(403, f"this token has no scope {scope}")


def everywhere(caller: Caller, what: str = "campaigns are") -> None:
    """Refuse a token that is for some sites only, where something is about all of them."""
    if caller.sites is not None:
        raise HTTPException(
            403, f"this token is for {', '.join(caller.sites)} only, and {what} about all sites"
        )


def slow_down(wait_s: float) -> None:
    """Refuse with 429 when there is something to wait for."""
    if wait_s:
        raise HTTPException(429, "too many requests", {"Retry-After": str(max(1, math.ceil(wait_s)))})
