"""What may be asked of the page, and what is answered: every operation of its API.

Nothing here needs what answers are made from, so that the process that speaks HTTP can read it.
"""

import msgspec

from edge_runtime.web.answers import History, Labelled, Samples, Saved, SessionShown, Status
from edge_runtime.web.asked import CorrectBody, IdsBody, LabelBody, SamplesQuery, ZonesBody

REFUSALS = {
    401: "The token is missing, or it is another.",
    403: "Another page asks, or a browser without `X-CSRF-Token`.",
    404: "There is no such camera, zone or picture, or a data set cannot do this.",
    409: "It cannot be done as things are: no pictures are kept, or a file is in the way.",
    413: "The body is too large.",
    415: "The body is not said to be `application/json`.",
    421: "The page is asked for by a name that is not its own.",
    422: "What was sent is not what it must be.",
    503: "The daemon is starting or stopping, or has nothing yet.",
}
"""What a status means with which something is refused."""


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """Something that may be asked.

    Attributes:
        name: By which a desk knows it.
        method: As HTTP has it.
        path: At most one word in braces: what it is about.
        does: What it does, for who asks.
        body: What is sent along; None = nothing.
        query: What the address may say further; None = nothing.
        answer: What comes back: JSON, a JPEG (bytes), or nothing, with 204.
        refusals: Statuses beside those that every operation may have.
    """

    name: str
    method: str
    path: str
    does: str
    body: type | None = None
    query: type[msgspec.Struct] | None = None
    answer: type | None = None
    refusals: tuple[int, ...] = ()


OPERATIONS = (
    Operation(
        name="status",
        method="GET",
        path="/api/status",
        does="What there is: of a device its cameras and zones.",
        answer=Status,
    ),
    Operation(
        name="picture",
        method="GET",
        path="/api/cameras/{camera}/picture",
        does="The newest frame, at most 1280 pixels long; 503 before the first.",
        answer=bytes,
        refusals=(404,),
    ),
    Operation(
        name="zones",
        method="PUT",
        path="/api/cameras/{camera}/zones",
        does="Write all zones of a camera into the configuration file, and nothing else in it; the "
        "daemon begins anew with them. Where it may not write that file, the answer has the lines "
        "to put there. What `transom check` would refuse is refused, 422.",
        body=ZonesBody,
        answer=Saved,
        refusals=(404, 409, 422),
    ),
    Operation(
        name="history",
        method="GET",
        path="/api/zones/{zone}/history",
        does="The last hour and the last day of a zone.",
        answer=History,
        refusals=(404,),
    ),
    Operation(
        name="correct",
        method="POST",
        path="/api/zones/{zone}/correct",
        does="Say what is true of a zone now, as by MQTT.",
        body=CorrectBody,
        refusals=(404, 409, 422),
    ),
    Operation(
        name="samples",
        method="GET",
        path="/api/samples",
        does="Pictures that may be labelled, those that are alike together.",
        query=SamplesQuery,
        answer=Samples,
        refusals=(409, 422),
    ),
    Operation(
        name="sample",
        method="GET",
        path="/api/samples/{id}/picture",
        does="One of those pictures.",
        answer=bytes,
        refusals=(404, 409, 422),
    ),
    Operation(
        name="label",
        method="POST",
        path="/api/labels",
        does="Label pictures. One label that a picture cannot have refuses all, 422.",
        body=LabelBody,
        answer=Labelled,
        refusals=(409, 422),
    ),
    Operation(
        name="forget",
        method="POST",
        path="/api/forget",
        does="Delete pictures of a device.",
        body=IdsBody,
        refusals=(404, 409, 422),
    ),
)
"""What a desk answers; a data set's answers `status`, `samples`, `sample` and `label`."""

OWN_OPERATIONS = (
    Operation(
        name="sign-in",
        method="POST",
        path="/api/session",
        does="Trade the token for the cookie of a browser; needs neither.",
        body=str,
    ),
    Operation(
        name="session",
        method="GET",
        path="/api/session",
        does="What a browser that has signed in needs.",
        answer=SessionShown,
    ),
    Operation(
        name="sign-out",
        method="DELETE",
        path="/api/session",
        does="Take the cookie back.",
    ),
    Operation(
        name="openapi",
        method="GET",
        path="/api/openapi.json",
        does="This description of the API.",
        answer=dict,
    ),
)
"""What the application answers by itself, whether or not there is somebody at the desk."""
