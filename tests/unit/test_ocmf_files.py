"""Files and carriage of signed meter values come back to the byte; any bytes have a verdict or an error."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.ocmf_files import container, read_signed
from models.errors import DecodeError
from models.ocmf import KeyRegister, SignedText, transactions, verify_record, verify_transaction
from models.ocmf_carriage import from_ocpi, from_ocpp, to_ocpi

from ._ocmf_signing import BEGIN, END, record, spki

KEYS = KeyRegister([("meter-1", spki("secp256r1"), None)])


def test_a_container_brings_back_every_byte() -> None:
    odd = record(BEGIN, END, TT='<5 & "6" > \u00e4').replace("OCMF|{", "OCMF|{\r\n\t\u20ac")
    given = [SignedText(odd, 'tx"<1>\n', "Transaction.End", spki("secp256r1")), SignedText(record(BEGIN))]
    back = read_signed(container(given, ["", "ab12"]).encode())
    assert back[0] == given[0]
    assert (back[1].text, back[1].public_key, back[1].transaction_id) == (given[1].text, "ab12", "")
    with pytest.raises(DecodeError, match="which XML cannot"):
        container([SignedText("OCMF|\x07|")])


def test_containers_in_their_variants() -> None:
    text = record(BEGIN, END)
    for packed in (text.encode().hex(), base64.b64encode(text.encode()).decode(),
                   base64.b32encode(text.encode()).decode()):  # fmt: skip
        xml = f"<v:values xmlns:v='u'><v:value><v:encodedData>{packed}</v:encodedData></v:value></v:values>"
        (found,) = read_signed(xml.encode())
        assert found.text == text
    (alfen,) = read_signed(b"<values><value><signedData format='ALFEN'>AP;0</signedData></value></values>")
    assert verify_record(alfen, KEYS).reason == "format 'ALFEN' is not OCMF"
    both = f"{text}\n{record(BEGIN)}\n".encode()
    assert [s.text.count("OCMF") for s in read_signed(both)] == [1, 1]
    wide = container([SignedText(text)]).replace("UTF-8", "UTF-16").encode("utf-16")
    assert read_signed(wide)[0].text == text


@pytest.mark.parametrize(
    "data",
    [
        b"", b" \n", b"\xff\x00", b"<values>", b"<values/>", b"{}", b"[1]", b'{"signed_data":{}}',
        b"<!DOCTYPE a [<!ENTITY b 'c'>]><values><value><signedData>&b;</signedData></value></values>",
        b"<?xml version='1.0' encoding='klingon'?><values/>",
    ],
)  # fmt: skip
def test_files_that_hold_no_values_are_refused_in_words(data: bytes) -> None:
    with pytest.raises(DecodeError):
        read_signed(data)


def test_carriage_keeps_texts_and_finds_them_again() -> None:
    text = record(BEGIN, END)
    key = base64.b64encode(b"oca:base16:asn1:" + spki("secp256r1").encode()).decode()
    packed = base64.b64encode(text.encode()).decode()
    ocpp = {"signedMeterData": packed, "encodingMethod": "OCMF", "publicKey": key}
    found = from_ocpp(ocpp, "tx1", "Transaction.End")
    assert found == SignedText(text, "tx1", "Transaction.End", spki("secp256r1"))
    assert from_ocpp({"value": text}).text == text
    assert from_ocpp({"encodingMethod": "EDL"}).problem == "encoding 'EDL' is not OCMF"
    data = to_ocpi([found])
    assert data["signed_values"][0]["nature"] == "End"
    assert from_ocpi({"session_id": "tx1", "signed_data": data}) == [found]
    assert read_signed(json.dumps({"session_id": "tx1", "signed_data": data}).encode()) == [found]


SEEDS = (record(BEGIN, END), record(payload="{}"), container([SignedText(record(BEGIN))]), "OCMF|{}|{}")


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(SEEDS), st.lists(st.tuples(st.integers(0, 3_000), st.binary(max_size=6)), max_size=4))
def test_any_bytes_have_a_verdict_or_a_clear_error(seed: str, edits: list[tuple[int, bytes]]) -> None:
    data = bytearray(seed.encode())
    for at, put in edits:
        data[at % len(data) : at % len(data) + len(put)] = put
    check_bytes(bytes(data))


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=200) | st.text('OCMF|{}[]":,-.BE12RVXTD<>&\\u\ud7ff', max_size=200).map(str.encode))
def test_random_bytes_too(data: bytes) -> None:
    check_bytes(data)
    check_bytes(b"OCMF|" + data + b"|" + data)


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=80, deadline=None)
@given(
    st.dictionaries(st.sampled_from([*BEGIN, "PG", "MS", "IS", "ID", "RD"]), json_like, max_size=6), json_like
)
def test_fields_of_any_kind_have_a_verdict(fields: dict[str, Any], odd: Any) -> None:
    for head, readings in ((fields, [BEGIN, END]), ({"RD": odd}, []), ({}, [BEGIN | fields, END])):
        payload = json.dumps({"MS": "meter-1", "PG": "T1", "RD": readings} | head)
        verdict = verify_transaction([verify_record(SignedText(record(payload=payload)), KEYS)])
        json.dumps(verdict.shown())


def check_bytes(data: bytes) -> None:
    try:
        signed = read_signed(data)
    except DecodeError:
        return
    records = [verify_record(each, KEYS, i) for i, each in enumerate(signed)]
    for group in transactions(records):
        found = verify_transaction(group)
        json.dumps(found.shown())
        for one_record in group:
            json.dumps(one_record.shown())
