"""Which bundle serves."""

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.keyring import Keyring
from edge_runtime.ledger import Ledger, LedgerFile
from transom.bundle import Bundle, read_bundle
from transom.config import ModelsConfig
from transom.errors import BundleError
from transom.manifest import Manifest, check_runtime
from transom.signing import PublicKey
from transom.starter import STARTER, bundle_path, starter_keys

_log = logging.getLogger(__name__)


def serving_bundle(config: ModelsConfig, ledger: Ledger | None = None) -> Bundle:
    """Return the bundle that serves; see `serving_path`.

    Raises:
        SignatureError: No key is trusted, or none has signed the bundle that is named.
        BundleError: The bundle that is named cannot be used, or the store holds none that can and
            this installation has no starter.
    """
    return _read(*_serving(config, ledger))


def serving_path(config: ModelsConfig, ledger: Ledger | None = None) -> Path:
    """Return the file of the bundle that serves.

    It is the one that the configuration names; else the one that the ledger names, or the one
    before where that is gone, unless somebody has put a newer one into the store by hand; else the
    newest of those that were put there by hand; else the starter. A damaged or foreign bundle in
    the store is passed over, with a warning: an older one that works is better than none. One that
    the ledger refuses is passed over without a word.

    Args:
        config: The store.
        ledger: What is remembered of it; None = what the store itself says.

    Raises:
        SignatureError: No key is trusted.
    """
    return _serving(config, ledger)[0]


def _serving(config: ModelsConfig, ledger: Ledger | None) -> tuple[Path, tuple[PublicKey, ...]]:
    """Return the file of the bundle that serves, and the keys of which one must have signed it."""
    if config.bundle == STARTER:
        return _starter()
    if config.bundle is not None:
        return Path(config.bundle), Keyring(config).trusted()
    store = Path(config.store)
    ledger = LedgerFile(store).read() if ledger is None else ledger
    paths = sorted(store.glob("*.bundle"))
    keys = Keyring(config).trusted() if paths else ()
    found = [stored for stored in _readable(paths, keys) if stored.digest not in ledger.refused]
    chosen = _choose(found, ledger)
    if chosen is None:
        _log.warning("no bundle of your own store=%s serving=%s", store, STARTER)
        return _starter()
    return chosen.path, keys


def is_starter(digest: str) -> bool:
    """Return whether a bundle is the one that comes with Transom."""
    path = bundle_path(STARTER)
    return hashlib.sha256(path.read_bytes()).hexdigest() == digest


def needs_keys(config: ModelsConfig) -> bool:
    """Return whether a bundle is to serve that a key of the device's own must have signed."""
    if config.bundle is not None:
        return config.bundle != STARTER
    return any(Path(config.store).glob("*.bundle"))


@dataclass(frozen=True)
class _Stored:
    """A bundle of the store that could be read; its network is not kept in memory."""

    path: Path
    manifest: Manifest
    digest: str

    @property
    def age(self) -> tuple[int, str]:
        return self.manifest.sequence, self.manifest.created


def _choose(found: list[_Stored], ledger: Ledger) -> _Stored | None:
    """Return which of these serves; None = the starter."""
    # What came over MQTT serves once it was handed over, and not because it is there and new.
    by_hand = _newest([stored for stored in found if stored.digest not in ledger.installed])
    there = {stored.digest: stored for stored in found}
    named = there.get(ledger.serving or "") or there.get(ledger.previous or "")
    if named is None:
        return by_hand
    return by_hand if by_hand is not None and by_hand.age > named.age else named


def _newest(found: list[_Stored]) -> _Stored | None:
    return max(found, key=lambda stored: stored.age, default=None)


def _readable(paths: list[Path], keys: tuple[PublicKey, ...]) -> Iterator[_Stored]:
    for path in paths:
        try:
            bundle = _read(path, keys)
        except BundleError as error:
            _log.warning("bundle passed over reason=%s", error)
            continue
        yield _Stored(path, bundle.manifest, bundle.digest)


def _starter() -> tuple[Path, tuple[PublicKey, ...]]:
    return bundle_path(STARTER), starter_keys()


def _read(path: Path, keys: tuple[PublicKey, ...]) -> Bundle:
    bundle = read_bundle(path, keys)
    check_runtime(bundle.manifest, str(path))
    return bundle
