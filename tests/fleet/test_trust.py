"""Keys replaced over the air: by a recovery key's holder, and by nobody else."""

import json
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.keyring import Keyring
from edge_runtime.models import serving_bundle
from tests.edge_runtime.broker import Broker, wait_until
from tests.edge_runtime.conftest import tiny_bundle
from tests.edge_runtime.updating import (
    TOPICS,
    Device,
    Offer,
    TinyBundle,
    rewrite,
    wait_for_step,
)
from transom.cli import main
from transom.config import ModelsConfig
from transom.errors import MessageError, SignatureError
from transom.keyring import state
from transom.signing import load_private_key, load_public_key, new_key
from transom.starter import STARTER

__all__ = ["tiny_bundle"]

SPARE = "spare"


@pytest.fixture
def keys(tmp_path: Path, tiny_bundle: TinyBundle) -> dict[str, Path]:
    """Private keys: the one that leaked, a new one, a recovery key, and a thief's."""
    made = {name: tmp_path / "private" / f"{name}.pem" for name in ("new", SPARE, "thief")}
    for path in made.values():
        new_key(path)
    recovery = tmp_path / "device" / "recovery_keys"
    recovery.mkdir(parents=True)
    (recovery / "spare.pub").write_bytes(made[SPARE].with_suffix(".pub").read_bytes())
    return made | {"leaked": tiny_bundle.private_key}


@pytest.fixture
def models(tmp_path: Path, tiny_bundle: TinyBundle, keys: dict[str, Path]) -> ModelsConfig:
    store = tmp_path / "device" / "store"
    store.mkdir()
    return ModelsConfig(
        store=str(store),
        trusted_keys=str(tiny_bundle.keys),
        recovery_keys=str(tmp_path / "device" / "recovery_keys"),
    )


def public(path: Path) -> Path:
    return path.with_suffix(".pub")


def leaked_fingerprint(tiny: TinyBundle) -> str:
    return load_public_key(next(tiny.keys.glob("*.pub"))).fingerprint


def said(
    keys: dict[str, Path], tiny: TinyBundle, sequence: int, by: str = SPARE, revoke: bool = True
) -> bytes:
    """A statement that trusts the new key and revokes the leaked one."""
    trusted = [load_public_key(public(keys["new"]))]
    revoked = [leaked_fingerprint(tiny)] if revoke else []
    return state(sequence, trusted, revoked, load_private_key(keys[by]))


def test_a_leaked_key_is_taken_away_and_a_new_one_signs(
    tmp_path: Path, tiny_bundle: TinyBundle, keys: dict[str, Path], models: ModelsConfig
) -> None:
    old = rewrite(tiny_bundle, Path(models.store) / "old.bundle", sequence=3)
    assert serving_bundle(models).manifest.sequence == 3
    assert Keyring(models).take(said(keys, tiny_bundle, 1), "keys")
    new = load_public_key(public(keys["new"])).fingerprint
    assert [key.fingerprint for key in Keyring(models).trusted()] == [new]
    assert serving_bundle(models).manifest.name == STARTER  # what the thief may have signed
    rewrite(tiny_bundle, Path(models.store) / "new.bundle", key=keys["new"], sequence=2)
    assert serving_bundle(models).manifest.sequence == 2
    assert old.exists()


@pytest.mark.parametrize("by", ["thief", "leaked", "new"])
def test_nobody_without_a_recovery_key_changes_keys(
    by: str, tiny_bundle: TinyBundle, keys: dict[str, Path], models: ModelsConfig
) -> None:
    with pytest.raises(SignatureError, match="no trusted key has signed"):
        Keyring(models).take(said(keys, tiny_bundle, 1, by), "keys")
    assert Keyring(models).sequence() == 0


def test_an_old_statement_is_not_taken_again(
    tiny_bundle: TinyBundle, keys: dict[str, Path], models: ModelsConfig
) -> None:
    keyring = Keyring(models)
    keyring.take(said(keys, tiny_bundle, 1, revoke=False), "keys")
    keyring.take(said(keys, tiny_bundle, 2), "keys")
    assert not keyring.take(said(keys, tiny_bundle, 2), "keys")
    for sequence in (1, 2):
        with pytest.raises(MessageError, match=f"has sequence {sequence}, 2 is followed"):
            keyring.take(said(keys, tiny_bundle, sequence, revoke=False), "keys")
    assert leaked_fingerprint(tiny_bundle) not in [k.fingerprint for k in keyring.trusted()]


def test_a_statement_that_would_leave_no_key_is_refused(
    tiny_bundle: TinyBundle, keys: dict[str, Path], models: ModelsConfig
) -> None:
    alone = state(1, [], [leaked_fingerprint(tiny_bundle)], load_private_key(keys[SPARE]))
    with pytest.raises(SignatureError, match="would leave no key"):
        Keyring(models).take(alone, "keys")
    assert Keyring(models).trusted()


def test_a_statement_that_was_changed_on_the_way_is_refused(
    tiny_bundle: TinyBundle, keys: dict[str, Path], models: ModelsConfig
) -> None:
    signed = json.loads(said(keys, tiny_bundle, 1))
    signed["statement"] = signed["statement"].replace('"sequence":1', '"sequence":9')
    with pytest.raises(SignatureError, match="not the statement that was signed"):
        Keyring(models).take(json.dumps(signed).encode(), "keys")


def test_a_kept_statement_that_is_damaged_takes_all_trust_away(
    tiny_bundle: TinyBundle, keys: dict[str, Path], models: ModelsConfig
) -> None:
    Keyring(models).take(said(keys, tiny_bundle, 1), "keys")
    path = Path(models.store) / "keys.json"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(SignatureError, match=r"keys\.json"):
        Keyring(models).trusted()


def newest_sequence(heard: Any) -> int:
    """Return the sequence that the device said last, 0 before any."""
    return int(json.loads(heard.copies(TOPICS.model_trusted)[-1].payload)["sequence"])


def test_the_fleet_tells_a_device_which_takes_bundles_of_the_new_key_only(
    tmp_path: Path,
    broker: Broker,
    tiny_bundle: TinyBundle,
    keys: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    device = Device(tmp_path / "device", broker.config(), tiny_bundle.keys)
    device.store.mkdir(parents=True)
    leaked = tmp_path / "leaked.pub"
    leaked.write_bytes(next(tiny_bundle.keys.glob("*.pub")).read_bytes())
    command: list[Any] = ["fleet", "trust", TOPICS.device, "--recovery-key", keys[SPARE]]
    command += ["--trust", public(keys["new"]), "--revoke", leaked, "--json", "--no-tls"]
    command += ["--host", "localhost", "--port", broker.port]
    with device, broker.subscriber("transom/hall-pi/#") as heard:
        heard.wait_for(TOPICS.model_trusted)
        heard.wait_for(TOPICS.model_state)
        assert main([str(word) for word in command]) == 0
        (answer,) = json.loads(capsys.readouterr().out)
        assert answer["trusted"] == [load_public_key(public(keys["new"])).fingerprint]
        # The command has heard the device's answer; this listener may still have the one before.
        sequence = wait_until(lambda: newest_sequence(heard))
        other = [word for word in command if word not in ("--revoke", leaked)]
        assert main([str(word) for word in [*other, "--sequence", sequence]]) == 1
        assert "says something else" in json.loads(capsys.readouterr().out)[0]["reason"]
        offer = Offer(broker)
        stolen = offer.deploy(rewrite(tiny_bundle, tmp_path / "a.bundle", sequence=5))
        refused = wait_for_step(heard, "refused", stolen.request)
        assert "no trusted key has signed this" in refused["reason"]
        mine = rewrite(tiny_bundle, tmp_path / "b.bundle", key=keys["new"], sequence=6)
        wait_for_step(heard, "verified", offer.deploy(mine).request)


def test_a_device_without_recovery_key_listens_to_no_statement(
    tmp_path: Path, broker: Broker, tiny_bundle: TinyBundle
) -> None:
    device = Device(tmp_path / "other", broker.config(), tiny_bundle.keys)
    device.store.mkdir(parents=True)
    with device, broker.subscriber("transom/hall-pi/#") as heard:
        heard.wait_for(TOPICS.model_state)
        assert "model/keys" not in broker.log()
        assert heard.copies(TOPICS.model_trusted) == []
