"""Which bundle of a store serves."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec
import pytest

from edge_runtime.models import serving_bundle
from transom.bundle import read_bundle, write_bundle
from transom.config import ModelsConfig
from transom.errors import BundleError, SignatureError
from transom.signing import load_private_key, new_key


class TinyBundle(Protocol):
    path: Path
    keys: Path
    private_key: Path


Write = Callable[..., Path]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


@pytest.fixture
def write(tiny_bundle: TinyBundle, store: Path) -> Write:
    """Write a copy of the tiny bundle with another manifest into the store."""

    def write(name: str, *, key: Path = tiny_bundle.private_key, **changes: object) -> Path:
        bundle = read_bundle(tiny_bundle.path, None)
        path = store / name
        write_bundle(
            path,
            manifest=msgspec.structs.replace(bundle.manifest, **changes),
            model=bundle.model,
            goldens=bundle.goldens,
            report=bundle.report,
            key=load_private_key(key),
        )
        return path

    return write


@pytest.fixture
def config(tiny_bundle: TinyBundle, store: Path) -> ModelsConfig:
    return ModelsConfig(store=str(store), trusted_keys=str(tiny_bundle.keys))


def test_the_newest_sequence_serves_whatever_its_file_is_called(
    config: ModelsConfig, write: Write
) -> None:
    write("z.bundle", sequence=2)
    write("a.bundle", sequence=10)
    write("m.bundle", sequence=9)

    assert serving_bundle(config).manifest.sequence == 10


def test_the_bundle_that_is_named_serves_even_if_the_store_has_a_newer_one(
    config: ModelsConfig, write: Write, tiny_bundle: TinyBundle
) -> None:
    write("newer.bundle", sequence=10)

    named = msgspec.structs.replace(config, bundle=str(tiny_bundle.path))
    assert serving_bundle(named).manifest.sequence == 1


def test_a_damaged_newest_bundle_is_passed_over_with_a_warning(
    config: ModelsConfig, write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    write("old.bundle", sequence=1)
    newest = write("new.bundle", sequence=2)
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)

    with caplog.at_level(logging.WARNING):
        assert serving_bundle(config).manifest.sequence == 1
    assert "bundle passed over" in caplog.text
    assert "new.bundle" in caplog.text


def test_a_bundle_that_a_stranger_signed_never_serves(
    config: ModelsConfig, write: Write, tmp_path: Path
) -> None:
    new_key(tmp_path / "stranger.key")
    path = write("foreign.bundle", sequence=99, key=tmp_path / "stranger.key")

    assert serving_bundle(config).manifest.name == "starter"
    with pytest.raises(SignatureError, match="no trusted key"):
        serving_bundle(msgspec.structs.replace(config, bundle=str(path)))


def test_without_a_bundle_of_ones_own_the_starter_serves_and_the_log_says_so(
    config: ModelsConfig, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert serving_bundle(config).manifest.name == "starter"
    assert "serving=starter" in caplog.text


def test_the_starter_needs_no_trusted_key(tmp_path: Path) -> None:
    named = ModelsConfig(bundle="starter", trusted_keys=str(tmp_path / "none"))

    assert serving_bundle(named).manifest.task_set().names == ("kind", "state")


def test_no_trusted_key_is_no_bundle(config: ModelsConfig, write: Write, tmp_path: Path) -> None:
    write("good.bundle")
    without = msgspec.structs.replace(config, trusted_keys=str(tmp_path))

    with pytest.raises(SignatureError, match="holds no public key"):
        serving_bundle(without)


@pytest.mark.parametrize(
    ("needed", "serves"), [("0.0.9", True), ("0.1", True), ("0.1.0", True), ("99.0.0", False)]
)
def test_a_bundle_for_a_later_transom_is_refused(
    config: ModelsConfig, write: Write, needed: str, serves: bool
) -> None:
    write("one.bundle", minimum_runtime=needed)

    if serves:
        assert serving_bundle(config).manifest.minimum_runtime == needed
    else:
        assert serving_bundle(config).manifest.name == "starter"
        with pytest.raises(BundleError, match=r"needs Transom 99\.0\.0 or later"):
            serving_bundle(msgspec.structs.replace(config, bundle=f"{config.store}/one.bundle"))
