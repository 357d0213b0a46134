"""The bundle that comes with Transom, for a first look without a training."""

from importlib import resources
from pathlib import Path

from transom.errors import BundleError
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
