"""``chargestream ocmf``: verdicts and exit codes, the export, and the register of keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from connectors.meter_keys import MeterKeys
from connectors.ocmf_files import read_keys
from models.errors import ConfigError
from models.ocmf import KeyProblem
from pipeline.cli import main

from ._ocmf_signing import BEGIN, END, point, record, spki


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    path = tmp_path / "raw.ocmf"
    path.write_text(record(BEGIN, END))
    return path


def verify(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any]]:
    code = main(["ocmf", "verify", *map(str, arguments)])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, found


def test_the_exit_code_follows_the_verdict(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = verify(capsys, raw)
    assert (code, found["verdict"], found["records"][0]["signature_valid"]) == (1, "unproven", None)
    code, found = verify(capsys, raw, "--public-key", spki("secp256r1"))
    assert (code, found["verdict"], found["transaction"]["energy_wh"]) == (0, "valid", "10750")
    assert {k: found["records"][0][k] for k in ("index", "signature_valid", "algorithm", "reason")} == {
        "index": 0,
        "signature_valid": True,
        "algorithm": "ECDSA-secp256r1-SHA256",
        "reason": "signature matches the given key",
    }
    code, found = verify(capsys, raw, "--public-key", spki("secp256r1", 1))
    assert (code, found["verdict"]) == (1, "invalid")
    code, found = verify(capsys, raw, "--public-key", spki("secp256r1"), "--max-power-w", 1000)
    assert (code, found["verdict"]) == (1, "review")
    key = tmp_path / "key.hex"
    key.write_text(spki("secp256r1") + "\n")
    assert verify(capsys, raw, "--public-key", key)[0] == 0


def test_what_is_wrong_with_the_call_is_said(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ocmf", "verify", str(tmp_path / "none")]) == 2
    assert main(["ocmf", "verify", str(raw), "--public-key", "z"]) == 2
    assert "public key: the key is neither hex nor base64" in capsys.readouterr().err
    raw.write_bytes(b"\xff\xff\xff")
    assert main(["ocmf", "verify", str(raw)]) == 1
    assert f"encoding: {raw}: neither XML nor UTF-8 text" in capsys.readouterr().err


def test_the_export_carries_the_registered_key(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text(f'[keys]\n"meter-1" = "{spki("secp256r1")}"\n')
    out = tmp_path / "out.xml"
    arguments = ["--keys", str(keys), "--transaction-id", "tx9", "--output", str(out)]
    assert main(["ocmf", "export", str(raw), *arguments]) == 0
    assert f"{spki('secp256r1').upper()}</publicKey>" in out.read_text()
    code, found = verify(capsys, out)
    assert (code, found["records"][0]["signature_valid"], found["verdict"]) == (1, True, "unproven")
    assert found["transaction"]["transaction_id"] == "tx9"
    assert verify(capsys, out, "--keys", keys)[0] == 0
    assert main(["ocmf", "export", str(raw)]) == 0
    assert "<publicKey" not in capsys.readouterr().out


def test_the_ledger_keeps_the_register(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    common = ["--ledger", url, "--serial", "meter-1"]
    bare = point("secp256r1").hex()
    assert main(["ocmf", "keys", "add", *common, "--public-key", bare]) == 2
    assert "key of meter meter-1: a bare point does not name its curve" in capsys.readouterr().err
    assert main(["ocmf", "keys", "add", *common, "--public-key", bare, "--curve", "secp256r1"]) == 0
    assert main(["ocmf", "keys", "add", *common, "--public-key", spki("secp256r1")]) == 0
    capsys.readouterr()
    assert main(["ocmf", "keys", "list", "--ledger", url]) == 0
    (row,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (row["serial"], row["curve"], row["revoked_ms"]) == ("meter-1", "secp256r1", None)
    assert verify(capsys, raw, "--ledger", url)[0] == 0
    assert main(["ocmf", "keys", "revoke", *common]) == 0
    assert capsys.readouterr().out == "1 revoked\n"
    assert verify(capsys, raw, "--ledger", url)[0] == 1
    for operation in ("add", "revoke"):
        assert main(["ocmf", "keys", operation, "--ledger", url]) == 2
    register = MeterKeys(url)
    with pytest.raises(KeyProblem, match="curve 'p256' is unknown"):
        register.add("m", bare, "p256", "test", 1)
    register.close()


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("k.toml", "x", "cannot be read as"),
        ("k.json", "[]", "no keys"),
        ("k.toml", "", "no keys"),
        ("k.toml", "[[meter]]\nserial = 'a'\n", "entry 1: expected text"),
        ("k.json", '{"keys": {"": "ab"}}', "entry 1: expected text"),
    ],
)
def test_key_files_that_cannot_be(tmp_path: Path, name: str, text: str, reason: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ConfigError, match=reason):
        read_keys(path)


def test_key_files_in_both_forms(tmp_path: Path) -> None:
    toml = tmp_path / "k.toml"
    toml.write_text("[[meter]]\nserial = 'a'\npublic_key = '00'\ncurve = 'secp256r1'\n[keys]\nb = '11'\n")
    assert read_keys(toml) == [("a", "00", "secp256r1"), ("b", "11", None)]
    (tmp_path / "k.json").write_text('{"keys": {"c": "22"}}')
    assert read_keys(tmp_path / "k.json") == [("c", "22", None)]
