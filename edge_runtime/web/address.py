"""Where the page is and what opens it: its token, its socket, its link."""

import os
import secrets
import socket
from pathlib import Path

from edge_runtime.web.access import Access
from transom.atomic import write_file
from transom.config import PageConfig
from transom.errors import PageError

TOKEN_FILE = "page-token"  # noqa: S105 - the name of its file
"""In the state directory."""

_TOKEN_BYTES = 24
_LEAST_CHARACTERS = 16


def read_token(folder: Path, *, is_made: bool = True) -> str:
    """Return the page's token, made at first, readable by its owner only.

    Args:
        folder: The state directory.
        is_made: Whether to make one where there is none.

    Raises:
        PageError: There is none, or it cannot be read or is too short.
    """
    path = folder / TOKEN_FILE
    try:
        if is_made and not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_file(path, f"{secrets.token_urlsafe(_TOKEN_BYTES)}\n".encode(), 0o600)
        token = path.read_text("ascii").strip()
        if is_made:
            path.chmod(0o600)
    except FileNotFoundError:
        raise PageError(f"{path}: is not there; the daemon makes it at its first start") from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it must be ASCII"
        raise PageError(f"{path}: the page's token cannot be read: {why}") from error
    if len(token) < _LEAST_CHARACTERS:
        raise PageError(
            f"{path}: the token must have {_LEAST_CHARACTERS} characters, has {len(token)}; delete "
            "the file, and a new one is made"
        )
    return token


def listen_at(config: PageConfig) -> socket.socket:
    """Return a listening socket.

    Raises:
        PageError: Nobody can listen there.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(64)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise PageError(
            f"page cannot listen at {config.host}:{config.port}: {error.strerror}; "
            "choose another page.port"
        ) from error
    return listener


def access_of(config: PageConfig, token: str, port: int) -> Access:
    """Return who may ask, by which names.

    Args:
        config: The page.
        token: Its secret.
        port: Where it listens.
    """
    own = socket.gethostname().lower()
    names = {config.host.lower(), own, f"{own.partition('.')[0]}.local", *config.names}
    scheme = "https" if config.uses_tls else "http"
    return Access(token=token, names=tuple(sorted(names)), scheme=scheme, port=port)


def link_to(config: PageConfig, port: int, token: str = "") -> str:
    """Return the page's address; with a token it opens the page.

    The token stands behind `#`: a browser sends that to nobody.
    """
    host = config.names[0] if config.names else config.host
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        host = socket.gethostname()
    host = f"[{host}]" if ":" in host else host
    scheme = "https" if config.uses_tls else "http"
    return f"{scheme}://{host}:{port}/" + (f"#{token}" if token else "")


def environment() -> dict[str, str]:
    """Return the environment of the page's process: it may not speak to the service manager."""
    silent = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "CREDENTIALS_DIRECTORY")
    return {name: value for name, value in os.environ.items() if name not in silent}
