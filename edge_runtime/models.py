"""Which bundle serves."""

import logging
from pathlib import Path

from transom import __version__
from transom.bundle import Bundle, read_bundle
from transom.config import ModelsConfig
from transom.errors import BundleError
from transom.signing import PublicKey, load_trusted_keys
from transom.starter import STARTER, bundle_path, starter_keys

_log = logging.getLogger(__name__)


def serving_bundle(config: ModelsConfig) -> Bundle:
    """Return the bundle to serve: the one that is named, else the store's newest, else the starter.

    A damaged or foreign bundle in the store is passed over, with a warning: an older one that
    works is better than none.

    Raises:
        SignatureError: No key is trusted, or none has signed the bundle that is named.
        BundleError: The bundle that is named cannot be used, or the store holds none that can and
            this installation has no starter.
    """
    if config.bundle == STARTER:
        return _read(bundle_path(STARTER), starter_keys())
    if config.bundle is not None:
        return _read(Path(config.bundle), load_trusted_keys(Path(config.trusted_keys)))
    store = Path(config.store)
    stored = sorted(store.glob("*.bundle"))
    newest = _newest(stored, load_trusted_keys(Path(config.trusted_keys))) if stored else None
    if newest is None:
        _log.warning("no bundle of your own store=%s serving=%s", store, STARTER)
        return _read(bundle_path(STARTER), starter_keys())
    return newest


def needs_keys(config: ModelsConfig) -> bool:
    """Return whether a bundle is to serve that a key of the device's own must have signed."""
    if config.bundle is not None:
        return config.bundle != STARTER
    return any(Path(config.store).glob("*.bundle"))


def _newest(stored: list[Path], keys: tuple[PublicKey, ...]) -> Bundle | None:
    newest: Bundle | None = None
    for path in stored:
        try:
            bundle = _read(path, keys)
        except BundleError as error:
            _log.warning("bundle passed over reason=%s", error)
            continue
        if newest is None or _age(bundle) > _age(newest):
            newest = bundle
    return newest


def _read(path: Path, keys: tuple[PublicKey, ...]) -> Bundle:
    bundle = read_bundle(path, keys)
    needed = bundle.manifest.minimum_runtime
    if _version(needed) > _version(__version__):
        raise BundleError(
            f"{path}: needs Transom {needed} or later, this is {__version__}; update Transom"
        )
    return bundle


def _age(bundle: Bundle) -> tuple[int, str]:
    return bundle.manifest.sequence, bundle.manifest.created


def _version(text: str) -> tuple[int, ...]:
    """Return the leading numbers of a version, without trailing zeros: 1.2.0rc1 is (1, 2)."""
    numbers: list[int] = []
    for part in text.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
        if digits != part:
            break
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
