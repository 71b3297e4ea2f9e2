"""Tokens that eMSPs told us over OCPI, as the flow knows them: by their hashes, from operators' messages.

The API publishes each token that it takes as ``_op/token``, so that it is journaled: whose customer a session
is depends on nothing else, and a replay gives the same bills. Stations tell hashes; a message names the
hashes that a token may have with them, for their secrets ("salts") are no business of the flow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any, Final

import msgspec
from pydantic import ValidationError

from .cdr import CdrToken
from .errors import DecodeError
from .topics import OPERATOR_SITE, ROOT

KIND: Final = "token"
TOPIC: Final = f"{ROOT}/{OPERATOR_SITE}/{KIND}"
#: Hashes that a shard remembers at most; the ones told longest ago go first.
MOST: Final = 400_000
_FIELDS: Final = ("country_code", "party_id", "uid", "type", "contract_id")
_HASH_MAX: Final = 255


class TokenWord(msgspec.Struct, frozen=True):
    """What a message says: the hashes of a token, and the token; `last_updated_ms` is the eMSP's."""

    hashes: tuple[str, ...]
    last_updated_ms: int
    token: dict[str, str]


def hashes_of(uid: str, contract_id: str, kind: str, salts: Iterable[str]) -> list[str]:
    """Return the hashes that stations may tell of a token: SHA-256, with each salt before it and with none.

    OCPI does not tell upper from lower case, stations may send either; an EMAID may be sent as its contract.
    """
    numbers = [uid, contract_id] if kind == "EMAID" and contract_id else [uid]
    spelled = {form for number in numbers for form in (number, number.upper(), number.lower())}
    return sorted(
        sha256((salt + form).encode("utf-8", "replace")).hexdigest()
        for salt in {"", *salts}
        for form in spelled
    )


def token_message(token: Mapping[str, Any], last_updated_ms: int, salts: Iterable[str]) -> dict[str, Any]:
    """Return the body of ``_op/token`` for a Token object of OCPI."""
    known = {name: str(token[name]) for name in _FIELDS}
    known["contract_id"] = known["contract_id"] or known["uid"]
    hashes = hashes_of(known["uid"], known["contract_id"], known["type"], salts)
    return {"v": 1, "hashes": hashes, "last_updated": last_updated_ms, "token": known}


def read_token(body: Mapping[str, Any]) -> TokenWord:
    """Return what the body of a token's message says.

    Raises
    ------
    DecodeError
        If it is not complete, or no CDR could carry the token.
    """
    hashes, updated, token = body.get("hashes"), body.get("last_updated"), body.get("token")
    if not isinstance(hashes, list) or not all(
        isinstance(h, str) and 0 < len(h) <= _HASH_MAX for h in hashes
    ):
        raise DecodeError("token", "hashes: expected a list of texts")
    if type(updated) is not int or not isinstance(token, Mapping):
        raise DecodeError("token", "last_updated (epoch ms) and token (an object) are needed")
    try:
        found = CdrToken.model_validate({name: token.get(name) for name in _FIELDS})
    except ValidationError as error:
        first = error.errors()[0]
        raise DecodeError("token", f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    return TokenWord(tuple(hashes), updated, found.model_dump(mode="json"))


class TokenBook:
    """The partners' tokens that one shard knows.

    Of tokens with one hash (two eMSPs may give out the same number) the one that was updated last counts.
    """

    def __init__(self, resume_state: dict[str, bytes] | None = None) -> None:
        self._known: dict[str, bytes] = dict(resume_state or {})

    def snapshot(self) -> dict[str, bytes]:
        """Return plain data."""
        return dict(self._known)

    def take(self, word: TokenWord) -> None:
        """Remember a token; one that is older than what is known changes nothing."""
        data = msgspec.msgpack.encode((word.last_updated_ms, [word.token[name] for name in _FIELDS]))
        for each in word.hashes:
            held = self._known.get(each)
            if held is None or _read(held)[0] <= word.last_updated_ms:
                self._known.pop(each, None)  # it goes to the end: told last
                self._known[each] = data
        while len(self._known) > MOST:
            del self._known[next(iter(self._known))]

    def find(self, token_hash: str) -> dict[str, str] | None:
        """Return the ``cdr_token`` behind a hash that a station told."""
        held = self._known.get(token_hash) if token_hash else None
        return None if held is None else dict(zip(_FIELDS, _read(held)[1], strict=True))


def _read(data: bytes) -> tuple[int, list[str]]:
    return msgspec.msgpack.decode(data, type=tuple[int, list[str]])
