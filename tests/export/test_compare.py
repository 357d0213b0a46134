import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from export.compare import LATENCY, Judgement, judge
from export.compare_commands import PAGE, RECOMMENDED, compare_command
from export.compare_page import write_comparison
from export.verdict import answers, headline
from train.compare import compare, only_task
from train.comparison import Comparison, Row, held_out
from train.corpus import MISSING, Corpus, load_corpus
from train.cost import NetworkCost
from train.noise import Scores, draw_scores
from train.recipe import Recipe, load_recipe
from train.run import WEIGHTS
from train.variants import Variant, plan_variants
from transom.errors import ConfigurationError, DatasetError

SMALL = Recipe(
    backbone="tiny", size=32, margin=0.0, embedding=16, batch=16, epochs=1, learning_rate=3e-3
)


class Trained:
    """A comparison of two weightings, and what it took."""

    def __init__(self, folder: Path, corpus: Corpus, data: Path) -> None:
        self.folder, self.corpus, self.data = folder, corpus, data
        self.lines: list[str] = []
        self.comparison = self.go_on(2)

    def load(self, recipe: Recipe) -> Corpus:
        if recipe.size == SMALL.size:
            return self.corpus
        cache = self.folder.with_name("cache")
        return load_corpus([self.data], size=recipe.size, margin=recipe.margin, cache=cache)

    def go_on(self, seeds: int) -> Comparison:
        self.lines.clear()
        variants = plan_variants(
            SMALL.with_values, {"weighting": ["equal", "uncertainty"]}, budget_tasks=2
        )
        return compare(
            variants,
            self.load,
            self.folder,
            seeds=seeds,
            datasets=[self.data],
            report=self.lines.append,
        )


@pytest.fixture(scope="module")
def trained(corpus: Corpus, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(tmp_path_factory.mktemp("compared"), corpus, pictures)


@pytest.fixture(scope="module")
def judgement(trained: Trained) -> Judgement:
    return judge(trained.comparison, trained.load, trained.folder, seconds=0.5)


def test_every_combination_is_planned_with_one_set_of_single_task_networks() -> None:
    variants = plan_variants(
        SMALL.with_values, {"backbone": ["tiny", "lenet"], "weighting": ["equal", "dwa"]}
    )
    assert [variant.name for variant in variants] == [
        "tiny, equal",
        "tiny, dwa",
        "lenet, equal",
        "lenet, dwa",
        "a network per task (tiny)",
        "a network per task (lenet)",
    ]


def test_single_task_networks_for_the_cost_of_one_have_smaller_crops() -> None:
    variants = plan_variants(
        SMALL.with_values, {"backbone": ["tiny", "lenet"]}, has_singles=False, budget_tasks=2
    )
    assert [variant.name for variant in variants] == [
        "tiny",
        "lenet",  # which takes no smaller crop than it has
        "a network per task, 16 px each (tiny)",
    ]
    assert variants[-1].recipe == SMALL.with_values({"size": 16})


def test_a_seed_is_no_key_to_vary() -> None:
    with pytest.raises(ConfigurationError, match="--seeds"):
        plan_variants(SMALL.with_values, {"seed": [1, 2]})


def test_what_cannot_be_built_is_refused_before_anything_is_trained(
    corpus: Corpus, tmp_path: Path
) -> None:
    variants = plan_variants(SMALL.with_values, {"weighting": ["equal", "wishful"]})
    with pytest.raises(ConfigurationError, match="wishful"):
        compare(variants, lambda recipe: corpus, tmp_path / "out", seeds=1)
    assert not (tmp_path / "out").exists()


def test_data_without_rows_to_judge_on_are_refused(corpus: Corpus, tmp_path: Path) -> None:
    train = corpus.split("train")
    with pytest.raises(DatasetError, match="split `val`"):
        compare(plan_variants(SMALL.with_values, {}), lambda recipe: train, tmp_path, seeds=1)


def test_a_task_without_held_out_labels_is_not_compared_by(corpus: Corpus, tmp_path: Path) -> None:
    targets = corpus.targets.copy()
    targets[corpus.splits == "val", corpus.tasks.names.index("state")] = MISSING
    some = replace(corpus, targets=targets)
    lines: list[str] = []
    variants = plan_variants(SMALL.with_values, {"batch": [16, 24]})
    found = compare(variants, lambda recipe: some, tmp_path, seeds=1, report=lines.append)
    assert found.tasks == ("kind",)
    assert [line.rpartition(" ")[0].rpartition(" ")[2] for line in lines[:2]] == ["kind", "kind"]
    assert any("a network per task" in line and "no labelled row" in line for line in lines)
    targets[corpus.splits == "val"] = MISSING
    none = replace(corpus, targets=targets)
    with pytest.raises(DatasetError, match="no labelled row of split `val`"):
        compare(variants, lambda recipe: none, tmp_path, seeds=1)


def test_a_training_that_is_lost_is_named(corpus: Corpus, tmp_path: Path) -> None:
    base = SMALL.with_values({"clip": 0.0, "warmup": 0.0})
    variants = plan_variants(base.with_values, {"learning_rate": [3e-3, 1e38]}, has_singles=False)
    with pytest.raises(ConfigurationError, match=r"learning_rate 1e\+38, seed 0: recipe: in epoch"):
        compare(variants, lambda recipe: corpus, tmp_path, seeds=1)


def test_a_corpus_of_one_task_keeps_its_rows_and_has_a_digest_of_its_own(corpus: Corpus) -> None:
    state = only_task(corpus, "state")
    assert state.tasks.names == ("state",)
    assert np.array_equal(state.targets[:, 0], corpus.targets[:, corpus.tasks.names.index("state")])
    assert len({corpus.digest, state.digest, only_task(corpus, "kind").digest}) == 3


def test_rows_stand_against_single_task_networks_of_the_same_kind(trained: Trained) -> None:
    comparison = trained.comparison
    assert [row.variant.is_single for row in comparison.rows] == [False, False, True, True]
    assert comparison.bases == (2, 2, None, None)
    assert comparison.budget_bases == (3, 3, None, None)
    assert [len(run) for run in comparison.rows[2].runs] == [2, 2]
    shared, single, budget = (comparison.rows[place].cost for place in (0, 2, 3))
    assert 1.9 * shared.macs < single.macs < 2.1 * shared.macs
    assert budget.macs < 1.05 * shared.macs
    value, interval = comparison.delta(0)
    means = comparison.draws.means
    assert value == pytest.approx(100 * ((means[0] - means[2]) / means[2]).mean())
    assert interval[0] < value < interval[1]
    at_cost, _ = comparison.delta(0, is_budget=True)
    assert at_cost == pytest.approx(100 * ((means[0] - means[3]) / means[3]).mean())


def test_accuracy_is_what_the_runs_say(trained: Trained) -> None:
    row = trained.comparison.rows[1]
    for column, task in enumerate(trained.comparison.tasks):
        said = [run.results.evaluations["val"]["tasks"][task]["accuracy"] for (run,) in row.runs]
        assert row.scores.by_seed[:, column].tolist() == pytest.approx(said)


def test_finished_trainings_are_kept_and_more_seeds_add_to_them(trained: Trained) -> None:
    weights = sorted(trained.folder.glob(f"runs/*/{WEIGHTS}"))
    before = {path: path.stat().st_mtime_ns for path in weights}
    assert len(before) == 12
    again = trained.go_on(2)
    assert again.draws.means.tolist() == trained.comparison.draws.means.tolist()
    fewer = trained.go_on(1)
    assert len(fewer.rows[0].runs) == 1
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(sorted(trained.folder.glob(f"runs/*/{WEIGHTS}"))) == 12


def test_the_winner_is_judged_on_rows_that_chose_nothing(trained: Trained) -> None:
    tested = held_out(trained.comparison, 0, "test")
    runs = [run for (run,) in trained.comparison.rows[0].runs]
    accuracy = [run.results.evaluations["test"]["tasks"]["state"]["accuracy"] for run in runs]
    assert tested["state"]["accuracy"] == pytest.approx(np.mean(accuracy))
    assert held_out(trained.comparison, 0, "train") is None


def test_networks_that_differ_in_training_only_are_timed_once(judgement: Judgement) -> None:
    first, second, single, budget = judgement.int8_ms
    assert first == second
    # The shared one, and for each task two that are single.
    assert min(first, single, budget) > 0
    assert len(json.loads((judgement_folder(judgement) / LATENCY).read_bytes())["p95"]) == 5


def judgement_folder(judgement: Judgement) -> Path:
    return judgement.comparison.rows[0].runs[0][0].folder.parents[1]


def test_latencies_that_were_measured_together_are_kept(
    trained: Trained, judgement: Judgement
) -> None:
    before = (trained.folder / LATENCY).read_bytes()
    again = judge(trained.comparison, trained.load, trained.folder, seconds=0.5)
    assert again.int8_ms == judgement.int8_ms
    assert (trained.folder / LATENCY).read_bytes() == before


def test_the_table_has_a_line_a_row_and_one_choice(judgement: Judgement) -> None:
    table = judgement.table()
    assert [line["accuracy"] for line in table] == sorted(
        (line["accuracy"] for line in table), reverse=True
    )
    chosen = [line for line in table if line["is_choice"]]
    assert len(chosen) == 1
    assert not chosen[0]["is_single"]
    assert set(chosen[0]["test"]) == {"kind", "state"}
    assert {line["weighting"] for line in table if not line["is_single"]} == {
        "equal",
        "uncertainty",
    }


def test_the_page_needs_nothing_beside_itself(judgement: Judgement, tmp_path: Path) -> None:
    write_comparison(tmp_path / PAGE, judgement, "Networks <compared>")
    page = (tmp_path / PAGE).read_text("utf-8")
    assert "Networks &lt;compared&gt;" in page
    assert "<svg" in page
    assert "In plain words" in page
    assert "http" not in page.replace("http-equiv", "")


def invented(accuracies: list[list[float]], ms: list[float], keys: list[str]) -> Judgement:
    """Rows with these accuracies by seed, on 400 groups of one row that are all alike hard."""
    groups = 400
    rows = []
    for seeds, key in zip(accuracies, keys, strict=True):
        right = np.stack([np.arange(groups) < round(groups * share) for share in seeds])
        scores = Scores(right[:, None].astype(float), np.ones((1, groups)))
        variant = Variant({"backbone": key}, SMALL)
        runs = tuple(() for _ in seeds)
        rows.append(Row(variant, runs, scores, NetworkCost(macs=10, parameters=10), 1.0))
    comparison = Comparison(
        tasks=("state",),
        split="test",
        rows=tuple(rows),
        bases=(None,) * len(rows),
        budget_bases=(None,) * len(rows),
        draws=draw_scores([row.scores for row in rows]),
        groups=groups,
        n={"state": groups},
    )
    return Judgement(comparison, tuple(ms), tuple(ms), "a machine")


def test_a_clear_winner_is_called_so() -> None:
    found = invented([[0.9, 0.9, 0.9], [0.7, 0.7, 0.71]], [2.0, 1.0], ["big", "small"])
    assert headline(found).startswith("Take big: with 90.0 of 100 right it is ahead")
    assert "backbone: big. It is ahead of small" in answers(found)[0].sentences[0]


def test_a_difference_inside_the_noise_is_called_so_and_the_cheaper_is_taken() -> None:
    found = invented([[0.86, 0.80, 0.83], [0.82, 0.85, 0.80]], [2.0, 1.0], ["big", "small"])
    assert "these data do not decide" in answers(found)[0].sentences[0]
    assert headline(found).startswith("Take small")
    assert "costs the device least" in headline(found)


def test_one_seed_is_said_to_be_too_few() -> None:
    found = invented([[0.9], [0.7]], [2.0, 1.0], ["big", "small"])
    assert any("one seed only" in said for answer in answers(found) for said in answer.sentences)


def test_the_front_is_what_no_cheaper_row_beats() -> None:
    found = invented(
        [[0.7], [0.9], [0.8], [0.6]], [1.0, 3.0, 2.0, 2.5], ["low", "top", "middle", "beaten"]
    )
    assert found.front == (0, 2, 1)


def test_the_command_says_the_table_and_takes_the_shape_of_what_it_starts_from(
    trained: Trained, pictures: Path, tmp_path: Path
) -> None:
    start = trained.comparison.rows[0].runs[0][0].folder
    arguments = [str(pictures), "--out", str(tmp_path / "out"), "--set", f"start={start}"]
    arguments += ["--epochs", "1", "--set", "batch=16", "--set", "frozen_epochs=0"]
    arguments += ["--vary", "weighting=equal,dwa", "--seeds", "1"]
    done = CliRunner().invoke(compare_command, [*arguments, "--no-single", "--json"])
    assert done.exit_code == 0, done.output
    table = json.loads(done.stdout)
    assert sorted(line["weighting"] for line in table) == ["dwa", "equal"]
    assert all(line["delta_m"] is None and line["int8_ms"] > 0 for line in table)
    chosen = next(line for line in table if line["is_choice"])
    recipe = load_recipe(tmp_path / "out" / RECOMMENDED)
    assert recipe.weighting == chosen["weighting"]
    shape = (recipe.backbone, recipe.size, recipe.embedding)
    assert shape == (SMALL.backbone, SMALL.size, SMALL.embedding)
    assert (tmp_path / "out" / PAGE).is_file()


@pytest.mark.parametrize("text", ["backbone", "=tiny", "backbone="])
def test_what_is_not_a_key_with_values_is_a_usage_error(
    text: str, pictures: Path, tmp_path: Path
) -> None:
    arguments = [str(pictures), "--out", str(tmp_path / "out"), "--vary", text]
    done = CliRunner().invoke(compare_command, arguments)
    assert done.exit_code == 2
    assert "KEY=A,B" in done.output
