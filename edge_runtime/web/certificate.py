"""The page's certificate: whether it can be used, and whether it was replaced."""

import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from transom.errors import PageError

_LOOK_S = 60.0
"""Between two looks whether it was replaced."""


def check_certificate(files: tuple[str, str]) -> None:
    """Look whether a certificate can be used.

    Args:
        files: Of the certificate, and of its key.

    Raises:
        PageError: It cannot.
    """
    try:
        # An encrypted key must fail, not ask a terminal that nobody watches.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*files, password=lambda: b"")
    except OSError as error:
        raise PageError(
            f"page.certificate_file {files[0]} and page.key_file {files[1]} must be a certificate "
            f"and its unencrypted key in PEM: {error}"
        ) from error


def wait_for_another(files: tuple[str, str], wait: Callable[[float], None]) -> None:
    """Return when a certificate and its key were replaced, and the new ones fit each other.

    Args:
        files: Of the certificate, and of its key.
        wait: Waits so many seconds.
    """
    before = _stamps(files)
    while _stamps(files) == before or not _fit(files):
        wait(_LOOK_S)


def _stamps(files: tuple[str, str]) -> list[tuple[int, int, int]]:
    with suppress(OSError):  # one is being replaced
        found = [Path(file).stat() for file in files]
        return [(stat.st_mtime_ns, stat.st_size, stat.st_ino) for stat in found]
    return []


def _fit(files: tuple[str, str]) -> bool:
    try:
        check_certificate(files)
    except PageError:
        return False
    return True
