"""Which bundle serves."""

import logging
from pathlib import Path

from transom import __version__
from transom.bundle import Bundle, read_bundle
from transom.config import ModelsConfig
from transom.errors import BundleError
from transom.signing import PublicKey, load_trusted_keys

_log = logging.getLogger(__name__)


def serving_bundle(config: ModelsConfig) -> Bundle:
    """Return the bundle to serve: the one that the configuration names, or the store's newest.

    A damaged or foreign bundle in the store is passed over, with a warning: an older one that
    works is better than none.

    Raises:
        SignatureError: No key is trusted, or none has signed the bundle that is named.
        BundleError: The bundle that is named cannot be used, or the store holds none that can.
    """
    keys = load_trusted_keys(Path(config.trusted_keys))
    if config.bundle is not None:
        return _read(Path(config.bundle), keys)
    return _newest(Path(config.store), keys)


def _newest(store: Path, keys: tuple[PublicKey, ...]) -> Bundle:
    newest: Bundle | None = None
    refused: list[str] = []
    for path in sorted(store.glob("*.bundle")):
        try:
            bundle = _read(path, keys)
        except BundleError as error:
            _log.warning("bundle passed over reason=%s", error)
            refused.append(str(error))
            continue
        if newest is None or _age(bundle) > _age(newest):
            newest = bundle
    if newest is None:
        found = "; ".join(refused) or "holds no *.bundle"
        raise BundleError(
            f"{store}: has no bundle to serve ({found}); "
            "copy one there, or name one as models.bundle"
        )
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
