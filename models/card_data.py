"""Data of payment cards: told apart so that it can be refused. It is never stored, passed on or shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from .errors import DecodeError

#: Reason of what is refused for holding any; its payload goes nowhere.
CARD_DATA: Final = "card_data"
_NAMES: Final = re.compile(
    r"^(pan|cardnumber|cardno|ccnumber|creditcard(number)?|primaryaccountnumber|cvv2?|cvc2?|cav2?|cid2|csc|pin|"
    r"pinblock|track([12]|data)?|magstripe|emv|emvdata|expiry(date|month|year)?|exp(date|month|year)|"
    r"cardholder(name)?|cardexpiry(date)?|securitycode|cardsecuritycode)$"
)
_TRACK: Final = re.compile(r"(;\d{12,19}=)|(%?[Bb]\d{12,19}\^)")
_DIGITS: Final = re.compile(r"(?<!\d)[2-6](?:[ -]?\d){11,18}(?!\d)")
_FREE: Final = frozenset({"t", "transaction_id"})  # numbers that a station chooses
_DEPTH: Final = 16


def refuse_card_data(body: Any) -> None:
    """Raise for what looks like data of a payment card: by a field's name, by tracks, by a number's digits.

    Raises
    ------
    DecodeError
        With reason ``card_data``; names the field, never its value.
    """
    for name, problem in _card_data(body, "", 0):
        raise DecodeError(
            CARD_DATA,
            f"{name or 'the body'} {problem}: data of payment cards is never taken; "
            "send the payment provider's own reference",
        )


def _card_data(value: Any, name: str, depth: int) -> Iterable[tuple[str, str]]:
    if depth > _DEPTH:
        yield name, "is nested too deeply to be looked through"
    elif isinstance(value, Mapping):
        for key, item in value.items():
            place = f"{name}.{key}" if name else str(key)
            if _NAMES.match(re.sub(r"[^a-z0-9]", "", str(key).lower())):
                yield place, "is a field of card data"
            elif str(key) not in _FREE:
                yield from _card_data(item, place, depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _card_data(item, name, depth + 1)
    elif isinstance(value, str | int) and not isinstance(value, bool):
        text = str(value)
        if _TRACK.search(text):
            yield name, "looks like a track of a magnetic stripe"
        if any(_luhn(found.group()) for found in _DIGITS.finditer(text)):
            yield name, "looks like a card number"


def _luhn(text: str) -> bool:
    digits = [int(c) for c in text if c.isdigit()]
    odd, even = digits[-1::-2], digits[-2::-2]
    return (sum(odd) + sum(2 * d - 9 * (d > 4) for d in even)) % 10 == 0
