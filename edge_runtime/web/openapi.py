"""The page's API as an OpenAPI 3.1 document, made from its operations and their types.

References:
    OpenAPI Specification 3.1.1; its schemas are JSON Schema 2020-12, which msgspec writes.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, get_args

import msgspec

from edge_runtime.web.answers import Refusal
from edge_runtime.web.api import OPERATIONS, OWN_OPERATIONS, REFUSALS, Operation
from edge_runtime.web.call import JPEG, JSON
from transom import __version__
from transom.docstring import attributes, lead

ANYBODY = "sign-in"
"""The operation that needs no token."""

_SAFE = ("GET", "HEAD")
_NAME = re.compile(r"\{(\w+)\}")
_REFS = "#/components/schemas/{name}"
_Node = dict[str, Any]


def document(cookie: str = "transom_8380") -> _Node:
    """Return the document, as JSON has it.

    Args:
        cookie: What the page's cookie is called; its port is in the name.
    """
    every = (*OPERATIONS, *OWN_OPERATIONS)
    types = sorted({of for one in every for of in _types(one)}, key=lambda of: of.__name__)
    found, components = msgspec.json.schema_components([*types, Refusal], ref_template=_REFS)
    schemas = dict(zip([*types, Refusal], found, strict=True))
    _describe(components, structs_of([*types, Refusal]))
    paths: dict[str, _Node] = {}
    for one in every:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, schemas)
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "Transom's page",
            "version": __version__,
            "description": "All that the page of a device or of a data set does.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": dict(sorted(components.items())),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": cookie},
                "csrf": {"type": "apiKey", "in": "header", "name": "X-CSRF-Token"},
            },
        },
    }


def refusals(one: Operation) -> tuple[int, ...]:
    """Return every status with which an operation may be refused."""
    found = {401, 403, 421, *one.refusals}  # who asks, from where, by which name
    if one.body is not None:
        found |= {413, 415}
    if one in OPERATIONS:
        found |= {503}  # nobody is at the desk
    return tuple(sorted(found))


def structs_of(types: Iterable[Any]) -> Iterator[type[msgspec.Struct]]:
    """Return all structs that types are made of, each once, those inside one after it."""
    seen: set[Any] = set()
    waiting = list(types)[::-1]
    while waiting:
        of = waiting.pop()
        if of in seen:
            continue
        seen.add(of)
        if isinstance(of, type) and issubclass(of, msgspec.Struct):
            yield of
            inside = [field.type for field in msgspec.structs.fields(of)]
        else:
            inside = [arg for arg in get_args(of) if not isinstance(arg, str | msgspec.Meta)]
        waiting += inside[::-1]


def _types(one: Operation) -> Iterator[type]:
    for of in (one.body, one.answer):
        if of is not None and of not in (bytes, dict):
            yield of


def _operation(one: Operation, schemas: dict[type, _Node]) -> _Node:
    node: _Node = {"operationId": one.name, "summary": one.does}
    parameters = [*_path_parameters(one), *_query_parameters(one)]
    if parameters:
        node["parameters"] = parameters
    if one.body is not None:
        node["requestBody"] = {"required": True, "content": {JSON: {"schema": schemas[one.body]}}}
    status, answer = _answer(one, schemas)
    node["responses"] = {
        status: answer,
        **{
            str(code): {
                "description": REFUSALS[code],
                "content": {JSON: {"schema": schemas[Refusal]}},
            }
            for code in refusals(one)
        },
    }
    node["security"] = _security(one)
    return node


def _answer(one: Operation, schemas: dict[type, _Node]) -> tuple[str, _Node]:
    if one.answer is None:
        return "204", {"description": "Done."}
    if one.answer is bytes:
        return "200", {"description": "A JPEG.", "content": {JPEG: {}}}
    schema = schemas.get(one.answer, {"type": "object"})
    return "200", {"description": "JSON.", "content": {JSON: {"schema": schema}}}


def _security(one: Operation) -> list[dict[str, list[str]]]:
    if one.name == ANYBODY:
        return []
    browser: dict[str, list[str]] = {"session": []}
    return [{"token": []}, browser if one.method in _SAFE else browser | {"csrf": []}]


def _path_parameters(one: Operation) -> Iterator[_Node]:
    for name in _NAME.findall(one.path):
        yield {
            "name": name, "in": "path", "required": True,
            "schema": {"type": "string", "minLength": 1},
        }  # fmt: skip


def _query_parameters(one: Operation) -> Iterator[_Node]:
    if one.query is None:
        return
    said = attributes(one.query)
    _, components = msgspec.json.schema_components([one.query], ref_template=_REFS)
    for name, schema in components[one.query.__name__]["properties"].items():
        yield {"name": name, "in": "query", "description": said[name], "schema": schema}


def _describe(components: dict[str, _Node], structs: Iterable[type[msgspec.Struct]]) -> None:
    """Say of each type and each of its keys what its docstring says."""
    for struct in structs:
        node = components[struct.__name__]
        node.pop("title", None)
        node["description"] = lead(struct)
        said = attributes(struct)
        for field in msgspec.structs.fields(struct):
            node["properties"][field.encode_name]["description"] = said[field.name]
