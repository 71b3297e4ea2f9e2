"""Signed values of transactions: checked with registered keys when the end is judged, billed untouched."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from connectors.meter_keys import MeterKeys, registered_keys
from models.ocmf import KeyRegister
from models.outputs import SessionRow
from models.signed_values import Mode, Signatures, signed_data, texts_of
from pipeline.config import load
from pipeline.flow import Stages
from tests.transaction_log import BEGIN, END, T0, TxLog, charge, log_of, sessions
from tests.unit._ocmf_signing import record, spki


def at(t: int) -> str:
    """Return a time of the log as OCMF writes it."""
    import datetime as dt

    return dt.datetime.fromtimestamp((T0 + t) / 1000, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S,000+0000 S")


def signed(kind: str, wh: float, t: int, page: str, number: int = 0, **more: Any) -> str:
    reading = {"TM": at(t), "TX": kind, "RV": wh / 1000, "RI": "1-0:1.8.0", "RU": "kWh", "EF": "", "ST": "G"}
    return record(reading, number=number, PG=page, MS="m1", **more)


def log_with(begin: Any = None, end: Any = None) -> TxLog:
    log = log_of()
    log.tx(BEGIN, "Started", 500_000, seq=0, **({"signed": begin} if begin is not None else {}))
    charge(log)
    log.tx(END, "Ended", 510_000, seq=1, **({"signed": end} if end is not None else {}))
    log.until(END * 3)
    return log


BEGINS, ENDS = signed("B", 500_000, BEGIN, "T1"), signed("E", 510_000, END, "T2")


def judged(log: TxLog, mode: Mode = "check", known: bool = True, **more: Any) -> SessionRow:
    keys = KeyRegister([("m1", spki("secp256r1"), None)] if known else [])
    return sessions(log, signatures=Signatures(keys, mode), **more)["a"]


def test_what_is_proven_is_complete_and_names_the_key() -> None:
    row = judged(log_with(BEGINS, ENDS))
    assert (row.state, row.energy_mwh, row.flags) == ("complete", 10_000_000, ())
    assert row.body["signed_state"] == "valid"
    [proof] = [d["signed"] for d in row.body["decisions"] if "signed" in d]
    assert proof["energy_mwh"] == 10_000_000
    assert len(proof["keys"]) == 1


@pytest.mark.parametrize(
    ("begin", "end", "why"),
    [
        (BEGINS, signed("E", 510_000, END, "T2", number=1), "does not match"),  # another key
        (BEGINS, ENDS.replace("510.0", "511.0"), "does not match"),  # changed after it was signed
        (None, ENDS, "begin"),  # half of it
        (BEGINS, signed("E", 510_000, END, "T1"), "pagination"),
        (BEGINS, signed("E", 510_000, END, "T2", ID="another"), "user"),
        (BEGINS, "no record at all", "OCMF"),
    ],
)
def test_what_fails_goes_to_review_with_its_reason(begin: Any, end: Any, why: str) -> None:
    row = judged(log_with(begin, end))
    assert (row.state, row.flags) == ("review", ("signature_invalid",))
    assert row.body["reasons"] == ["the signed values do not prove the transaction"]
    [proof] = [d["signed"] for d in row.body["decisions"] if "signed" in d]
    assert why in " ".join(proof["reasons"])
    assert row.energy_mwh == 10_000_000  # proposed to the person who decides


def test_a_signed_energy_that_is_not_billed_goes_to_review() -> None:
    row = judged(log_with(BEGINS, signed("E", 510_100, END, "T2")))
    assert (row.state, row.flags) == ("review", ("signature_invalid",))


@pytest.mark.parametrize(
    ("mode", "known", "values", "state", "flags"),
    [
        ("check", False, (BEGINS, ENDS), "complete", ()),  # unproven: no key is registered
        ("require", False, (BEGINS, ENDS), "review", ()),
        ("check", True, (None, None), "complete", ("signature_missing",)),
        ("require", True, (None, None), "review", ("signature_missing",)),
        ("check", False, (None, None), "complete", ()),
        ("ignore", True, (BEGINS, "nonsense"), "complete", ()),
    ],
)
def test_what_is_missing_or_unproven_depends_on_the_mode(
    mode: Mode, known: bool, values: tuple[Any, Any], state: str, flags: tuple[str, ...]
) -> None:
    row = judged(log_with(*values), mode, known)
    assert (row.state, row.flags) == (state, flags)


def test_cuts_and_restarts_change_nothing_and_another_meter_later_neither() -> None:
    log = log_with(BEGINS, ENDS)
    log.birth(END * 2, serial="m2")
    whole = judged(log)
    assert (whole.state, whole.revision) == ("complete", 2)
    assert judged(log, cuts=(5, 30, 70, 90), restore=True) == whole


def test_ocpp_objects_are_read_and_carried_untouched() -> None:
    wrapped = {
        "signedMeterData": base64.b64encode(BEGINS.encode()).decode(), "encodingMethod": "OCMF",
        "signingMethod": "ECDSA-secp256r1-SHA256", "publicKey": "",
    }  # fmt: skip
    old = {"measurand": "Energy.Active.Import.Register", "data": ENDS}
    assert [t.text for t in texts_of([[wrapped], [old, old]])] == [BEGINS, ENDS]
    data = signed_data([[wrapped], [old]])
    assert data is not None
    told = [(v["nature"], v["signed_data"]) for v in data["signed_values"]]
    assert told == [("Start", BEGINS), ("End", ENDS)]
    foreign = {"signedMeterData": "AP;0;3;ALCV", "encodingMethod": "Alfen Eichrecht"}
    assert signed_data([[foreign]]) == {
        "encoding_method": "Alfen Eichrecht",
        "signed_values": [{"nature": "End", "plain_data": "", "signed_data": "AP;0;3;ALCV"}],
    }
    assert signed_data([]) is None
    row = judged(log_with([foreign], [foreign]), known=False)
    assert (row.state, row.body["signed_state"]) == ("complete", "unsupported")


def test_the_flow_takes_the_keys_of_ledger_and_file(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.sqlite"
    assert registered_keys(url) == []
    assert not (tmp_path / "ledger.sqlite").exists()
    keys = MeterKeys(url)
    keys.add("m1", spki("secp256r1"), None, "test", 1)
    keys.add("m0", spki("secp256r1", 1), None, "test", 1)
    keys.revoke("m0", 2)
    assert [key[0] for key in keys.valid()] == ["m1"]
    keys.close()
    file = tmp_path / "keys.toml"
    file.write_text(f'[keys]\nm2 = "{spki("secp256r1", 2)}"\n')
    config = load(
        None,
        {"CHARGESTREAM_LEDGER__URL": url, "CHARGESTREAM_BILLING__METER_KEYS": str(file)},
    )
    found = Stages.of(config, None).bill.signatures
    assert found is not None
    assert [bool(found.keys.find(serial, None)[1]) for serial in ("m0", "m1", "m2")] == [False, True, True]
