"""More cameras for a configuration that is there: its text stays as it is, comments too."""

from pathlib import Path

import tomlkit
from tomlkit.items import AoT

from edge_runtime.toml_tables import join_tables, split_tables, uses_crlf, with_table
from transom.errors import ConfigurationError

_CAMERAS = "cameras"


def check_can_grow(text: str, path: Path) -> None:
    """Refuse a configuration that no camera can be added to.

    Args:
        text: Of a configuration that was read already.
        path: Its file, for the message.

    Raises:
        ConfigurationError: Its cameras are no tables of their own.
    """
    if not isinstance(tomlkit.parse(text).get(_CAMERAS), AoT):
        raise ConfigurationError(
            f"{path}: cameras must be tables of their own for more to be added, is one array; "
            "write each below a [[cameras]]"
        )


def grown(text: str, cameras: str) -> str:
    """Return a configuration with more cameras behind those that it has.

    Args:
        text: A configuration whose cameras are tables of their own.
        cameras: Tables of further ones.
    """
    has_crlf = uses_crlf(text)
    plain = text.replace("\r\n", "\n") if has_crlf else text
    tables = split_tables(plain if plain.endswith("\n") else f"{plain}\n")
    last = max(number for number, table in enumerate(tables) if table.key[:1] == (_CAMERAS,))
    new = join_tables(with_table(tables, last, (_CAMERAS,), cameras))
    return new.replace("\n", "\r\n") if has_crlf else new
