"""Every mistake of a file against the structs that it is decoded into, each with its path in it."""

import types
import typing
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

import msgspec

# A password that somebody writes in the wrong place must not come out in a log.
_NEVER_SHOWN = ("source", "host", "username", "password_file", "key_file")
_SHOWN_LENGTH = 60
_TOML_NAMES = {dict: "table", list: "array", bool: "bool", str: "str", int: "int", float: "float"}


def find_mistakes(raw: object, of: Any, path: str = "$") -> list[str]:
    """Return every mistake of a decoded file against a tree of structs, each with its path.

    A decoder stops at the first mistake; a person who mends a file wants all of them.
    """
    plain = _plain(of)
    if isinstance(plain, type) and issubclass(plain, msgspec.Struct):
        return list(_struct_mistakes(raw, plain, path))
    element = _element(plain)
    if element is not None and isinstance(raw, list) and _is_struct(element):
        found = [m for i, v in enumerate(raw) for m in find_mistakes(v, element, f"{path}[{i}]")]
        return found or _own_mistake(raw, of, path)
    return _own_mistake(raw, of, path)


def _struct_mistakes(raw: object, of: type[msgspec.Struct], path: str) -> Iterator[str]:
    if not isinstance(raw, dict):
        yield f"expected `table` at `{path}`, got `{_TOML_NAMES.get(type(raw), 'date')}`"
        return
    fields = {field.encode_name: field for field in msgspec.structs.fields(of)}
    unknown = [key for key in raw if key not in fields]
    yield from (_unknown_key(key, fields, path) for key in unknown)
    count = len(unknown)
    for key, field in fields.items():
        if key in raw:
            mistakes = find_mistakes(raw[key], field.type, f"{path}.{key}")
            count += len(mistakes)
            yield from mistakes
        elif field.required:
            count += 1
            yield f"missing key `{path}.{key}`"
    if count == 0:
        yield from _own_mistake(raw, of, path)


def _unknown_key(key: str, known: Iterable[str], path: str) -> str:
    shown = key if key.isprintable() else ascii(key)
    if key == "password" and "password_file" in known:
        return (
            f"unknown key `{path}.{shown}`: a secret is never a value here; put it in a file and "
            "name that in password_file"
        )
    from difflib import get_close_matches  # only where something is wrong

    close = get_close_matches(key[:_SHOWN_LENGTH], known, n=1)
    meant = f", {close[0]} is meant?" if close else ""
    return f"unknown key `{path}.{shown[:_SHOWN_LENGTH]}`{meant}; known: {', '.join(sorted(known))}"


def _own_mistake(raw: object, of: Any, path: str) -> list[str]:
    choices = _choices(of)
    if choices and raw not in choices:
        allowed = ", ".join(map(repr, choices))
        return [f"expected one of {allowed} at `{path}`{_value(raw, path)}"]
    try:
        msgspec.convert(raw, of)
    except msgspec.ValidationError as error:
        return [_located(str(error), raw, path)]
    return []


def _located(message: str, raw: object, path: str) -> str:
    """Give a decoder's message its path in the file and the value it is about."""
    what, _, inner = message.partition(" - at `")
    where = path + inner.rstrip("`").removeprefix("$")
    text = f"{what[0].lower()}{what[1:]}" if what else "not usable"
    text = text.replace(" | null`", "`").replace("`object`", "`table`")
    value = "" if inner or ", got " in text else _value(raw, path)
    return f"{text} at `{where}`{value}"


def _value(raw: object, path: str) -> str:
    """Return what a message may say of a wrong value."""
    if not isinstance(raw, str | int | float) or path.rpartition(".")[2] in _NEVER_SHOWN:
        return ""
    shown = str(raw).lower() if isinstance(raw, bool) else repr(raw)
    return f", got {shown[:_SHOWN_LENGTH]}"


def _choices(of: Any) -> tuple[Any, ...]:
    return typing.get_args(of) if typing.get_origin(of) is Literal else ()


def _plain(of: Any) -> Any:
    """Return the type inside Annotated, or beside None: a file cannot say null."""
    if isinstance(of, types.UnionType):
        of = next((one for one in typing.get_args(of) if one is not types.NoneType), of)
    return typing.get_args(of)[0] if typing.get_origin(of) is Annotated else of


def _element(of: Any) -> Any:
    arguments = typing.get_args(of)
    is_sequence = typing.get_origin(of) is tuple and len(arguments) == 2 and arguments[1] is ...
    return arguments[0] if is_sequence else None


def _is_struct(of: Any) -> bool:
    of = _plain(of)
    return isinstance(of, type) and issubclass(of, msgspec.Struct)
