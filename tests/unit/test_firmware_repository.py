"""The repository: what its keeper can do, and what a thief of the server's keys cannot."""

from __future__ import annotations

import json
import shutil
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Snapshot, TargetFile, Targets, Timestamp
from tuf.ngclient import Updater

from connectors import _firmware_tuf as t
from connectors.firmware_repository import IMAGE_FIELD, Keys, Repository
from models.errors import ConfigError
from models.firmware import FirmwareError
from models.firmware_policy import Policy

from ._firmware_repo import DATA, Kept, image_of, now_ms, vendor_now

EVIL = b"EVIL" * 100


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def test_an_image_goes_in_and_comes_out(kept: Kept) -> None:
    image = kept.add(from_versions=(">=1",), release_notes="better")
    store = kept.store()
    assert store.images() == [image]
    assert store.image(image.image_id, now_ms()) == image
    assert store.path(image).read_bytes() == DATA
    assert store.verify(now_ms()) == []
    with pytest.raises(FirmwareError, match="there is no image"):
        store.image("acme_w22_9", now_ms())


def test_an_image_is_given_out_only_once_published(kept: Kept) -> None:
    image = image_of()
    kept.repo.import_image(image, DATA, kept.offline, now_ms())
    assert kept.repo.images() == [image]
    assert kept.store().images() == []
    assert kept.repo.publish(kept.online, if_needed=True)
    assert kept.store().images() == [image]
    assert not kept.repo.publish(kept.online, if_needed=True)


def test_a_version_comes_in_once_and_only_with_the_right_key(kept: Kept, tmp_path: Path) -> None:
    kept.add()
    for data in (DATA, EVIL):
        with pytest.raises(FirmwareError, match="is known"):
            kept.repo.import_image(image_of(data), data, kept.offline, now_ms())
    bad = msgspec.structs.replace(image_of(EVIL, "3"), signature=image_of().signature)
    with pytest.raises(FirmwareError, match="does not hold"):
        kept.repo.import_image(bad, EVIL, kept.offline, now_ms())
    t.new_key(tmp_path / "other" / "targets.pem", kept.online.passphrase)
    with pytest.raises(ConfigError, match="not the targets key"):
        kept.repo.import_image(image_of(EVIL, "3"), EVIL, Keys(tmp_path / "other"), now_ms())
    assert len(kept.repo.images()) == 1


def test_revoked_is_revoked_for_good(kept: Kept) -> None:
    image = kept.add()
    kept.repo.revoke(image.image_id, "bricks stations", kept.offline)
    kept.repo.publish(kept.online)
    (seen,) = kept.store().images()
    assert (seen.status, seen.status_reason) == ("revoked", "bricks stations")
    with pytest.raises(FirmwareError, match="bricks stations"):
        kept.store().image(image.image_id, now_ms())
    assert list(kept.repo.targets.iterdir()) == []
    with pytest.raises(FirmwareError, match="was revoked"):
        kept.add()
    with pytest.raises(FirmwareError, match="no active image"):
        kept.repo.revoke(image.image_id, "again", kept.offline)


def test_a_held_image_needs_no_key_to_be_denied(kept: Kept) -> None:
    image = kept.add()
    kept.repo.hold(image.image_id, "looks bad")
    with pytest.raises(FirmwareError, match="held back: looks bad"):
        kept.store().image(image.image_id, now_ms())
    kept.repo.hold(image.image_id, "")
    assert kept.store().image(image.image_id, now_ms()) == image


def test_the_policy_is_signed_and_counts(kept: Kept) -> None:
    image = kept.add()
    kept.repo.change_policy(lambda p: p.with_floor("Acme", "W22", "2.0.1"), kept.offline)
    kept.repo.publish(kept.online)
    with pytest.raises(FirmwareError, match="below the floor"):
        kept.store().image(image.image_id, now_ms())
    assert "below the floor" in kept.store().verify(now_ms())[0]
    with pytest.raises(FirmwareError, match="never falls"):
        kept.repo.change_policy(lambda p: p.with_floor("Acme", "W22", "1"), kept.offline)
    with pytest.raises(FirmwareError, match="fingerprint"):
        kept.repo.change_policy(
            lambda p: msgspec.structs.replace(p, revoked_certificates=("x",)), kept.offline
        )
    assert kept.store().policy().floors_by_model() == {("Acme", "W22"): "2.0.1"}


def test_keys_are_private_encrypted_and_never_overwritten(tmp_path: Path) -> None:
    kept = Kept(tmp_path, passphrase="a long passphrase")
    for role in ("root", "targets"):
        text = (kept.offline.folder / f"{role}.pem").read_text()
        assert "ENCRYPTED" in text
    assert stat.S_IMODE((kept.online.folder / "timestamp.pem").stat().st_mode) == 0o600
    with pytest.raises(ConfigError, match="--passphrase"):
        kept.repo.resign(Keys(kept.offline.folder))
    kept.repo.resign(kept.offline)
    assert kept.repo.newest_targets().signed.version == 2
    with pytest.raises(ConfigError, match="already"):
        Repository.create(kept.folder, kept.offline, kept.online, Policy())
    with pytest.raises(ConfigError, match="never overwritten"):
        Repository.create(tmp_path / "second", kept.offline, kept.online, Policy())
    with pytest.raises(ConfigError, match="no firmware repository"):
        Repository(tmp_path / "nowhere")


# -- a thief with the keys of snapshot and timestamp, who also runs the file server ----------------------


def thief_publishes(kept: Kept, targets_version: int) -> None:
    """Sign, with the stolen online keys, that this version of targets is the newest."""
    metadata = kept.repo.metadata
    number = t.newest(metadata, "snapshot") + 1
    stamp = t.read_metadata(metadata / "timestamp.json", Timestamp).signed.version + 1
    end = t.until("root", datetime.now(UTC))
    snapshot = Snapshot(number, expires=end, meta={"targets.json": MetaFile(targets_version)})
    timestamp = Timestamp(stamp, expires=end, snapshot_meta=MetaFile(number))
    (metadata / f"{number}.snapshot.json").write_bytes(t.signed_bytes(snapshot, kept.online.of("snapshot")))
    (metadata / "timestamp.json").write_bytes(t.signed_bytes(timestamp, kept.online.of("timestamp")))


def evil_targets(kept: Kept, version: int) -> Targets:
    """Return targets metadata that names an image of the thief's, as if it were vendor-signed."""
    image = image_of(EVIL, "6.6.6")
    (kept.repo.targets / f"{image.sha256}.{image.image_id}").write_bytes(EVIL)
    found = kept.repo.newest_targets().signed
    found.version = version
    found.targets[image.image_id] = TargetFile(
        image.size_bytes,
        {"sha256": image.sha256},
        image.image_id,
        {"custom": {IMAGE_FIELD: msgspec.to_builtins(image)}},
    )
    return found


@pytest.mark.parametrize("signed_with", ["nothing", "snapshot", "timestamp", "both", "a key of the thief's"])
def test_stolen_online_keys_cannot_push_an_image(kept: Kept, tmp_path: Path, signed_with: str) -> None:
    image = kept.add()
    store = kept.store()
    assert store.images() == [image]
    version = kept.repo.newest_targets().signed.version + 1
    own = t.new_key(tmp_path / "thief.pem", kept.online.passphrase)
    online = [kept.online.of("snapshot"), kept.online.of("timestamp")]
    signers = {
        "nothing": [],
        "snapshot": online[:1],
        "timestamp": online[1:],
        "both": online,
        "a key of the thief's": [own],
    }
    blob = t.signed_bytes(evil_targets(kept, version), *signers[signed_with])
    (kept.repo.metadata / f"{version}.targets.json").write_bytes(blob)
    thief_publishes(kept, version)
    for client in (store, kept.store()):
        with pytest.raises(FirmwareError, match="does not verify"):
            client.images()
        with pytest.raises(FirmwareError, match="does not verify"):
            client.image("acme_w22_6.6.6", now_ms())
    with pytest.raises(FirmwareError, match="not signed by the targets key"):
        kept.repo.publish(kept.online)  # nor do we sign it by mistake


def test_stolen_online_keys_cannot_change_a_root(kept: Kept, tmp_path: Path) -> None:
    kept.add()
    root = kept.repo.root().signed
    own = t.new_key(tmp_path / "thief.pem", kept.online.passphrase)
    root.version += 1
    root.add_key(own.public_key, "targets")
    signers = [kept.online.of("snapshot"), kept.online.of("timestamp"), own]
    (kept.repo.metadata / "2.root.json").write_bytes(t.signed_bytes(root, *signers))
    version = kept.repo.newest_targets().signed.version + 1
    blob = t.signed_bytes(evil_targets(kept, version), own)
    (kept.repo.metadata / f"{version}.targets.json").write_bytes(blob)
    thief_publishes(kept, version)
    with pytest.raises(FirmwareError, match="does not verify"):
        kept.store().images()


def test_stolen_online_keys_cannot_bring_back_what_was_revoked(kept: Kept) -> None:
    image = kept.add()
    old = kept.repo.newest_targets().signed.version
    file = kept.repo.targets / f"{image.sha256}.{image.image_id}"
    kept.repo.revoke(image.image_id, "bad", kept.offline)
    kept.repo.publish(kept.online)
    assert kept.store().images()[0].status == "revoked"
    file.write_bytes(DATA)
    thief_publishes(kept, old)
    with pytest.raises(FirmwareError, match="does not verify"):
        kept.store().image(image.image_id, now_ms())


def test_other_bytes_are_not_given_out(kept: Kept, tmp_path: Path) -> None:
    image = kept.add()
    store = kept.store()
    path = store.path(image)
    path.write_bytes(DATA[:-4] + b"EVIL")
    with pytest.raises(FirmwareError, match="not what was signed"):
        store.path(image)
    assert "not what was signed" in store.verify(now_ms())[0]
    # A gateway that speaks TUF itself refuses them as well.
    base = kept.folder.as_uri()
    gateway = Updater(
        str(tmp_path / "gateway"),
        f"{base}/metadata/",
        str(tmp_path),
        f"{base}/targets/",
        t.FolderFetcher(),
        bootstrap=kept.pinned,
    )
    target = gateway.get_targetinfo(image.image_id)
    assert target is not None
    with pytest.raises(RepositoryError):
        gateway.download_target(target)
    path.write_bytes(DATA)
    assert Path(gateway.download_target(target)).read_bytes() == DATA


def test_a_frozen_repository_is_refused(tmp_path: Path) -> None:
    past = datetime.now(UTC) - timedelta(days=2)
    kept = Kept(tmp_path, now=lambda: past)
    with pytest.raises(FirmwareError, match="its time is over"):
        kept.store().images()
    renewed = Repository(kept.folder)
    assert renewed.publish(kept.online, if_needed=True)
    assert kept.store().images() == []


def test_after_a_theft_new_keys_take_over(kept: Kept, tmp_path: Path) -> None:
    image = kept.add()
    assert kept.store().images() == [image]
    new = Keys(tmp_path / "new")
    assert kept.repo.rotate(("snapshot", "timestamp"), kept.offline, new) == 2
    with pytest.raises(FirmwareError):
        kept.store().images()  # signed with the old keys
    assert kept.repo.publish(new, if_needed=True)
    assert kept.store().images() == [image]
    thief_publishes(kept, kept.repo.newest_targets().signed.version)
    with pytest.raises(FirmwareError, match="does not verify"):
        kept.store().images()


def test_offline_keys_can_be_replaced_as_well(kept: Kept, tmp_path: Path) -> None:
    image = kept.add()
    assert kept.repo.rotate(("root", "targets"), kept.offline, Keys(tmp_path / "new")) == 2
    kept.repo.publish(kept.online)
    assert kept.store().images() == [image]
    with pytest.raises(ConfigError, match="not the targets key"):
        kept.repo.resign(kept.offline)
    kept.repo.resign(Keys(tmp_path / "new"))
    shutil.rmtree(kept.state)
    kept.repo.publish(kept.online)
    assert kept.store().images() == [image]  # a new client walks from the pinned root to the newest


def test_metadata_that_contradicts_itself_is_refused(kept: Kept) -> None:
    image = kept.add()
    path = kept.repo.metadata / "2.targets.json"
    text = json.loads(path.read_text())
    text["signed"]["targets"][image.image_id]["custom"][IMAGE_FIELD]["sha256"] = "0" * 64
    targets = Metadata[Targets].from_dict(text).signed
    path.write_bytes(t.signed_bytes(targets, kept.offline.of("targets")))
    with pytest.raises(FirmwareError, match="contradicts itself"):
        kept.store().images()


def test_the_vendor_of_the_tests_is_valid_now() -> None:
    assert vendor_now().signer.certificate.not_valid_after_utc > datetime.now(UTC)
