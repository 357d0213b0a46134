import json

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve
from torchmetrics.functional.classification import binary_auroc

from train.corpus import load_corpus
from train.evaluate import evaluate
from train.evaluate_commands import evaluate_command
from train.told_apart import ANSWERED, separation, tell_apart
from transom.dataset import Row, write_dataset
from transom.prediction import energy
from transom.tasks import Task, TaskSet


def scores(seed: int, n: int, m: int, levels: int, shift: float = 0.5):
    """Scores of known and other pictures, with ties, and a group for each."""
    generator = np.random.default_rng(seed)
    known = np.round(generator.normal(0, 1, n) * levels) / levels
    others = np.round(generator.normal(shift, 1, m) * levels) / levels
    return known, others, np.arange(n), np.arange(m)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 40), st.integers(1, 40), st.integers(1, 20))
def test_the_area_is_that_of_scikit_learn_and_torchmetrics(seed, n, m, levels) -> None:
    known, others, *groups = scores(seed, n, m, levels)
    found = separation(known, others, *groups)
    truth, values = np.repeat([0, 1], [n, m]), np.concatenate([known, others])
    assert found.auroc == pytest.approx(roc_auc_score(truth, values))
    # torchmetrics takes what is outside 0 to 1 for logits, and rounds their sigmoid.
    inside = (np.unique(values, return_inverse=True)[1] + 1) / (len(values) + 2)
    theirs = binary_auroc(torch.from_numpy(inside), torch.from_numpy(truth))
    assert found.auroc == pytest.approx(float(theirs), abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 60), st.integers(1, 40))
def test_what_passes_is_a_point_of_scikit_learns_curve(seed, n, m) -> None:
    known, others, *groups = scores(seed, n, m, 100)
    found = separation(known, others, *groups)
    # Known pictures are the positives that must pass; the lower the score, the sooner they do.
    false, true, _ = roc_curve(
        np.repeat([1, 0], [n, m]), -np.concatenate([known, others]), drop_intermediate=False
    )
    assert found.missed == pytest.approx(false[true >= ANSWERED - 1e-12][0])


def test_intervals_draw_groups_of_both_sorts() -> None:
    generator = np.random.default_rng(0)
    known = np.repeat(generator.normal(0, 1, 20), 30)
    others = np.repeat(generator.normal(0.8, 1, 15), 40)
    by_group = separation(known, others, np.repeat(np.arange(20), 30), np.repeat(np.arange(15), 40))
    by_row = separation(known, others, np.arange(600), np.arange(600))
    low, high = by_group.interval
    assert low < by_group.auroc < high
    assert high - low > 3 * (by_row.interval[1] - by_row.interval[0])
    one = separation(known, others, np.zeros(600, np.int64), np.arange(600))
    assert one.interval is None


@pytest.fixture
def corpora(make_dataset):
    doors = make_dataset(groups=8)
    other = doors.parent / "noise"
    (other / "images").mkdir(parents=True)
    generator = np.random.default_rng(1)
    rows = []
    for number in range(12):
        picture = generator.integers(0, 60 if number % 2 else 255, (40, 40, 3), np.uint8)
        cv2.imwrite(str(other / f"images/{number}.png"), picture)
        rows.append(Row(image=f"images/{number}.png", labels={"what": "ab"[number % 2]}))
    write_dataset(other, name="noise", tasks=TaskSet([Task(name="what", classes=("a", "b"))]),
                  rows=rows)  # fmt: skip
    return doors, other


def test_every_task_that_is_judged_is_compared_by_each_score(corpora, gap_predictor) -> None:
    doors, noise = (load_corpus([folder], size=32, margin=0.0) for folder in corpora)
    judged, others = evaluate(gap_predictor, doors), evaluate(gap_predictor, noise)
    found = tell_apart(judged, others)
    assert set(found) == {"state", "kind"}
    assert set(found["state"].scores) == {"max_probability", "energy"}
    state = found["state"]
    assert (state.known, state.n) == (16, 12)
    logits = [gap_predictor(corpus.crops).logits["state"] for corpus in (doors, noise)]
    truth = np.repeat([0, 1], [16, 12])
    expected = roc_auc_score(truth, np.concatenate([energy(values) for values in logits]))
    assert state.scores["energy"].auroc == pytest.approx(expected)
    assert state.answered == (others.tasks["state"].prediction.classes >= 0).mean()
    assert found["kind"].scores["energy"].auroc == 0.5  # it says the same of everything


def test_a_network_with_a_distance_is_judged_by_it_too(corpora, gap_predictor) -> None:
    doors, noise = (load_corpus([folder], size=32, margin=0.0) for folder in corpora)

    class Measuring(type(gap_predictor)):
        def __call__(self, crops):
            said = super().__call__(crops)
            return said._replace(distance=crops.mean((1, 2, 3)).astype(np.float32))

    predictor = Measuring()
    found = tell_apart(evaluate(predictor, doors), evaluate(predictor, noise))["state"]
    means = [corpus.crops.mean((1, 2, 3)) for corpus in (doors, noise)]
    expected = roc_auc_score(np.repeat([0, 1], [16, 12]), np.concatenate(means))
    assert found.scores["distance"].auroc == pytest.approx(expected)


def test_the_command_tells_all_of_it(corpora, tmp_path) -> None:
    doors, noise = corpora
    page = tmp_path / "page.html"
    arguments = ["starter", str(doors), "--unlike", str(noise), "--unlike", f"{noise}:what=a"]
    result = CliRunner().invoke(evaluate_command, [*arguments, "--json", "--report", str(page)])
    assert result.exit_code == 0, result.output
    unlike = json.loads(result.stdout)["unlike"]
    assert [unlike[name]["state"]["n"] for name in (str(noise), f"{noise}:what=a")] == [12, 6]
    assert {"max_probability", "energy"} <= set(unlike[str(noise)]["kind"]["scores"])
    assert "What it says of anything else" in page.read_text()
    text = CliRunner().invoke(evaluate_command, arguments).stdout
    assert "answered all the same" in text
    assert "AUROC by energy" in text


def test_a_judged_data_set_gives_its_other_pictures_of_the_same_split(make_dataset) -> None:
    folder = make_dataset(splits=("train", "val"))
    arguments = ["starter", str(folder), "--split", "val", "--json", "--unlike"]
    result = CliRunner().invoke(evaluate_command, [*arguments, f"{folder}:state=open"])
    assert json.loads(result.stdout)["unlike"][f"{folder}:state=open"]["kind"]["n"] == 4


def test_a_class_that_no_row_has_is_named(corpora) -> None:
    doors, noise = corpora
    result = CliRunner().invoke(
        evaluate_command, ["starter", str(doors), "--unlike", f"{noise}:what=c"]
    )
    assert result.exit_code == 1
    assert "no row is labelled what = c; there are what: a, b" in str(result.exception)
