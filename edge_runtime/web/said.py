"""What the page is told of pictures and labels, as JSON; the same for a device and a data set."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from edge_runtime.web.clusters import Cluster, Floats, Item

MOST_LABELS = 5000
MOST_CLUSTERS = 200
"""Clusters in one answer; those that are left are worth less."""

Id = Annotated[str, Meta(max_length=64)]
Label = Annotated[str, Meta(min_length=1, max_length=200)]


class LabelBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Labels of pictures, by id; null takes one back.

    Attributes:
        labels: By picture.
        task: Whose classes they are; empty = the picture's own task.
    """

    labels: Annotated[dict[Id, Label | None], Meta(min_length=1, max_length=MOST_LABELS)]
    task: str = ""


class IdsBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Pictures by id."""

    ids: Annotated[list[Id], Meta(min_length=1, max_length=MOST_LABELS)]


class Opinion(msgspec.Struct, frozen=True):
    """A class and how probable it is."""

    says: str
    confidence: float


class Change(msgspec.Struct, frozen=True):
    """What a label changed in the answer to one picture."""

    id: str
    before: Opinion
    after: Opinion


class Lesson(msgspec.Struct, frozen=True, kw_only=True):
    """What labels of one place have taught, and what that changed.

    Attributes:
        place: The zone or group.
        task: Whose classes.
        examples: Pictures that are learnt from, by label.
        is_used: Whether the place is judged by what was learnt.
        reason: Why not: `few`, `examples` or `guard`.
        judged: Pictures of the place that are answered with it.
        changes: Those whose class is another than before.
        agree_before: Of those with a label: how many the answers agreed with before.
        agree_after: The same now.
        labelled: How many have a label.
    """

    place: str
    task: str
    examples: Mapping[str, int]
    is_used: bool
    reason: str | None
    judged: int
    changes: list[Change]
    labelled: int
    agree_before: int
    agree_after: int


class Labelled(msgspec.Struct, frozen=True, kw_only=True):
    """What became of labels.

    Attributes:
        before: The labels that they took the place of: send them back to undo.
        missing: Pictures that are no longer there.
        lessons: What the labels taught.
    """

    before: Mapping[str, str | None]
    missing: list[str]
    lessons: list[Lesson]


def opinion(item: Item, probabilities: Floats) -> Opinion:
    """Return the likeliest class of (C,) probabilities."""
    top = int(probabilities.argmax())
    return Opinion(item.classes[top], round(min(float(probabilities[top]), 1.0), 4))


def describe_item(item: Item) -> dict[str, object]:
    """Return what the page shows of a picture."""
    now, alone = opinion(item, item.judged), opinion(item, item.said)
    return {
        "id": item.id,
        "place": item.place,
        "says": now.says,
        "confidence": now.confidence,
        "bundle": {"says": alone.says, "confidence": alone.confidence},
        "label": item.label,
        "labelled_by": item.labelled_by,
        "why": item.why,
        "taken_at": item.taken_at,
        "copies": item.copies,
    }


def describe_cluster(cluster: Cluster) -> dict[str, object]:
    """Return what the page shows of a cluster."""
    first = cluster.items[0]
    return {
        "id": first.id,
        "place": first.place,
        "classes": first.classes,
        "says": opinion(first, first.judged).says,
        "label": first.label,
        "copies": sum(item.copies for item in cluster.items),
        "worth": round(cluster.worth, 4),
        "samples": [describe_item(item) for item in cluster.items],
    }


def describe_clusters(found: Sequence[Cluster], query: Mapping[str, str]) -> dict[str, object]:
    """Return the clusters that somebody asks for, and how many there are of that kind.

    Args:
        found: All of them.
        query: Of the call; `labelled` = `yes` or `no`, else both.
    """
    wanted = {"yes": True, "no": False}.get(query.get("labelled", ""))
    those = [
        cluster
        for cluster in found
        if wanted is None or (cluster.items[0].label is not None) is wanted
    ]
    return {
        "total": len(those),
        "clusters": [describe_cluster(cluster) for cluster in those[:MOST_CLUSTERS]],
    }


def lesson_of(
    place: str,
    task: str,
    before: Sequence[Item],
    after: Sequence[Item],
    examples: Mapping[str, int],
    reason: str | None,
) -> Lesson:
    """Return what was taught and what that changed.

    Args:
        place: The zone or group.
        task: Whose classes.
        before: Its pictures as they were answered before.
        after: The same pictures as they are answered and labelled now.
        examples: Pictures that are learnt from, by label.
        reason: Why that is not used; None where it is.
    """
    changes = [
        Change(now.id, opinion(then, then.judged), opinion(now, now.judged))
        for then, now in zip(before, after, strict=True)
        if then.top != now.top
    ]
    labelled = [(then, now) for then, now in zip(before, after, strict=True) if now.label]
    return Lesson(
        place=place,
        task=task,
        examples=examples,
        is_used=reason is None,
        reason=reason,
        judged=len(after),
        changes=changes,
        labelled=len(labelled),
        agree_before=sum(_agrees(then, now.label) for then, now in labelled),
        agree_after=sum(_agrees(now, now.label) for _, now in labelled),
    )


def _agrees(item: Item, label: str | None) -> bool:
    return item.classes[item.top] in (label or "").split("|")
