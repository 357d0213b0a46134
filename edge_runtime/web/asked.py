"""What may be asked of the page, as types; the process that speaks HTTP reads them too."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from transom.messages import DeviceClass

MOST_LABELS = 5000

Id = Annotated[str, Meta(max_length=64)]
Label = Annotated[str, Meta(min_length=1, max_length=200)]
Corner = tuple[float, float]


class DrawnZone(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A zone as somebody drew it.

    Attributes:
        name: Of a zone that there is, or of a new one.
        polygon: Four corners (x, y) in fractions of the picture, clockwise from the top left.
        device_class: Of a new one; null = leave what there is.
    """

    name: str
    polygon: tuple[Corner, Corner, Corner, Corner]
    device_class: DeviceClass | None = None


class ZonesBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All zones of a camera.

    Attributes:
        zones: As they are drawn; what is not named is taken out.
    """

    zones: Annotated[list[DrawnZone], Meta(min_length=1, max_length=64)]


class CorrectBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is true now.

    Attributes:
        is_: A class of the zone, or `forget-last`, or `forget-all`.
    """

    is_: str = msgspec.field(name="class")


class LabelBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Labels of pictures.

    Attributes:
        labels: By the picture's id; null takes one back.
        task: Whose classes they are; empty = the picture's own task.
    """

    labels: Annotated[dict[Id, Label | None], Meta(min_length=1, max_length=MOST_LABELS)]
    task: str = ""


class IdsBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Pictures.

    Attributes:
        ids: Their ids.
    """

    ids: Annotated[list[Id], Meta(min_length=1, max_length=MOST_LABELS)]


class SamplesQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which pictures are wanted.

    Attributes:
        place: Only those of this zone or group; empty = all.
        labelled: Only those without (`no`) or with (`yes`) a label; empty = both.
        task: Of a data set: whose labels; empty = `state`, or the first.
    """

    place: str = ""
    labelled: Literal["", "no", "yes"] = ""
    task: str = ""
