"""HTTP for the page: its files, its API, and who may use it.

Nothing here knows a camera or a label: a request that may be asked becomes a `Call`, and whoever
has the data answers it. So the same application serves a device, from a process of its own, and a
data set on a workstation.
"""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping
from importlib import resources
from importlib.resources.abc import Traversable

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge_runtime.web.access import SESSION_S, SIGN_IN_ANEW, Access
from edge_runtime.web.answers import SessionShown
from edge_runtime.web.api import OPERATIONS, OWN_OPERATIONS, Operation
from edge_runtime.web.call import JSON, Call, Reply, refusal
from edge_runtime.web.openapi import ANYBODY, document
from edge_runtime.web.patience import welcome

MOST_BODY_BYTES = 1 << 20

_DENIAL_S = 0.1
"""What a denial takes, so that somebody who asks on and on costs little."""

_KINDS = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}

Ask = Callable[[Call], Reply]
Endpoint = Callable[[Request], Awaitable[Response]]


def make_app(access: Access, ask: Ask) -> ASGIApp:
    """Return the application.

    Args:
        access: Who may ask.
        ask: Answers what is asked; called from several threads.
    """
    files = [Route(path, _file(data, kind), methods=["GET"]) for path, data, kind in _site()]
    own = {
        ANYBODY: _open_session(access),
        "session": _show_session(access),
        "sign-out": _close_session(access),
        "openapi": _describe(access),
    }
    endpoints = {one: own[one.name] for one in OWN_OPERATIONS}
    endpoints |= {one: _operation(one.name, ask) for one in OPERATIONS}
    app = Starlette(
        routes=[*files, *_routes(endpoints)], exception_handlers={HTTPException: _say_what_failed}
    )
    return _Gate(app, access)


class _Gate:
    """Lets through who may ask, and says to browsers what the page is not allowed to do."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        denial = self._access.refuse_origin(request.headers)
        if denial is None and _is_private(request):
            denial = self._access.refuse(request.method, request.headers, time.time())
            if denial is None:
                welcome(scope)
        if denial is None:
            await self._app(scope, receive, guarded)
        else:
            await asyncio.sleep(_DENIAL_S)
            await _response(refusal(denial.status, denial.why))(scope, receive, guarded)


def _is_private(request: Request) -> bool:
    """Return whether a request needs the token: all but the page's own files and the way in."""
    path = request.scope["path"]  # as it is routed; the URL is put together with the Host header
    return path.startswith("/api") and not (path == "/api/session" and request.method == "POST")


def _site() -> list[tuple[str, bytes, str]]:
    """Return the page's files: path, content and kind. There are no others to ask for."""
    found = []
    folder = resources.files("edge_runtime.web") / "site"

    def walk(place: Traversable, path: str) -> None:
        for entry in sorted(place.iterdir(), key=lambda one: one.name):
            if entry.is_dir():
                walk(entry, f"{path}{entry.name}/")
                continue
            kind = _KINDS.get(entry.name[entry.name.rfind(".") :])
            if kind is not None:
                name = "" if entry.name == "index.html" else entry.name
                found.append((path + name, entry.read_bytes(), kind))

    walk(folder, "/")
    return found


def _file(data: bytes, kind: str) -> Endpoint:
    tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    headers = {"etag": tag, "cache-control": "no-cache"}

    async def endpoint(request: Request) -> Response:
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(data, media_type=kind, headers=headers)

    return endpoint


def _routes(endpoints: Mapping[Operation, Endpoint]) -> list[Route]:
    """Return a route a path: what a path is not asked by is refused with all that it may be."""
    by_path: dict[str, dict[str, Endpoint]] = {}
    for one, endpoint in endpoints.items():
        by_path.setdefault(one.path, {})[one.method] = endpoint
    return [
        Route(path, _by_method(those), methods=sorted(those)) for path, those in by_path.items()
    ]


def _by_method(endpoints: Mapping[str, Endpoint]) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        return await endpoints["GET" if request.method == "HEAD" else request.method](request)

    return endpoint


def _operation(what: str, ask: Ask) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        call = Call(
            what=what,
            of=next(iter(request.path_params.values()), ""),
            query=tuple(request.query_params.multi_items()),
            body=await _body(request),
        )
        return _response(await run_in_threadpool(ask, call))

    return endpoint


async def _body(request: Request) -> bytes:
    """Return the body; a form, which another page could send, is not read."""
    if request.method in ("GET", "HEAD"):
        return b""
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    if kind != JSON:
        raise HTTPException(415, f"the body must be {JSON}")
    parts, size = [], 0
    async for part in request.stream():
        parts.append(part)
        size += len(part)
        if size > MOST_BODY_BYTES:
            raise HTTPException(413, f"the body may have {MOST_BODY_BYTES} bytes")
    return b"".join(parts)


def _open_session(access: Access) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        token = (await _body(request)).decode("utf-8", "replace").strip().strip('"')
        if not access.is_token(token):
            await asyncio.sleep(_DENIAL_S)
            return _response(refusal(401, SIGN_IN_ANEW))
        session = access.new_session(time.time())
        response = Response(status_code=204)
        response.set_cookie(
            access.cookie,
            session,
            max_age=SESSION_S,
            httponly=True,
            samesite="strict",
            secure=access.scheme == "https",
        )
        return response

    return endpoint


def _show_session(access: Access) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        csrf = access.csrf(access.session_of(request.headers))
        return Response(msgspec.json.encode(SessionShown(csrf)), media_type=JSON)

    return endpoint


def _close_session(access: Access) -> Endpoint:
    async def endpoint(_request: Request) -> Response:
        response = Response(status_code=204)
        response.delete_cookie(access.cookie, httponly=True, samesite="strict")
        return response

    return endpoint


def _describe(access: Access) -> Endpoint:
    async def endpoint(_request: Request) -> Response:
        return Response(msgspec.json.encode(document(access.cookie)), media_type=JSON)

    return endpoint


def _response(reply: Reply) -> Response:
    return Response(reply.body, reply.status, media_type=reply.kind if reply.body else None)


async def _say_what_failed(_request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    response = _response(refusal(error.status_code, error.detail))
    response.headers.update(error.headers or {})  # 405 says which methods there are
    return response
