import csv
import json

import numpy as np
import pytest
from click.testing import CliRunner

from train.corpus import Corpus
from train.evaluate import Evaluation, judge
from train.evaluate_commands import evaluate_command
from train.predictor import Said
from train.shots import few_shots, shot_lines
from transom.dataset import Row
from transom.guard import Guard
from transom.manifest import InputSpec, TaskSpec
from transom.tasks import Task, TaskSet

CLASSES = ("closed", "ajar", "open")
D = 16


class ThreeStates:
    """A network that is not run: what it says is drawn below."""

    name, precision = "three", "float32"
    specs = (TaskSpec(name="state", classes=CLASSES, thresholds=(0.0,) * 3),)
    tasks = TaskSet(spec.as_task() for spec in specs)
    input = InputSpec(size=16)

    def __call__(self, crops):
        raise AssertionError


def cameras(groups: int, a_class: int, *, noise: float = 0.7, classes: int = 3) -> Evaluation:
    """Cameras each of which has a look of its own, and a network that calls everything closed."""
    random = np.random.default_rng(0)
    labels = np.tile(np.repeat(np.arange(classes), a_class), groups)
    camera = np.repeat(np.arange(groups), classes * a_class)
    embedding = random.normal(0, noise, (len(labels), D)) + random.normal(0, 1, (groups, D))[camera]
    embedding[np.arange(len(labels)), labels] += 2.0
    logits = np.tile(np.float32([2.0, 0.0, 0.0]), (len(labels), 1))
    tasks = TaskSet([Task(name="state", classes=CLASSES)])
    corpus = Corpus(
        tasks=tasks,
        crops=np.zeros((len(labels), 16, 16, 3), np.uint8),
        targets=labels[:, None].astype(np.int64),
        groups=tuple(f"drawn/{number}" for number in camera),
        splits=np.array(["val"] * len(labels)),
        rows=tuple(
            Row(image=f"{i}.png", labels={"state": CLASSES[k]}) for i, k in enumerate(labels)
        ),
        origins=("drawn",) * len(labels),
        digest="0" * 64,
    )
    return judge(ThreeStates(), Said({"state": logits}, embedding.astype(np.float32)), corpus)


def curve(evaluation: Evaluation, *counts: int, guard: Guard | None = None):
    return few_shots(evaluation, guard, counts, draws=4)["state"]


def test_the_network_alone_is_what_it_is_and_examples_help() -> None:
    rows = curve(cameras(3, 20), 1, 2, 5)
    assert [row.shots for row in rows] == [1, 2, 5, None]
    assert all(row.alone.value == pytest.approx(1 / 3) for row in rows)
    heads = [row.head.value for row in rows]
    assert heads == sorted(heads)
    assert heads[0] > 0.6
    assert heads[-1] > 0.85
    for row in rows:
        assert row.gain.value == pytest.approx(row.head.value - row.alone.value)
        assert row.refused == 0.0


def test_what_is_learnt_from_is_not_judged() -> None:
    for row, taught in zip(curve(cameras(4, 10), 1, 5), (1, 5, 8), strict=True):
        assert row.groups == 4
        assert row.judged == 4 * 3 * (10 - taught)


def test_labels_that_mean_nothing_cannot_be_learnt() -> None:
    evaluation = cameras(5, 12)
    random = np.random.default_rng(1)
    evaluation.embedding[:] = random.normal(0, 1, evaluation.embedding.shape)
    for row in curve(evaluation, 1, 5):
        assert 0.2 < row.head.value < 0.5
        assert 0.2 < row.probe.value < 0.5


def test_only_groups_with_pictures_to_spare_count() -> None:
    assert [row.shots for row in curve(cameras(3, 4), 3, 4)] == [3]
    assert curve(cameras(3, 9, classes=1), 1) == []
    text = "\n".join(shot_lines({"state": curve(cameras(3, 9, classes=1), 1)}))
    assert "no group has two pictures each of two classes" in text


def test_intervals_are_over_cameras() -> None:
    (row, _) = curve(cameras(4, 10), 1)
    low, high = row.head.interval
    assert low < row.head.value < high
    assert curve(cameras(1, 10), 1)[0].head.interval is None


def test_the_same_draws_every_time() -> None:
    assert curve(cameras(3, 8), 2) == curve(cameras(3, 8), 2)


def test_a_head_that_would_lose_the_guard_is_counted_and_not_used() -> None:
    evaluation = cameras(1, 10)
    # The camera's own pictures as the guard, all but undecided, and called closed.
    guard = Guard(
        evaluation.embedding.copy(),
        {"state": np.tile(np.float32([2.0, 1.9999, 1.9999]), (30, 1))},
        {"state": np.zeros(30, np.int64)},
    )
    row = curve(evaluation, 2, guard=guard)[0]
    assert row.refused == 1.0
    assert row.head == row.alone
    assert row.probe.value > 0.6


def test_the_command_shows_the_curve_and_prints_it(make_dataset) -> None:
    folder = make_dataset(groups=4)
    table = list(csv.DictReader((folder / "labels.csv").read_text().splitlines()))
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, table[0].keys())
        writer.writeheader()
        writer.writerows(row | {"group": "one"} for row in table)
    arguments = ["starter", str(folder), "--shots", "2,1"]
    found = CliRunner().invoke(evaluate_command, [*arguments, "--json"])
    assert found.exit_code == 0, found.output
    rows = json.loads(found.stdout)["shots"]["state"]
    assert [row["shots"] for row in rows] == [1, 2]
    assert {"alone", "head", "probe", "gain", "refused", "groups", "judged"} <= set(rows[0])
    assert rows[0]["groups"] == 1
    shown = CliRunner().invoke(evaluate_command, arguments).stdout
    assert "state, learnt from examples of a group, judged on the rest of it" in shown


@pytest.mark.parametrize("counts", ["0", "one", "1,,2", "-1", "1.5"])
def test_numbers_of_examples_must_be_numbers(make_dataset, counts: str) -> None:
    arguments = ["starter", str(make_dataset(groups=2)), "--shots", counts]
    found = CliRunner().invoke(evaluate_command, arguments)
    assert found.exit_code == 2
    assert "must be numbers from 1 up" in found.output
