"""What a page asks and what it gets: the same for a device and for a data set."""

from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

import msgspec

from edge_runtime.web.answers import Refusal
from transom.errors import PageError
from transom.printable import printable

JSON = "application/json"
JPEG = "image/jpeg"

_MOST_SAID = 200

Body = TypeVar("Body", bound=msgspec.Struct)


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A request of somebody who may ask.

    Attributes:
        what: The operation, by its name in `api.OPERATIONS`.
        of: What it is about: a camera, a zone or a picture; empty = all.
        query: Further words of the address with their values, as they stand there.
        body: JSON, or nothing.
    """

    what: str
    of: str = ""
    query: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """An answer, with a status as HTTP has it."""

    status: int = 200
    kind: str = JSON
    body: bytes = b""


class Desk(Protocol):
    """Whoever answers: a device or a data set."""

    def answer(self, call: Call) -> Reply:
        """Carry a request out; a refusal is a reply too."""


Answer = msgspec.Struct | bytes | None
"""What an operation returns: JSON, a JPEG, or nothing."""


def answer_with(operations: Mapping[str, Callable[[Call], Answer]], call: Call) -> Reply:
    """Answer a call by one of several operations; a refusal says why."""
    try:
        operation = operations.get(call.what)
        if operation is None:
            raise PageError(f"there is no {call.what} here", status=404)
        answer = operation(call)
    except PageError as error:
        return refusal(error.status, str(error))
    if answer is None:
        return Reply(status=204)
    if isinstance(answer, bytes):
        return Reply(kind=JPEG, body=answer)
    return Reply(body=msgspec.json.encode(answer))


def refusal(status: int, why: str) -> Reply:
    """Return a reply that says why something is not done."""
    return Reply(status=status, body=msgspec.json.encode(Refusal(why)))


def read_body(call: Call, of: type[Body]) -> Body:
    """Return the body of a call.

    Raises:
        PageError: It is not what it must be.
    """
    try:
        return msgspec.json.decode(call.body, type=of)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PageError(f"the body must be JSON: {error}", status=422) from error


def read_query(call: Call, of: type[Body]) -> Body:
    """Return the further words of a call's address.

    Raises:
        PageError: They are not what they must be.
    """
    words = dict(call.query)
    if len(words) < len(call.query):
        twice = next(word for word in words if [w for w, _ in call.query].count(word) > 1)
        raise PageError(
            f"the address: {printable(twice)[:_MOST_SAID]} stands there twice", status=422
        )
    try:
        return msgspec.convert(words, of, strict=False)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        said = printable(str(error))[:_MOST_SAID]  # a word that is not known stands in it
        raise PageError(f"the address: {said}", status=422) from error
