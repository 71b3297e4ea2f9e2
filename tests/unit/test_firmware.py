"""Images: signatures, chains, revocation, times, versions, compatibility."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st
from ocpp.messages import Call, validate_payload

from models import firmware
from models.firmware import FirmwareError, Image, Trust

from ._firmware_signing import NOW, NOW_MS, Signer, Vendor, certify, key_of, vendor

DATA = b"\x7fFIRMWARE" * 1_000
DAY_MS = 86_400_000


def image(who: Vendor, algorithm: str = "", data: bytes = DATA, **more: Any) -> Image:
    return firmware.make_image(
        data,
        vendor="Acme",
        model="Wall 22",
        version=more.pop("version", "1.4.0"),
        certificates=more.pop("certificates", who.certificates),
        signature=more.pop("signature", who.signer.sign(data, algorithm)),
        algorithm=algorithm,
        **more,
    )


def trust(who: Vendor, **more: Any) -> Trust:
    return firmware.trust_of([who.root.pem], **more)


def refusal(*arguments: Any, **more: Any) -> tuple[str, str]:
    with pytest.raises(FirmwareError) as raised:
        firmware.check_image(*arguments, **more)
    return raised.value.reason, raised.value.detail


@pytest.mark.parametrize(
    ("kind", "algorithm"),
    [
        ("p256", "ecdsa-sha256"),
        ("p384", "ecdsa-sha256"),
        ("rsa", "rsa-pss-sha256"),
        ("rsa", "rsa-pkcs1v15-sha256"),
        ("ed25519", "ed25519"),
    ],
)
def test_every_signature_holds_and_every_change_breaks_it(kind: str, algorithm: str) -> None:
    who = vendor(kind)
    good = image(who, algorithm)
    firmware.check_image(good, DATA, trust(who), {}, NOW_MS)
    firmware.check_image(good, memoryview(DATA), trust(who), {}, NOW_MS)
    changed = DATA[:-1] + b"!"
    assert refusal(good, changed, trust(who), {}, NOW_MS)[0] == "hash"
    forged = image(who, algorithm, changed, signature=good.signature)
    assert refusal(forged, changed, trust(who), {}, NOW_MS)[0] == "signature"
    other = image(who, algorithm, certificates=certify("Other", who.between, kind).pem + who.between.pem)
    assert refusal(other, DATA, trust(who), {}, NOW_MS)[0] == "signature"


def test_the_algorithm_must_fit_the_key() -> None:
    who = vendor("rsa")
    pss = msgspec.structs.replace(image(who), algorithm="rsa-pkcs1v15-sha256")
    assert refusal(pss, DATA, trust(who), {}, NOW_MS)[0] == "signature"
    for wrong in ("ecdsa-sha256", "ed25519", "md5"):
        bad = msgspec.structs.replace(image(who), algorithm=wrong)
        reason, detail = refusal(bad, DATA, trust(who), {}, NOW_MS)
        assert reason == "signature"
        assert wrong in detail
    assert image(vendor("ed25519")).algorithm == "ed25519"
    assert image(who).algorithm == "rsa-pss-sha256"
    garbled = msgspec.structs.replace(image(who), signature="?")
    assert "base64" in refusal(garbled, DATA, trust(who), {}, NOW_MS)[1]


def test_only_a_chain_to_our_root_counts() -> None:
    who = vendor()
    alone = image(who, certificates=who.signer.pem)
    reason, detail = refusal(alone, DATA, trust(who), {}, NOW_MS)
    assert reason == "certificate"
    assert "Firmware CA" in detail
    stranger = certify("Root", None, "p384", ca=True)  # same name, same key kind, not our root
    assert refusal(image(who), DATA, firmware.trust_of([]), {}, NOW_MS)[0] == "certificate"
    assert stranger.certificate.subject == who.root.certificate.subject
    fake_root = Signer(stranger.certificate, key_of("p256", "fake"))
    fake = certify("Signer", fake_root, usage=ExtendedKeyUsageOID.CODE_SIGNING)
    forged = image(who, certificates=fake.pem + fake_root.pem, signature=fake.sign(DATA))
    assert refusal(forged, DATA, trust(who), {}, NOW_MS)[0] == "certificate"
    pinned = firmware.trust_of([who.signer.pem])
    firmware.check_image(alone, DATA, pinned, {}, NOW_MS)


def signed_by(who: Vendor, signer: Signer, *between: Signer) -> Image:
    pem = "".join(each.pem for each in (signer, *between))
    return image(who, certificates=pem, signature=signer.sign(DATA))


def test_a_signer_must_be_allowed_to_sign_and_an_issuer_to_issue() -> None:
    who = vendor()
    server = certify("Server", who.between, usage=ExtendedKeyUsageOID.SERVER_AUTH)
    cases = {
        "extended key usage": signed_by(who, server, who.between),
        "no authority": signed_by(who, certify("Below", who.signer), who.signer, who.between),
        "allows 0 authorities": signed_by(who, *_two_below(who), who.between),
        "critical extension": signed_by(
            who, certify("Odd", who.between, extra=x509.InhibitAnyPolicy(0)), who.between
        ),
    }
    for words, bad in cases.items():
        reason, detail = refusal(bad, DATA, trust(who), {}, NOW_MS)
        assert (reason, words in detail) == ("certificate", True), detail
    may_not = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    only_ca = certify("Not for signing", who.between, extra=may_not)
    assert "key usage" in refusal(signed_by(who, only_ca, who.between), DATA, trust(who), {}, NOW_MS)[1]


def _two_below(who: Vendor) -> tuple[Signer, Signer]:
    lower = certify("Lower CA", who.between, ca=True)
    return certify("Deep", lower), lower


def test_certificates_count_only_in_their_time() -> None:
    who = vendor()
    for days in (-101, 301):
        reason, detail = refusal(image(who), DATA, trust(who), {}, NOW_MS + days * DAY_MS)
        assert reason == "expired"
        assert "signed with a valid certificate" in detail
    short = certify("Short CA", who.root, ca=True, days=101)
    late = signed_by(who, certify("Late", short), short)
    firmware.check_trust(late, trust(who), {}, NOW_MS)
    with pytest.raises(FirmwareError, match="Short CA is valid from"):
        firmware.check_trust(late, trust(who), {}, NOW_MS + 2 * DAY_MS)


def crl(issuer: Signer, *revoked: Signer, days: int = 30) -> str:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(NOW - timedelta(days=1))
        .next_update(NOW + timedelta(days=days))
    )
    for each in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(each.certificate.serial_number)
        builder = builder.add_revoked_certificate(entry.revocation_date(NOW).build())
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def test_revoked_certificates_and_images_are_refused() -> None:
    who = vendor()
    for gone in (who.signer, who.between, who.root):
        colons = ":".join(f"{b:02X}" for b in bytes.fromhex(firmware.fingerprint(gone.pem)))
        assert refusal(image(who), DATA, trust(who, revoked=[colons]), {}, NOW_MS)[0] == "revoked"
    listed = trust(who, crls=[crl(who.between, who.signer)])
    assert refusal(image(who), DATA, listed, {}, NOW_MS)[0] == "revoked"
    assert (
        refusal(image(who), DATA, trust(who, crls=[crl(who.root, who.between)]), {}, NOW_MS)[0] == "revoked"
    )
    firmware.check_image(image(who), DATA, trust(who, crls=[crl(who.between)]), {}, NOW_MS)
    old = trust(who, crls=[crl(who.between, days=0)])
    assert "revocation list" in refusal(image(who), DATA, old, {}, NOW_MS + 1)[1]
    forged = crl(Signer(who.between.certificate, key_of("p256", "forger")), who.signer)
    firmware.check_image(image(who), DATA, trust(who, crls=[forged]), {}, NOW_MS)
    dead = msgspec.structs.replace(image(who), status="revoked", status_reason="bricks stations")
    assert refusal(dead, DATA, trust(who), {}, NOW_MS) == (
        "revoked",
        "acme_wall-22_1.4.0 was revoked: bricks stations; choose another version",
    )


def test_nothing_below_the_floor_comes_in() -> None:
    who = vendor()
    floors = {("Acme", "Wall 22"): "1.4.1"}
    assert refusal(image(who), DATA, trust(who), floors, NOW_MS)[0] == "rollback"
    firmware.check_image(image(who), DATA, trust(who), {("Acme", "Wall 22"): "v1.4"}, NOW_MS)
    firmware.check_image(image(who), DATA, trust(who), {("Acme", "Wall 11"): "9"}, NOW_MS)


ORDER = [
    "0.9", "1.0-dev", "1.0-alpha", "1.0-beta1", "1.0-beta2", "1.0-rc1", "1.0", "1.0b", "1.0-hotfix",
    "1.0.1-rc1", "v1.0.1", "1.0.1a", "1.0.1.2", "1.2", "1.10", "2024.11.05", "2024-11-24", "R5.2", "R5.11_p2",
]  # fmt: skip


def test_versions_have_an_order() -> None:
    keys = [
        firmware.version_key(text) for text in ORDER if text not in {"1.0b", "1.0.1a", "R5.2", "R5.11_p2"}
    ]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)
    assert firmware.version_key("R5.2") < firmware.version_key("R5.11_p2") < firmware.version_key("R5.11.1")
    assert firmware.version_key("1.0b") < firmware.version_key("1.0")  # b means beta
    for one, other in (("1.2", "1.2.0"), ("V1.2", "1.2.0.0"), ("1.2-RC1", "1.2.0rc1"), ("1.2+a7", "1.2")):
        assert firmware.same_version(one, other)
    assert not firmware.same_version("1.2+a7", "1.2+a8")
    assert not firmware.same_version("1.2.0", "1.2.0.1")
    for bad in ("", "--", "1" * 51, "1.0\x00"):
        with pytest.raises(FirmwareError):
            firmware.version_key(bad)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=4), st.lists(st.integers(0, 30), min_size=1, max_size=4)
)
def test_numbers_order_as_tuples_do(one: list[int], other: list[int]) -> None:
    size = max(len(one), len(other))
    as_tuples = [x + [0] * (size - len(x)) for x in (one, other)]
    keys = [firmware.version_key(".".join(map(str, x))) for x in (one, other)]
    assert (keys[0] < keys[1]) == (as_tuples[0] < as_tuples[1])
    assert (keys[0] == keys[1]) == (as_tuples[0] == as_tuples[1])


def test_who_may_have_an_image() -> None:
    good = image(vendor(), from_versions=(">=1.2,<1.4,!=1.3.1", "0.9.9"))
    station: dict[str, Any] = {"vendor": "Acme", "model": "Wall 22", "floors": {}}
    for version in ("1.2", "1.3.0", "v1.3.9", "0.9.9"):
        firmware.check_install(good, version=version, **station)
    for version, reason in (
        ("1.1", "compatible"),
        ("1.3.1", "compatible"),
        ("1.5", "rollback"),
        ("", "compatible"),
    ):
        with pytest.raises(FirmwareError) as raised:
            firmware.check_install(good, version=version, **station)
        assert raised.value.reason == reason
    for other in ({"vendor": "Acmee"}, {"model": "Wall 11"}):
        with pytest.raises(FirmwareError, match="is for Acme Wall 22"):
            firmware.check_install(good, version="1.2", **(station | other))
    firmware.check_install(good, version="1.5", **station, downgrade=True)
    low = station | {"floors": {("Acme", "Wall 22"): "1.5"}}
    with pytest.raises(FirmwareError, match="floor"):
        firmware.check_install(good, version="1.5", **low, downgrade=True)
    firmware.check_install(image(vendor()), version="", **station)
    with pytest.raises(FirmwareError, match="revoked"):
        firmware.check_install(msgspec.structs.replace(good, status="revoked"), version="1.2", **station)


def test_what_cannot_be_an_image_is_refused() -> None:
    who = vendor()
    for wrong, words in (
        ({"data": b""}, "empty"),
        ({"certificates": "none"}, "PEM"),
        ({"certificates": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"}, "cannot be read"),
        ({"from_versions": ("newer than 1",)}, "ranges"),
        ({"version": ""}, "version"),
        ({"release_notes": "x" * 20_001}, "notes"),
    ):
        with pytest.raises(FirmwareError, match=words):
            image(who, **{"signature": "AA==", **wrong})  # type: ignore[arg-type]  # some are wrong on purpose
    with pytest.raises(FirmwareError, match="letter or digit"):
        firmware.image_id_of("Acme", "..", "1")
    assert firmware.image_id_of("Acme GmbH", "Wall/22", "V1.0+7") == "acme-gmbh_wall-22_v1.0+7"
    for bad in (["zz"], ["ab" * 31]):
        with pytest.raises(FirmwareError, match="fingerprint"):
            firmware.trust_of([], revoked=bad)
    with pytest.raises(FirmwareError, match="revocation list"):
        firmware.trust_of([], crls=["x"])


def test_the_body_of_update_firmware() -> None:
    good = image(vendor())
    body = firmware.update_firmware_body(
        good, "https://x/fw", 7, retrieve_ms=NOW_MS, install_ms=NOW_MS + 1, retries=3, retry_interval_s=60
    )

    validate_payload(Call("1", "UpdateFirmware", body), "2.0.1")
    assert body["firmware"]["retrieveDateTime"] == "2026-11-24T08:30:00.000Z"
    with pytest.raises(FirmwareError, match="location"):
        firmware.update_firmware_body(good, "x" * 513, 7, retrieve_ms=0)
    long = msgspec.structs.replace(good, signature="A" * 801)
    with pytest.raises(FirmwareError, match="OCPP takes"):
        firmware.update_firmware_body(long, "x", 7, retrieve_ms=0)


def test_a_record_survives_json() -> None:
    good = image(vendor(), from_versions=(">=1",), release_notes="better", imported_ms=5)
    assert msgspec.json.decode(msgspec.json.encode(good), type=Image) == good
