"""The bundle that a person names, and the one that comes with Transom."""

from importlib import resources
from os import PathLike
from pathlib import Path

from transom.bundle import Bundle, read_bundle
from transom.errors import BundleError
from transom.manifest import check_runtime
from transom.signing import PublicKey, load_public_key

STARTER = "starter"
"""What a person writes instead of a path."""


def bundle_path(name: str) -> Path:
    """Return the path of a bundle that a person named: a file's path, or the word `starter`.

    Raises:
        BundleError: This installation has no starter bundle.
    """
    if name != STARTER:
        return Path(name)
    found = resources.files("transom") / "starter.bundle"
    if not found.is_file():
        raise BundleError(
            "starter: this installation of Transom has no starter bundle; name a bundle file "
            "instead (transom train, transom export)"
        )
    return Path(str(found))


def starter_keys() -> tuple[PublicKey, ...]:
    """Return the key that signed the starter: it is trusted because it was installed with it.

    Raises:
        SignatureError: This installation has none.
    """
    return (load_public_key(Path(str(resources.files("transom") / "starter.pub"))),)


def load_bundle(
    path: str | PathLike[str] = STARTER, *, public_key: str | PathLike[str] | None = None
) -> Bundle:
    """Read and verify a bundle, to be run here.

    Args:
        path: The file, or `starter`: the bundle that comes with Transom, and its key with it.
        public_key: File of the key that must have signed it, as `transom keys new` wrote it. None
            checks everything but who has signed: for files of your own only.

    Raises:
        SignatureError: The key cannot be read, or has not signed the bundle.
        BundleError: The file is missing, is not what a writer of bundles writes, or needs a later
            Transom.

    Examples:
        >>> load_bundle("starter").manifest.name
        'starter'
    """
    name = str(path)
    keys: tuple[PublicKey, ...] | None = None
    if public_key is not None:
        keys = (load_public_key(Path(public_key)),)
    elif name == STARTER:
        keys = starter_keys()
    bundle = read_bundle(bundle_path(name), keys)
    check_runtime(bundle.manifest, name)
    return bundle
