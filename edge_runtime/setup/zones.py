"""The zones of a camera, proposed and then adjusted by numbers."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import get_args

import msgspec

from edge_runtime.setup.draft import DraftZone, free_name
from edge_runtime.setup.talk import Talk
from transom.config import RESERVED_ZONES, Name
from transom.geometry import Zone
from transom.messages import DeviceClass

DEVICE_CLASSES: tuple[DeviceClass, ...] = get_args(DeviceClass)

HELP = """\
  Enter                             take them as they are
  add NAME [CLASS] NUMBERS          one more, like: add back_door 0.31 0.12 0.58 0.97
  move N NUMBERS                    zone N elsewhere
  name N NAME                       call zone N so
  class N CLASS                     door, window, garage_door or opening
  drop N                            not this one
  again                             another picture, and proposals anew
NUMBERS are left, top, right, bottom as parts of the picture, 0 to 1, as its rulers show them, or
the four corners x1 y1 … x4 y4, clockwise from the top left."""


def read_zone(words: Sequence[str]) -> Zone:
    """Return the zone that numbers describe: left, top, right, bottom, or four corners.

    Raises:
        ValueError: They describe none.
    """
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        numbers = []
    if len(numbers) == 4:
        return Zone.rectangle(*numbers)
    if len(numbers) != 8:
        raise ValueError(
            "a zone must be left top right bottom, or four corners x1 y1 … x4 y4, each 0 to 1, got "
            f"{' '.join(words)!r}"
        )
    return Zone.from_text(" ".join(words))


def read_name(text: str) -> str:
    """Return a zone's name.

    Raises:
        ValueError: It cannot be one.
    """
    try:
        name = msgspec.convert(text, Name)
    except msgspec.ValidationError:
        name = ""
    if not name or name in RESERVED_ZONES:
        raise ValueError(f"a name must be of a-z, 0-9 and _ and no topic's own, got {text!r}")
    return name


def read_option(text: str) -> tuple[str | None, DraftZone]:
    """Return the camera, if one is named, and the zone of `[CAMERA/]NAME[:CLASS]=NUMBERS`.

    Raises:
        ValueError: It is none.

    Examples:
        >>> camera, zone = read_option("hall/front_door=0.3,0.1,0.6,0.95")
        >>> camera, zone.name, zone.device_class, zone.zone.to_text()[:13]
        ('hall', 'front_door', 'door', '0.3000 0.1000')
    """
    head, _, numbers = text.partition("=")
    camera, slash, name = head.rpartition("/")
    name, _, kind = name.partition(":")
    zone = read_zone(numbers.replace(",", " ").split())
    return (camera if slash else None), DraftZone(read_name(name), _class(kind or None, name), zone)


def as_option(camera: str, zone: DraftZone) -> str:
    """Return what `read_option` reads back."""
    numbers = ",".join(f"{value:.4f}" for point in zone.zone.points for value in point)
    return f"{camera}/{zone.name}:{zone.device_class}={numbers}"


def shown(zones: Sequence[DraftZone]) -> list[str]:
    """Return a line for each zone, with its number."""
    return [_line(number, zone) for number, zone in enumerate(zones, 1)]


def adjust(
    talk: Talk,
    zones: Sequence[DraftZone],
    taken: set[str],
    draw: Callable[[Sequence[DraftZone]], None],
) -> list[DraftZone] | None:
    """Let a person change zones until they are taken; None = look again.

    Args:
        talk: Asks.
        zones: As they are proposed.
        taken: Names of the zones of other cameras.
        draw: Draws them anew, after each change.
    """
    now = list(zones)
    talk.say(HELP)
    while True:
        said = talk.line("zones: Enter, add, move, name, class, drop, again or ?")
        if said == "again":
            return None
        if said == "?":
            talk.say(HELP)
            continue
        if not said and now:
            return now
        try:
            now = change(now, said.split(), taken)
        except ValueError as error:
            talk.say(f"  {error}")
            continue
        draw(now)
        talk.say("\n".join(shown(now)))


def change(zones: list[DraftZone], words: list[str], taken: set[str]) -> list[DraftZone]:
    """Return the zones after one change.

    Raises:
        ValueError: It is none, or cannot be done.
    """
    match words:
        case []:
            raise ValueError("there is no zone yet; add one, or look again")
        case ["add", name, *rest]:
            kind = rest.pop(0) if rest and rest[0] in DEVICE_CLASSES else None
            zone = DraftZone(read_name(name), _class(kind, name), read_zone(rest))
            return [*zones, _unique(zone, zones, taken)]
        case ["move", number, *rest]:
            return _put(
                zones, number, lambda zone: replace(zone, zone=read_zone(rest), sureness=None)
            )
        case ["name", number, name]:
            others = [zone for zone in zones if zone is not zones[_index(zones, number)]]
            new = read_name(name)
            return _put(zones, number, lambda z: _unique(replace(z, name=new), others, taken))
        case ["class", number, kind]:
            wanted = _class(kind, "")
            return _put(zones, number, lambda zone: replace(zone, device_class=wanted))
        case ["drop", number]:
            index = _index(zones, number)
            return zones[:index] + zones[index + 1 :]
        case _:
            raise ValueError(f"{words[0]!r} is not understood; ? shows what is")


def named_apart(zones: Sequence[DraftZone], taken: set[str]) -> list[DraftZone]:
    """Return zones with names that are no other's."""
    names, found = set(taken), []
    for zone in zones:
        found.append(replace(zone, name=free_name(zone.name, names)))
        names.add(found[-1].name)
    return found


def _put(
    zones: list[DraftZone], number: str, into: Callable[[DraftZone], DraftZone]
) -> list[DraftZone]:
    index = _index(zones, number)
    return [*zones[:index], into(zones[index]), *zones[index + 1 :]]


def _index(zones: list[DraftZone], number: str) -> int:
    if not number.isdecimal() or not 1 <= int(number) <= len(zones):
        raise ValueError(f"zones are numbered 1 to {len(zones)}, got {number!r}")
    return int(number) - 1


def _unique(zone: DraftZone, others: Sequence[DraftZone], taken: set[str]) -> DraftZone:
    if zone.name in taken or any(other.name == zone.name for other in others):
        raise ValueError(f"{zone.name} is the name of another zone; a name is unique on the device")
    return zone


def _class(text: str | None, name: str) -> DeviceClass:
    if text is None:
        return next((kind for kind in reversed(DEVICE_CLASSES) if kind in name), "door")
    for kind in DEVICE_CLASSES:
        if kind == text:
            return kind
    raise ValueError(f"a class must be one of {', '.join(DEVICE_CLASSES)}, got {text!r}")


def _line(number: int, zone: DraftZone) -> str:
    sure = "" if zone.sureness is None else f"{zone.sureness:4.0%} sure"
    points = zone.zone.points
    left, top = min(p[0] for p in points), min(p[1] for p in points)
    right, bottom = max(p[0] for p in points), max(p[1] for p in points)
    where = f"{left:.3f} {top:.3f} {right:.3f} {bottom:.3f}"
    return f"  {number}  {zone.name:16} {zone.device_class:12} {where}  {sure}".rstrip()
