"""The page's API as tables: what may be asked, and the types of what is sent and answered."""

import json
from pathlib import Path

import msgspec
from msgspec import inspect

from edge_runtime.web.answers import Refusal
from edge_runtime.web.api import OPERATIONS, OWN_OPERATIONS, REFUSALS, Operation
from edge_runtime.web.openapi import document, refusals, structs_of
from tools.reference.pages import table
from transom.docstring import attributes, lead

_WORDS: dict[type[inspect.Type], str] = {
    inspect.NoneType: "null",
    inspect.BoolType: "true or false",
    inspect.IntType: "integer",
    inspect.FloatType: "number",
    inspect.StrType: "text",
}

OPENAPI = Path("docs", "openapi.json")
"""Where the document lies that `GET /api/openapi.json` serves, below the repository's root."""


def openapi_text() -> str:
    """Return the document as its file has it."""
    return json.dumps(document(), indent=1) + "\n"


def request_table() -> str:
    """Return every operation: request, what it does, what is sent, answered and refused."""
    return table(
        ("request", "what it does", "sent", "answer", "refused with"),
        [
            (f"`{one.method} {one.path}`", one.does, _sent(one), _answer(one), _refused(one))
            for one in (*OPERATIONS, *OWN_OPERATIONS)
        ],
    )


def refusal_table() -> str:
    """Return what every status means with which something is refused."""
    return table(("status", "meaning"), [(str(code), said) for code, said in REFUSALS.items()])


def type_sections() -> str:
    """Return every type that is sent or answered, a section each, in the operations' order."""
    asked = [of for one in (*OPERATIONS, *OWN_OPERATIONS) for of in _sides(one)]
    return "\n\n".join(
        f"### {struct.__name__}\n\n{lead(struct)}\n\n{_type_table(struct)}"
        for struct in structs_of([*asked, Refusal])
    )


def _type_table(struct: type[msgspec.Struct]) -> str:
    said = attributes(struct)
    rows = [
        (f"`{field.encode_name}`", _type(field), said[field.name])
        for field in msgspec.structs.fields(struct)
    ]
    return table(("key", "type", "meaning"), rows)


def _type(field: msgspec.structs.FieldInfo) -> str:
    word = _word(inspect.type_info(field.type))
    return word if field.required else f"{word}, may be missing"


def _word(kind: inspect.Type) -> str:
    """Return a type in words; a struct's leads to its section."""
    match kind:
        case inspect.Metadata():
            return _word(kind.type)
        case inspect.UnionType():
            return " or ".join(_word(one) for one in kind.types)
        case inspect.StructType():
            return _named(kind.cls)
        case inspect.ListType() | inspect.VarTupleType() | inspect.CollectionType():
            return f"array of {_word(kind.item_type)}"
        case inspect.TupleType():
            return f"{len(kind.item_types)} of {_word(kind.item_types[0])}"
        case inspect.DictType():
            return f"object: {_word(kind.value_type)} by key"
        case inspect.LiteralType():
            return ", ".join(f"`{json.dumps(value)}`" for value in kind.values)
    return _WORDS[type(kind)]


def _sent(one: Operation) -> str:
    of = one.body if one.body is not None else one.query
    if of is None:
        return ""
    named = _named(of) if issubclass(of, msgspec.Struct) else "the token"
    return named if one.body is not None else f"`?…`: {named}"


def _answer(one: Operation) -> str:
    if one.answer is None:
        return "204"
    if one.answer is bytes:
        return "JPEG"
    return _named(one.answer) if issubclass(one.answer, msgspec.Struct) else "JSON"


def _refused(one: Operation) -> str:
    return ", ".join(str(code) for code in refusals(one))


def _named(of: type) -> str:
    return f"[{of.__name__}](#{of.__name__.lower()})"


def _sides(one: Operation) -> tuple[type | None, ...]:
    return (one.body, one.query, one.answer)
