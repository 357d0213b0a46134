"""A run beside the bundle that is out there, zone by zone, with days drawn as wholes."""

import json
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from train.against import Against, find_serving, put_beside
from train.commands import train_command
from train.corpus import MISSING, Corpus
from train.evaluate import Evaluation, judge
from train.predictor import Said
from transom.bundle import read_bundle
from transom.dataset import Row, read_dataset, write_dataset
from transom.errors import DatasetError
from transom.manifest import TaskSpec
from transom.starter import bundle_path
from transom.tasks import Task, TaskSet

CLASSES = ("closed", "open")
SPEC = TaskSpec(name="state", classes=CLASSES, thresholds=(0.5, 0.5))


@dataclass(frozen=True)
class Fixed:
    """What `judge` asks of a network."""

    specs: tuple[TaskSpec, ...]
    name: str = "fixed"
    precision: str = "float32"


def pulled(days: int = 8, per_day: int = 10, zones: tuple[str, ...] = ("door", "gate")) -> Corpus:
    """Labelled pictures of one device, every class in turn."""
    rows = [
        Row(
            image=f"{zone}{day}-{number}.jpg",
            group=f"pi/hall/{zone}/{day}",
            labels={"state": CLASSES[number % 2]},
            extra={"device": "pi", "camera": "hall", "zone_name": zone,
                   "taken_at": f"2026-11-{day + 1:02}T00:00:00.000Z"},
            line=2 + number + 100 * day + 10000 * place,
        )
        for place, zone in enumerate(zones)
        for day in range(days)
        for number in range(per_day)
    ]  # fmt: skip
    n = len(rows)
    return Corpus(
        tasks=TaskSet([Task(name="state", classes=CLASSES)]),
        crops=np.zeros((n, 2, 2, 3), np.uint8),
        targets=np.array([[CLASSES.index(row.labels["state"])] for row in rows], np.int64),
        groups=tuple(row.group for row in rows),
        splits=np.array(["val"] * n),
        rows=tuple(rows),
        origins=("home",) * n,
        digest="0" * 64,
    )


def wrong_on(corpus: Corpus, *places: int, spec: TaskSpec = SPEC) -> Evaluation:
    """A network that is right but for some rows."""
    truth = np.array([spec.classes.index(row.labels["state"]) for row in corpus.rows])
    said = truth.copy()
    said[list(places)] = 1 - said[list(places)]
    logits = 10.0 * np.eye(2, dtype=np.float32)[said]
    answers = Said({"state": logits}, np.zeros((len(corpus), 4), np.float32), None)
    return judge(Fixed((spec,)), answers, corpus)  # type: ignore[arg-type]


def beside(corpus: Corpus, old: Evaluation, new: Evaluation) -> Against:
    (found,) = put_beside("home.bundle", old, new, corpus)
    return found


def test_a_better_network_is_to_be_deployed_and_each_zone_says_by_how_much() -> None:
    corpus = pulled()
    found = beside(corpus, wrong_on(corpus, *range(0, 80, 5)), wrong_on(corpus))
    assert found.verdict.startswith("Deploy it: it is better")
    assert found.whole.interval is not None
    assert found.whole.interval[0] > 0.0
    parts = {zone.name: (zone.n, zone.days, zone.old, zone.new) for zone in found.zones}
    assert parts == {"pi/hall/door": (80, 8, 0.8, 1.0), "pi/hall/gate": (80, 8, 1.0, 1.0)}
    assert found.as_lines()[0].startswith("beside home.bundle, state: Deploy it")


def test_a_zone_that_becomes_worse_is_named_though_all_together_is_better() -> None:
    corpus = pulled()
    old, new = wrong_on(corpus, *range(0, 80, 2)), wrong_on(corpus, *range(80, 160, 5))
    assert beside(corpus, old, new).verdict.endswith("it is worse at pi/hall/gate.")


def test_pictures_of_a_class_that_the_bundle_does_not_have_are_told_of() -> None:
    corpus = pulled()
    told = replace(corpus, tasks=TaskSet([Task(name="state", classes=("closed", "tilted"))]))
    rows = tuple(
        replace(row, labels={"state": told.tasks["state"].classes[int(target)]})
        for row, target in zip(corpus.rows, corpus.targets[:, 0], strict=True)
    )
    told = replace(told, rows=rows)
    spec = TaskSpec(name="state", classes=("closed", "tilted"), thresholds=(0.5, 0.5))
    answers = Said({"state": np.zeros((160, 2), np.float32)}, np.zeros((160, 4), np.float32), None)
    old = judge(Fixed((SPEC,)), answers, told)  # type: ignore[arg-type]
    found = beside(told, old, wrong_on(told, spec=spec))
    assert found.whole.n == 80
    assert (
        "  state: 80 rows do not count, their class is none of the network's: tilted (80); it has "
        "closed, open"
    ) in found.as_lines()
    assert found.to_json()["left_out"] == found.left_out


def test_a_worse_network_is_not_to_be_deployed() -> None:
    corpus = pulled()
    found = beside(corpus, wrong_on(corpus), wrong_on(corpus, *range(0, 160, 4)))
    assert found.verdict.startswith("Do not deploy it: it is worse")


def test_one_day_proves_nothing_however_many_pictures_it_has() -> None:
    corpus = pulled(days=1, per_day=200, zones=("door",))
    found = beside(corpus, wrong_on(corpus, *range(100)), wrong_on(corpus))
    assert found.verdict.startswith("Cannot tell")
    assert any("1 of at least 3 days; label other days" in wish for wish in found.wishes)


def test_one_day_of_many_zones_proves_no_more() -> None:
    corpus = pulled(days=1, zones=("a", "b", "c", "d"))
    found = beside(corpus, wrong_on(corpus, *range(0, 40, 4)), wrong_on(corpus))
    assert found.verdict.startswith("Cannot tell: the held-out pictures are of 1 days")


def test_a_zone_of_two_days_is_not_called_worse() -> None:
    corpus = pulled(days=6)
    short = np.array([i for i, row in enumerate(corpus.rows) if "gate" not in row.group or
                      row.extra["taken_at"] < "2026-11-03"])  # fmt: skip
    kept = corpus.select(short)
    found = beside(kept, wrong_on(kept, *range(0, 60, 5)), wrong_on(kept, 60, 70))
    assert found.zones[1].days == 2
    assert found.verdict.startswith("Deploy it")


def test_intervals_of_many_zones_are_wider_than_of_one() -> None:
    many = pulled(days=16, zones=tuple("abcdefghij"))
    one = many.select(np.arange(160))
    places = [day * 10 for day in range(0, 16, 3)]
    wide, narrow = (
        next(z for z in beside(c, wrong_on(c), wrong_on(c, *places)).zones if z.name == "pi/hall/a")
        for c in (many, one)
    )
    assert wide.interval is not None
    assert narrow.interval is not None
    assert wide.interval[0] < narrow.interval[0] < narrow.interval[1] < wide.interval[1]


def test_a_difference_on_one_day_of_many_may_be_chance() -> None:
    corpus = pulled(zones=("door",))
    found = beside(corpus, wrong_on(corpus, *range(5)), wrong_on(corpus, *range(10, 14)))
    assert found.verdict.startswith("Not enough")


def test_a_class_that_a_zone_lacks_is_asked_for_first() -> None:
    corpus = pulled(days=4)
    rows = [
        row for row in corpus.rows if "gate" not in row.group or row.labels["state"] == "closed"
    ]
    kept = corpus.select(np.array([corpus.rows.index(row) for row in rows]))
    found = beside(kept, wrong_on(kept), wrong_on(kept))
    assert found.wishes[0] == "pi/hall/gate: 0 pictures are labelled open; label more"


def test_classes_are_compared_by_name() -> None:
    corpus = pulled()
    turned = TaskSpec(name="state", classes=CLASSES[::-1], thresholds=(0.5, 0.5))
    found = beside(corpus, wrong_on(corpus, spec=turned), wrong_on(corpus))
    assert (found.whole.old, found.whole.new) == (1.0, 1.0)
    assert MISSING not in corpus.targets


def test_pictures_that_came_while_the_run_was_trained_change_nothing() -> None:
    corpus = pulled()
    later = corpus.select(np.arange(len(corpus))[:0:-1])
    moved = replace(later, rows=tuple(replace(row, line=row.line + 1) for row in later.rows))
    found = beside(corpus, wrong_on(moved, 0), wrong_on(corpus))
    assert (found.whole.n, found.whole.new) == (159, 1.0)
    assert found.zones[0].old == 1.0 - 1 / 80


def test_finds_what_the_devices_serve_where_it_is_at_hand(tmp_path: Path) -> None:
    def serving(**digests: str) -> list[Path]:
        (tmp_path / "home").mkdir(exist_ok=True)
        told = {device: {"digest": digest} for device, digest in digests.items()}
        (tmp_path / "home" / "serving.json").write_text(json.dumps(told))
        return [tmp_path / "home"]

    starter = read_bundle(bundle_path("starter"), None).digest
    assert find_serving(serving(pi=starter)) == "starter"
    assert find_serving(serving(pi="0" * 64)) is None
    assert find_serving(serving(pi=starter, other="0" * 64)) is None
    (tmp_path / "own.bundle").write_bytes(b"own")
    (tmp_path / "folder.bundle").mkdir()
    assert find_serving(serving(pi=sha256(b"own").hexdigest())) == str(tmp_path / "own.bundle")


def test_what_a_pull_has_written_and_is_damaged_is_named(tmp_path: Path) -> None:
    (tmp_path / "serving.json").write_text('{"pi": {}}')
    with pytest.raises(DatasetError, match=r"serving\.json: .*digest.*; delete it"):
        find_serving([tmp_path])


def test_the_command_compares_with_what_the_devices_serve(make_dataset, tmp_path: Path) -> None:
    folder = make_dataset(groups=10, splits=("train", "train", "train", "val", "val"))
    dataset = read_dataset(folder)
    rows = [
        Row(image=row.image, zone=row.zone, group=row.group, split=row.split, labels=row.labels,
            extra={"device": "pi", "camera": "hall", "zone_name": "door",
                   "taken_at": f"2026-11-{1 + number // 4:02}T00:00:00.000Z"})
        for number, row in enumerate(dataset.rows)
    ]  # fmt: skip
    write_dataset(folder, name=dataset.name, tasks=dataset.tasks, rows=rows)
    digest = read_bundle(bundle_path("starter"), None).digest
    (folder / "serving.json").write_text(json.dumps({"pi": {"digest": digest}}))
    quick = ["--backbone", "tiny", "--size", "16", "--epochs", "1", "--set", "batch=4"]
    arguments = [str(folder), "--out", str(tmp_path / "run"), *quick, "--json"]
    result = CliRunner().invoke(train_command, arguments, catch_exceptions=False)
    told = json.loads(result.stdout)["against"]["state"]
    assert told["bundle"] == "starter"
    assert [zone["name"] for zone in told["zones"]] == ["pi/hall/door"]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Beside the bundle that is out there: state" in page
    assert told["verdict"] in page
