"""Signed meter values: every curve and spelling verifies, what is forged or doubtful never bills."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from connectors.ocmf_files import read_signed, register
from models.errors import ConfigError
from models.ocmf import (
    KeyProblem,
    KeyRegister,
    RecordVerdict,
    Rules,
    SignedText,
    TransactionVerdict,
    read_key,
    transactions,
    verify_record,
    verify_transaction,
)

from ._ocmf_signing import BEGIN, CURVES, END, point, record, spki

DATA = Path(os.environ.get("CHARGESTREAM_DATA", "")) / "ocmf"
needs_data = pytest.mark.skipif(not (DATA / "expected.json").is_file(), reason="no OCMF samples here")
KEYS = KeyRegister([("meter-1", spki("secp256r1"), None)])
NO_KEYS = KeyRegister()


def judge(*texts: str, keys: KeyRegister = KEYS, rules: Rules = Rules()) -> TransactionVerdict:  # noqa: B008
    return verify_transaction([verify_record(SignedText(t), keys, i) for i, t in enumerate(texts)], rules)


def one(text: str, keys: KeyRegister = KEYS) -> RecordVerdict:
    return verify_record(SignedText(text), keys)


@needs_data
def test_every_sample_of_the_public_software_has_its_verdict() -> None:
    for expected in json.loads((DATA / "expected.json").read_text())["records"]:
        signed = read_signed((DATA / expected["file"]).read_bytes())[expected["index"]]
        found = verify_record(signed, NO_KEYS)
        assert found.signature_valid is expected["signature_valid"], expected["file"]
        assert found.algorithm == expected["signature_algorithm"]
        assert signed.context == (expected["context"] or "")
        assert found.payload is not None
        assert found.payload.version == expected["format_version"]
        assert found.payload.pagination == expected["pagination"]
        assert [[r.tx, r.identifier, r.value_text, r.unit] for r in found.payload.readings] == expected[
            "readings_TX_RI_RV_RU"
        ]
        assert verify_transaction([found]).verdict != "valid", "its key came with it"
        again = register([], signed.public_key)
        assert verify_record(signed, again).signature_valid is expected["signature_valid"]


@needs_data
def test_every_vector_of_the_javascript_library_has_its_verdict() -> None:
    for vector in json.loads((DATA / "road_labs_vectors.json").read_text()):
        section = json.dumps({"SA": f"ECDSA-{vector['curve']}-SHA256", "SD": vector["signature_hex"]})
        found = one(f"OCMF|{vector['payload']}|{section}", register([], vector["spki_hex"]))
        assert found.signature_valid is vector["expected"], vector["name"]


@pytest.mark.parametrize("curve", CURVES)
def test_every_curve_verifies_and_sees_a_changed_digit(curve: str) -> None:
    keys = KeyRegister([("meter-1", spki(curve), None)])
    text = record(BEGIN, END, curve=curve)
    assert judge(text, keys=keys).verdict == "valid"
    found = one(text.replace("111.25", "111.26"), keys)
    assert (found.signature_valid, found.algorithm) == (False, f"ECDSA-{curve}-SHA256")
    assert found.reason == "signature does not match the registered key"
    assert one(record(BEGIN, END, curve=curve, number=1), keys).signature_valid is False


@pytest.mark.parametrize("curve", CURVES)
def test_keys_are_read_as_people_and_devices_write_them(curve: str) -> None:
    der = bytes.fromhex(spki(curve))
    body = base64.b64encode(der).decode()
    pem = f"-----BEGIN PUBLIC KEY-----\n{body[:40]}\n{body[40:]}\n-----END PUBLIC KEY-----\n"
    bare = point(curve)
    name = {"brainpool256r1": "brainpoolP256r1", "brainpool384r1": "brainpoolP384r1"}.get(curve, curve)
    half = (len(bare) - 1) // 2
    compressed = bytes([2 + bare[-1] % 2]) + bare[1 : 1 + half]
    spaced = " ".join(der.hex().upper()[i : i + 4] for i in range(0, 2 * len(der), 4))
    texts = (der.hex(), "0x" + der.hex(), spaced, der.hex(":"), body, pem, bare.hex())
    found = {read_key(t, name) for t in (*texts, bare[1:].hex(), compressed.hex())}
    assert {(k.curve, k.point) for k in found} == {(name, bare)}
    (key,) = found
    assert bytes.fromhex(key.spki_hex()) == der
    raw = KeyRegister([("meter-1", bare.hex(), None)])
    assert one(record(BEGIN, curve=curve), raw).signature_valid is True


@pytest.mark.parametrize("text", ["", "zz", "00", "04" + "11" * 64, spki("secp256r1")[:-2], "30" * 200, "é"])
def test_what_is_no_key_says_so(text: str) -> None:
    with pytest.raises(KeyProblem):
        read_key(text, "secp256r1")
    with pytest.raises(ConfigError, match=r"key of meter m9"):
        register([("m9", text, "secp256r1")])


@pytest.mark.parametrize(
    "section",
    [
        {"SA": None}, {"SE": "hex"}, {"SE": "base64"}, {"SM": "application/x-der"}, {"SM": ""},
        {"SA": "ecdsa-prime256v1-sha256"}, {"SA": "ECDSA-secp384r1-SHA256"},
    ],
)  # fmt: skip
def test_signature_sections_in_their_spellings(section: dict[str, Any]) -> None:
    assert one(record(BEGIN, section=section)).signature_valid is True


def test_a_key_on_another_curve_than_the_record_names_is_noted() -> None:
    found = one(record(BEGIN, section={"SA": "ECDSA-secp384r1-SHA256"}))
    assert "names ECDSA-secp384r1-SHA256, the key lies on secp256r1" in found.reason


@pytest.mark.parametrize(
    ("section", "reason"),
    [
        ({"SA": "RSA-2048"}, "algorithm 'RSA-2048' is unknown"),
        ({"SA": "ECDSA-secp256r1-SHA512"}, "is unknown"),
        ({"SE": "base32"}, "encoding SE 'base32' is unknown"),
        ({"SM": "text/plain"}, "format SM 'text/plain' is unknown"),
        ({"SD": None}, "SD is missing"),
        ({"SD": "30"}, "cannot be read"),
        ({"SD": "3006020101020101ff"}, "bytes follow the signature"),
        ({"SD": "3006020100020101"}, "does not match"),
        ({"SD": 5}, "cannot be read"),
    ],
)
def test_signatures_that_cannot_be_right(section: dict[str, Any], reason: str) -> None:
    found = one(record(BEGIN, section=section))
    assert found.signature_valid is False
    assert reason in found.reason


def test_only_keys_of_the_operator_make_a_transaction_valid() -> None:
    forged = record(BEGIN, END, number=1)
    carried = SignedText(forged, public_key=spki("secp256r1", 1))
    unknown = verify_record(carried, NO_KEYS)
    assert (unknown.signature_valid, unknown.key_source, unknown.key_trusted) == (True, "container", False)
    assert verify_transaction([unknown]).verdict == "unproven"
    known = verify_record(carried, KEYS)
    assert known.signature_valid is False
    assert known.reason.endswith("it matches another key, which came with it")
    assert verify_transaction([known]).verdict == "invalid"
    fourth = one(f"{forged}|{spki('secp256r1', 1)}", NO_KEYS)
    assert (fourth.signature_valid, fourth.key_source) == (True, "record")
    none = one(record(BEGIN, END), NO_KEYS)
    assert (none.signature_valid, none.reason) == (None, "no public key of meter meter-1 is registered")
    assert verify_transaction([none]).verdict == "unproven"
    both = KeyRegister([("meter-1", spki("secp256r1", 9), None), ("meter-1", spki("secp256r1", 1), None)])
    assert judge(forged, keys=both).verdict == "valid"


def test_the_signed_bytes_are_the_text_as_sent() -> None:
    spaced = '{ "FV" : "1.0",\n "PG":"T1","MS":"meter-1", "RD":[] }'
    assert one(record(payload=spaced)).signature_valid is True
    assert one(record(payload=spaced).replace('"1.0",\n', '"1.0", ')).signature_valid is False
    assert one("\ufeff  " + record(payload=spaced) + "\r\n").signature_valid is True


def test_energy_is_exact_and_import_only() -> None:
    export = {"RV": 4.4, "RI": "1-0:2.8.0"}
    main = {"RI": BEGIN["RI"]}
    found = judge(record(BEGIN, export, END | main, export))
    assert (found.verdict, found.energy_mwh) == ("valid", 10_750_000)
    text = [
        record({**BEGIN, "RV": "   9.0380", "RI": "01-00:01.08.00.FF"}, PG="T7"),
        record(
            {**BEGIN, **END, "RV": "9.0391", "RI": "01-00:01.08.00.FF"},
            {"RV": "30", "RU": "sec", "RI": "01-00:00.08.06.FF"},
            PG="T8",
        ),
    ]
    split = judge(*text)
    assert (split.verdict, split.energy_mwh) == ("valid", 1_100)
    assert split.shown()["energy_wh"] == "1.1"
    assert split.shown()["duration_s"] == 3600
    assert judge(*text[::-1]).verdict == "valid", "pages order the records"
    assert judge(text[0], *text).verdict == "valid", "the same record twice counts once"
    device = {"RV": 100.0, "RI": "1-0:B1.8.0"}
    both = judge(record(BEGIN, device, END | main, device | {"RV": 110.5}))
    assert (both.verdict, both.energy_mwh) == ("valid", 10_500_000)


WRONG: list[tuple[str, list[str], str]] = [
    ("no end", [record(BEGIN)], "begin_end: 1 begin and 0 end values"),
    ("two begins", [record(BEGIN, {**BEGIN, "RV": 101}, END)], "begin_end: 2 begin"),
    ("no energy", [record({**BEGIN, "RU": "s"})], "begin_end: no reading of an import register"),
    ("export only", [record({**BEGIN, "RI": "1-0:2.8.0"}, END)], "begin_end: no reading of an import"),
    ("not a number", [record(BEGIN, {**END, "RV": "1e3"})], "begin_end: 1 begin and 0 end"),
    (
        "register falls",
        [record(BEGIN, {**END, "RV": 100.4})],
        "value: the register falls from 100.5 to 100.4",
    ),
    (
        "falls between",
        [record(BEGIN, {"TX": "C", "RV": 105}, {"RV": 104}, END)],
        "value: the register falls b",
    ),
    ("negative", [record({**BEGIN, "RV": -1}, END)], "value: the register is negative"),
    ("time falls", [record(BEGIN, {**END, "TM": "2026-03-01T09:59:59,000+0100 S"})], "time: the end"),
    ("zone", [record(BEGIN, {**END, "TM": "2026-03-01T10:30:00,000+0200 S"})], "time: the end"),
    ("no time", [record(BEGIN, {**END, "TM": "2026-13-01T10:30:00,000+0200 S"})], "time: time TM at the end"),
    ("status", [record(BEGIN, {**END, "ST": "T"})], "status: meter status ST at the end is 'T'"),
    (
        "begin status",
        [record({**BEGIN, "ST": "N"}, {**END, "ST": "G"})],
        "status: meter status ST at the begin",
    ),
    ("energy flag", [record(BEGIN, {**END, "EF": "E"})], "error_flags: error flag EF at the end: energy"),
    (
        "flag between, lifted at the end",
        [record(BEGIN, {"TX": "C", "RV": 105, "EF": "E"}, {**END, "EF": ""})],
        "error_flags: error flag EF at the 2026-03-01T10:00:00,000+0100 S: energy",
    ),
    ("exception between", [record(BEGIN, {"TX": "X", "RV": 105}, END)], "error_flags: TX X at 2026"),
    ("time flag", [record({**BEGIN, "EF": "t"}, END)], "error_flags: error flag EF at the begin: time"),
    (
        "unsynchronised",
        [record(BEGIN, {**END, "TM": "2026-03-01T11:00:00,000+0100 U"})],
        "time_sync: clock at",
    ),
    ("unknown clock", [record(BEGIN, {**END, "TM": "2026-03-01T11:00:00,000+0100"})], "of unknown state"),
    (
        "informative after relative",
        [
            record(
                {**BEGIN, "TM": "2026-03-01T10:00:00,000+0100 R"},
                {**END, "TM": "2026-03-01T11:00:00,000+0100 I"},
            )
        ],
        "time_sync: clock was relative at the begin and I",
    ),
    ("unit", [record(BEGIN, {**END, "RU": "Wh", "RV": 111250})], "unit: unit RU differs"),
    ("no page", [record(BEGIN, END, PG="P1")], "pagination: pagination PG 'P1'"),
    ("fiscal", [record(BEGIN, END, PG="F1")], "pagination: pagination PG 'F1' is not of a transaction"),
    ("same page", [record(BEGIN), record({**BEGIN, **END})], "pagination: two different records"),
    (
        "pages fall",
        [record(BEGIN, PG="T9"), record({**BEGIN, **END}, PG="T8")],
        "pagination: the end has page 8",
    ),
    ("user", [record(BEGIN), record({**BEGIN, **END}, PG="T8", ID="05")], "user: user ID differs"),
    ("assignment", [record(BEGIN), record({**BEGIN, **END}, PG="T8", IS=False)], "user: user assignment IS"),
    ("mismatch", [record(BEGIN, END, IL="MISMATCH")], "user: the user's identification is MISMATCH"),
    (
        "gateway",
        [record(BEGIN), record({**BEGIN, **END}, PG="T8", GS="gw-2")],
        "meter: gateway serial GS differs",
    ),
    (
        "counter",
        [record(BEGIN, EI=1), record({**BEGIN, **END}, PG="T8", EI=2)],
        "event_counter: event counter",
    ),
    ("format", [record(BEGIN, END, FV="2.0")], "format: format version '2'"),
    ("no time passes", [record(BEGIN, {"TX": "E", "RV": 111})], "plausible: energy in no time"),
    (
        "huge",
        [record({**BEGIN, "RV": 0}, {**END, "RV": 2_000_000_000})],
        "plausible: register 2000000000 kWh",
    ),
]


@pytest.mark.parametrize(("texts", "reason"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_rules_of_a_transaction(texts: list[str], reason: str) -> None:
    found = judge(*texts)
    assert all(r.signature_valid for r in found.records)
    assert found.verdict == "review"
    assert reason in "\n".join(found.reasons)


def test_a_meter_of_its_own_and_its_most_power() -> None:
    text = record(BEGIN, END)
    assert judge(text, rules=Rules(max_power_w=11_000)).verdict == "valid"
    assert "plausible: 10750 W" in judge(text, rules=Rules(max_power_w=7_000)).reasons[0]
    assert "meter: values of meter 'meter-1'" in judge(text, rules=Rules(meter_serial="meter-2")).reasons[0]
    unset = record(
        {**BEGIN, "TM": "1970-01-01T01:21:45,000+0100 U"}, {**END, "TM": "1970-01-01T01:21:45,000+0100 U"}
    )
    assert judge(unset).verdict == "review"
    assert judge(unset, rules=Rules(worst_time="U")).verdict == "valid"


def test_two_meters_never_make_one_transaction() -> None:
    keys = KeyRegister([(m, spki("secp256r1"), None) for m in ("meter-1", "meter-2")])
    found = judge(record(BEGIN), record({**BEGIN, **END}, PG="T8", MS="meter-2"), keys=keys)
    assert "meter: meter serial MS differs: 'meter-1', 'meter-2'" in found.reasons


def test_doubtful_payloads_are_not_read_one_way() -> None:
    twice = '{"MS":"meter-1","RD":[{"RV":1,"RV":2}]}'
    found = one(record(payload=twice))
    assert (found.signature_valid, found.reason) == (False, "the payload names 'RV' twice")
    for payload, reason in (
        ("[]", "no JSON object"), ("{", "cannot be read as JSON"), ('{"RD":1}', "no list"),
        ('{"RD":[{"RV":NaN}]}', "NaN is no number"), ("[" * 100_000, "nested too deeply"),
    ):  # fmt: skip
        assert reason in one(record(payload=payload)).reason


def test_transactions_are_told_apart() -> None:
    texts = [record(BEGIN, PG="T1"), record({**BEGIN, **END}, PG="T2"), record(BEGIN, END, PG="T3")]
    records = [verify_record(SignedText(t), KEYS, i) for i, t in enumerate([*texts, texts[2]])]
    assert [[r.index for r in group] for group in transactions(records)] == [[0, 1], [2, 3]]
    named = [verify_record(SignedText(t, str(i % 2)), KEYS, i) for i, t in enumerate([*texts, texts[0]])]
    assert [[r.index for r in group] for group in transactions(named)] == [[0, 2], [1, 3]]
