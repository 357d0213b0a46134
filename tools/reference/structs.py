"""Tables of the keys of a configuration or a payload, from its type and its docstring."""

from typing import Any, Literal, get_args, get_origin

import msgspec

from tools.reference.pages import table
from transom.docstring import attributes

_WORDS: tuple[tuple[type, str], ...] = (
    (msgspec.inspect.BoolType, "true or false"),
    (msgspec.inspect.IntType, "integer"),
    (msgspec.inspect.FloatType, "number"),
    (msgspec.inspect.StrType, "text"),
    (msgspec.inspect.DictType, "object"),
    (msgspec.inspect.StructType, "object"),
    (msgspec.inspect.VarTupleType, "array"),
    (msgspec.inspect.TupleType, "array"),
    (msgspec.inspect.LiteralType, "one of"),
)
Kind = msgspec.inspect.Type


def key_table(part: type[msgspec.Struct]) -> str:
    """Return key, default, range and meaning of every key of a configuration's table."""
    said = attributes(part)
    rows = [
        (f"`{field.encode_name}`", _default(field), _range(field), said[field.name])
        for field in msgspec.structs.fields(part)
    ]
    return table(("key", "default", "range", "meaning"), rows)


def payload_table(part: type[msgspec.Struct]) -> str:
    """Return key, type and meaning of every key of a payload."""
    said = attributes(part)
    rows = [
        (f"`{field.encode_name}`", _type(field), said[field.name])
        for field in msgspec.structs.fields(part)
    ]
    tag = part.__struct_config__.tag
    if tag is not None:
        rows.insert(0, (f"`{part.__struct_config__.tag_field}`", "text", f"`{tag}`."))
    return table(("key", "type", "meaning"), rows)


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    value = field.default
    if value is None or value == ():
        return "none"
    if isinstance(value, msgspec.Struct):
        return "as below"
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else f"`{value}`"


def _kinds(field: msgspec.structs.FieldInfo) -> tuple[Kind, ...]:
    found = msgspec.inspect.type_info(field.type)
    kinds = found.types if isinstance(found, msgspec.inspect.UnionType) else (found,)
    return tuple(kind for kind in kinds if not isinstance(kind, msgspec.inspect.NoneType))


def _range(field: msgspec.structs.FieldInfo) -> str:
    """Return the range of a number, or the words to choose from."""
    (kind,) = _kinds(field)
    if isinstance(kind, msgspec.inspect.LiteralType):
        return _choices(field)
    if not isinstance(kind, msgspec.inspect.IntType | msgspec.inspect.FloatType):
        return ""
    low = f"above {_number(kind.gt)}" if kind.gt is not None else _number(kind.ge or 0)
    high = f"below {_number(kind.lt)}" if kind.lt is not None else _number(kind.le or 0)
    return f"{low} to {high}"


def _choices(field: msgspec.structs.FieldInfo) -> str:
    return ", ".join(f"`{value}`" for value in get_args(_literal(field.type)))


def _literal(of: Any) -> Any:
    """Return the Literal inside a type, with its words in the order in which they are written."""
    if get_origin(of) is Literal:
        return of
    return next(found for one in get_args(of) if (found := _literal(one)) is not None)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:g}"


def _type(field: msgspec.structs.FieldInfo) -> str:
    (kind,) = _kinds(field)
    word = next(word for of, word in _WORDS if isinstance(kind, of))
    if isinstance(kind, msgspec.inspect.LiteralType):
        word = _choices(field)
    return word if field.required or field.default is not None else f"{word} or null"
