"""What the docstring of a type says, for readers of a reference and of a schema."""

import inspect
import re

import msgspec

_ATTRIBUTES = "Attributes:"
_ATTRIBUTE = re.compile(r"^(\w+): (.+)$")


def lead(part: type) -> str:
    """Return what a type's docstring says before its sections, in one line.

    Examples:
        >>> class Door:
        ...     '''A door.
        ...
        ...     Attributes:
        ...         name: Whose.
        ...     '''
        >>> lead(Door)
        'A door.'
    """
    own = inspect.cleandoc(part.__dict__.get("__doc__") or "")
    return " ".join(own.partition(_ATTRIBUTES)[0].split())


def attributes(part: type[msgspec.Struct]) -> dict[str, str]:
    """Return what the docstrings of a struct and its bases say of each key.

    Raises:
        ValueError: They leave a key out.
    """
    said: dict[str, str] = {}
    for base in reversed(part.__mro__):
        own = inspect.cleandoc(base.__dict__.get("__doc__") or "")
        said |= _section(own, _ATTRIBUTES)
    missing = [key for key in part.__struct_fields__ if key not in said]
    if missing:
        raise ValueError(f"{part.__name__}: the docstring says nothing of {', '.join(missing)}")
    return said


def _section(text: str, head: str) -> dict[str, str]:
    """Return the entries of a section of a docstring in Google's style, each in one line."""
    _, found, rest = text.partition(f"{head}\n")
    said: dict[str, str] = {}
    name = ""
    for line in rest.splitlines() if found else ():
        if line and not line.startswith(" "):
            break
        entry = _ATTRIBUTE.match(line.removeprefix("    "))
        if entry is not None:
            name = entry[1]
            said[name] = entry[2]
        elif line.strip():
            said[name] += f" {line.strip()}"
    return said
