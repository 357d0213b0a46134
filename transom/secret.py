"""Where a secret is: a credential of the systemd unit, or a file beside the configuration."""

import os
from pathlib import Path

from transom.errors import ConfigurationError


def find_secret(name: str, configuration: Path, what: str = "secret") -> Path:
    """Return where a systemd credential or a file is.

    Args:
        name: A credential's name (looked up in `$CREDENTIALS_DIRECTORY`), or a path, relative
            ones from the configuration's folder.
        configuration: The configuration file that names it.
        what: What it is, for the message.

    Raises:
        ConfigurationError: There is no such credential or file.
    """
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    places = [Path(credentials) / name] if credentials and "/" not in name else []
    places.append(configuration.parent / name)
    for place in places:
        try:
            place.stat()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ConfigurationError(f"{place}: {what} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise ConfigurationError(f"{configuration}: {what} {name!r} is no file name") from error
        return place
    raise ConfigurationError(
        f"{configuration}: {what} {name!r} is neither a credential of the unit nor a file; "
        f"looked for {', '.join(map(str, places))}"
    )


def read_secret(name: str, configuration: Path) -> str:
    """Return a secret from a systemd credential or a file; see `find_secret`.

    Raises:
        ConfigurationError: There is no such credential or file, or it is empty or not text.
    """
    place = find_secret(name, configuration)
    try:
        secret = place.read_text("utf-8").rstrip("\r\n")
    except OSError as error:
        raise ConfigurationError(f"{place}: secret cannot be read: {error.strerror}") from error
    except ValueError:  # its text would show a part of the secret
        raise ConfigurationError(f"{place}: secret must be UTF-8 text") from None
    if not secret:
        raise ConfigurationError(f"{place}: secret is empty; write it into this file")
    return secret
