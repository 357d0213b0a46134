"""What the page is told of pictures and labels; the same for a device and a data set."""

from collections.abc import Mapping, Sequence

from edge_runtime.web.answers import Change, ClusterShown, Lesson, Opinion, SampleShown
from edge_runtime.web.asked import SamplesQuery
from edge_runtime.web.clusters import Cluster, Floats, Item

MOST_CLUSTERS = 200
"""Clusters in one answer; those that are left are worth less."""


def opinion(item: Item, probabilities: Floats) -> Opinion:
    """Return the likeliest class of (C,) probabilities."""
    top = int(probabilities.argmax())
    return Opinion(item.classes[top], round(min(float(probabilities[top]), 1.0), 4))


def describe_item(item: Item) -> SampleShown:
    """Return what the page shows of a picture."""
    now = opinion(item, item.judged)
    return SampleShown(
        id=item.id,
        place=item.place,
        says=now.says,
        confidence=now.confidence,
        bundle=opinion(item, item.said),
        label=item.label,
        labelled_by=item.labelled_by,
        why=item.why,
        taken_at=item.taken_at,
        copies=item.copies,
    )


def describe_cluster(cluster: Cluster) -> ClusterShown:
    """Return what the page shows of a cluster."""
    first = cluster.items[0]
    return ClusterShown(
        id=first.id,
        place=first.place,
        classes=first.classes,
        says=opinion(first, first.judged).says,
        label=first.label,
        copies=sum(item.copies for item in cluster.items),
        worth=round(cluster.worth, 4),
        samples=[describe_item(item) for item in cluster.items],
    )


def describe_clusters(
    found: Sequence[Cluster], query: SamplesQuery
) -> tuple[int, list[ClusterShown]]:
    """Return how many clusters there are of the kind that somebody asks for, and the first."""
    wanted = {"yes": True, "no": False}.get(query.labelled)
    those = [
        cluster
        for cluster in found
        if wanted is None or (cluster.items[0].label is not None) is wanted
    ]
    return len(those), [describe_cluster(cluster) for cluster in those[:MOST_CLUSTERS]]


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
