import shutil

import msgspec
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from export.graph import export_graph, fold_temperatures
from export.quantize import count_operators, quantize
from train.agreement import agreement, disputed
from train.blend import (
    Held,
    blended,
    choose_strength,
    fit_blend,
    fit_stack,
    fit_weights,
    left_out,
)
from train.commands import train_command
from train.ensemble import (
    calibrated_logits,
    held_out,
    make_ensemble,
    make_soup,
    why_not_on_a_device,
)
from train.ensemble_commands import ensemble_command
from train.evaluate import evaluate
from train.fit import fit
from train.members import NAME, read_ensemble
from train.network import build_network
from train.predictor import TorchPredictor
from train.recipe import Recipe
from train.run import read_run, write_weights
from train.soup import greedy_soup, mean_state, val_score
from transom.errors import DatasetError, RunError
from transom.tasks import Task

SHORT = Recipe(
    backbone="tiny", size=16, embedding=16, batch=8, epochs=6, learning_rate=1e-2, average=0.0
).with_values({f"augment.{key}": 0 for key in ("flip", "brightness", "contrast", "gamma")})
LETTERS = Task(name="letter", classes=("a", "b"))


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def corpus(draw_halves):
    return draw_halves(noise=60)


@pytest.fixture(scope="module")
def runs(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    recipes = {
        "first": SHORT.with_values({"seed": 1}),
        "second": SHORT.with_values({"seed": 2}),
        "wide": SHORT.with_values({"seed": 3, "embedding": 24, "epochs": 4}),
    }
    return [fit(recipe, corpus, folder / name) for name, recipe in recipes.items()]


def held(seed=0, n=60, groups=12):
    """Three members: one often right, one that guesses, one that is wrong for sure."""
    random = np.random.default_rng(seed)
    targets = random.integers(0, 2, n)
    truth = np.eye(2)[targets]
    logits = np.stack(
        [
            3 * truth + random.normal(0, 1.5, (n, 2)),
            random.normal(0, 1.5, (n, 2)),
            -2 * truth + random.normal(0, 1.0, (n, 2)),
        ],
        1,
    )
    return Held(logits, targets, np.array([f"g{i % groups}" for i in range(n)]))


def test_an_ensemble_of_one_is_the_run(runs, corpus, tmp_path):
    for how in ("mean", "weighted", "stacked"):
        one = make_ensemble(runs[:1], corpus, tmp_path / how, how=how)
        said, embedding, _ = TorchPredictor(one)(corpus.crops)
        expected, expected_embedding, _ = TorchPredictor(runs[0])(corpus.crops)
        np.testing.assert_array_equal(embedding, expected_embedding)
        for task in expected:
            assert one.temperatures[task] == pytest.approx(runs[0].temperatures[task], rel=1e-4)
            np.testing.assert_allclose(said[task], expected[task], atol=1e-4)


def test_the_mean_is_that_of_the_members_calibrated_logits(runs, corpus, tmp_path):
    run = read_run(make_ensemble(runs, corpus, tmp_path / "three").folder)
    said, embedding, _ = TorchPredictor(run)(corpus.crops)
    parts = [TorchPredictor(member)(corpus.crops) for member in runs]
    np.testing.assert_array_equal(embedding, np.concatenate([part[1] for part in parts], 1))
    for task in ("side", "shade"):
        scale = np.prod([member.temperatures[task] for member in runs]) ** (1 / 3)
        mean = np.mean([part[0][task] for part in parts], 0)
        expected = mean * scale / run.temperatures[task]
        np.testing.assert_allclose(said[task], expected, atol=1e-4)
    assert list(run.facts.members.values()) == [member.digest for member in runs]


def test_an_ensemble_is_judged_like_any_run(runs, corpus, tmp_path):
    run = make_ensemble(runs, corpus, tmp_path / "three", how="weighted")
    found = evaluate(TorchPredictor(run), corpus.split("test")).to_json()
    stored = run.results.evaluations["test"]
    assert found["tasks"]["side"]["confusion"] == stored["tasks"]["side"]["confusion"]
    description = read_ensemble(run.folder)
    assert [member.name for member in description.members] == ["first", "second", "wide"]
    assert sum(description.weights["shade"].values()) == pytest.approx(1.0)
    assert description.agreement["side"].accuracy.keys() == {"first", "second", "wide", "ensemble"}


def test_weights_go_to_the_members_that_are_right():
    weights = fit_weights(held())
    assert weights[0] > 0.8
    assert float(weights.sum()) == pytest.approx(1.0)
    assert (weights >= 0).all()


def test_members_that_are_the_same_share_their_weight():
    once = held()
    twice = Held(once.logits[:, [0, 0]], once.targets, once.groups)
    np.testing.assert_allclose(fit_weights(twice), [0.5, 0.5], atol=1e-6)


def test_a_stack_learns_from_a_member_that_is_wrong_for_sure():
    fitted, judged = held(0), held(1)
    matrix, bias = fit_stack(fitted, 0.01)
    stacked = judged.logits.reshape(60, -1) @ matrix.T + bias
    mean = judged.logits.mean(1)
    right = [(scores.argmax(1) == judged.targets).mean() for scores in (stacked, mean)]
    assert right[0] > right[1] + 0.1


def test_a_stack_that_groups_left_out_do_not_bear_out_is_the_mean():
    random = np.random.default_rng(4)
    targets = random.integers(0, 2, 24)
    logits = np.repeat((3 * np.eye(2)[targets] + random.normal(0, 1, (24, 2)))[:, None], 3, 1)
    logits += random.normal(0, 0.5, logits.shape)
    noise = Held(logits, targets, np.array([f"g{i // 12}" for i in range(24)]))
    one_group = Held(logits, targets, np.array(["g"] * 24))
    assert choose_strength(one_group) == np.inf
    assert choose_strength(held()) < np.inf
    matrix, bias = fit_stack(noise, np.inf)
    np.testing.assert_allclose(matrix, np.kron(np.full(3, 1 / 3), np.eye(2)))
    assert not bias.any()


@pytest.mark.parametrize("how", ["weighted", "stacked"])
def test_what_a_row_taught_does_not_answer_for_its_group(how):
    rows = held()
    blend = fit_blend(how, rows, LETTERS)
    before = left_out(how, rows, LETTERS, blend)
    # With other labels in a group, whatever is fitted changes; what is said of that group must not.
    is_first = rows.groups == "g0"
    changed = Held(rows.logits, np.where(is_first, 1 - rows.targets, rows.targets), rows.groups)
    after = left_out(how, changed, LETTERS, fit_blend(how, changed, LETTERS))
    np.testing.assert_array_equal(after[is_first], before[is_first])
    assert np.abs(after[~is_first] - before[~is_first]).max() > 1e-6
    assert np.abs(blended(rows, blend) - before).max() > 1e-6


def test_a_fit_to_noise_does_not_look_good_on_the_rows_it_was_fitted_on():
    random = np.random.default_rng(2)
    noise = Held(
        random.normal(0, 1, (40, 4, 2)), random.integers(0, 2, 40), np.arange(40).astype(str)
    )
    matrix, bias = fit_stack(noise, 0.001)
    seen = (noise.logits.reshape(40, -1) @ matrix.T + bias).argmax(1) == noise.targets
    blend = fit_blend("weighted", noise, LETTERS)
    unseen = left_out("weighted", noise, LETTERS, blend).argmax(1) == noise.targets
    assert seen.mean() > 0.6 > unseen.mean()


def test_nothing_is_fitted_on_one_group():
    rows = held(groups=1)
    for how in ("weighted", "stacked"):
        blend = fit_blend(how, rows, LETTERS)
        assert blend.weights == pytest.approx((1 / 3,) * 3)
        np.testing.assert_array_equal(left_out(how, rows, LETTERS, blend), blended(rows, blend))


def test_the_gain_is_that_over_the_members_mean_with_its_interval():
    rows = held()
    found = agreement(rows, rows.logits[:, 0], ["x", "y", "z"])
    accuracy = [found.accuracy[name] for name in ("x", "y", "z")]
    assert found.gain == pytest.approx(found.accuracy["ensemble"] - np.mean(accuracy))
    low, high = found.gain_interval
    assert 0 < low < found.gain < high


def test_the_report_explains_what_the_members_say(runs, corpus, tmp_path):
    run = make_ensemble(runs, corpus, tmp_path / "three", how="stacked")
    page = (run.folder / "report.html").read_text()
    for words in ("What its 3 members say", "fits that left them out", "wide", "All say the same"):
        assert words in page
    soup, _ = make_soup(runs[:2], corpus, tmp_path / "soup")
    page = (soup.folder / "report.html").read_text()
    assert "What it is made of" in page
    assert "flatter" in page


def test_a_stack_is_judged_on_val_by_fits_that_left_the_group_out(runs, corpus, tmp_path):
    run = make_ensemble(runs, corpus, tmp_path / "three", how="stacked")
    stored = run.results.evaluations["val"]["tasks"]["side"]
    agreed = read_ensemble(run.folder).agreement["side"]
    rows = {split: run.results.evaluations[split]["tasks"]["side"] for split in ("val", "test")}
    right = sum(task["n"] * task["accuracy"] for task in rows.values())
    assert agreed.accuracy["ensemble"] == pytest.approx(right / agreed.n)
    assert stored["n"] < agreed.n


def test_weights_and_stacks_need_labelled_rows():
    nothing = held().rows(np.zeros(60, bool))
    with pytest.raises(DatasetError, match="none is labelled for 'letter'"):
        fit_blend("stacked", nothing, LETTERS)
    assert fit_blend("mean", nothing, LETTERS).weights == pytest.approx((1 / 3,) * 3)


def test_the_agreement_of_members_is_told():
    logits = np.array(
        [[[2, 0], [2, 0]], [[0, 2], [2, 0]], [[0, 2], [0, 2]], [[0, 3], [2, 0]]], float
    )
    rows = Held(logits, np.array([0, 1, 0, -1]), np.array(list("abcd")))
    mean = blended(rows, fit_blend("mean", rows, LETTERS))
    found = agreement(rows, mean, ["x", "y"])
    assert found.n == 3
    assert found.accuracy["x"] == pytest.approx(2 / 3)
    assert found.accuracy["y"] == pytest.approx(1 / 3)
    assert found.agreement == ((1.0, 0.5), (0.5, 1.0))
    assert found.unanimous == pytest.approx(2 / 3)
    assert found.accuracy_unanimous == 0.5
    assert found.one_right == pytest.approx(2 / 3)
    assert found.gain == pytest.approx(np.mean([1, 0, 0]) - np.mean([1, 0.5, 0]))
    assert disputed(rows, mean, 5) == [1]
    unlabelled = rows.rows(np.array([False, False, False, True]))
    assert agreement(unlabelled, mean[3:], ["x", "y"]) is None


def test_classes_are_matched_by_name(runs, corpus):
    other = Task(name="shade", classes=("bright", "dark", "middle"), ordinal=True)
    said = [calibrated_logits(runs[0], corpus)]
    place = corpus.splits == "test"
    found = held_out(other, runs[:1], said, corpus).rows(place)
    np.testing.assert_allclose(found.logits[:, 0], said[0]["shade"][place][:, [2, 0, 1]])
    names = [row.labels.get("shade") for row, ok in zip(corpus.rows, place, strict=True) if ok]
    assert [other.classes[t] if t >= 0 else None for t in found.targets] == names


def test_members_fed_otherwise_or_of_other_classes_are_refused(runs, corpus, draw_halves, tmp_path):
    larger = msgspec.structs.replace(runs[1].recipe, margin=0.4)
    unlike = type(runs[1])(runs[1].folder, larger, runs[1].facts, runs[1].results)
    with pytest.raises(RunError, match="must be fed the same crops"):
        make_ensemble([runs[0], unlike], corpus, tmp_path / "no")
    ensemble = make_ensemble(runs[:2], corpus, tmp_path / "two")
    with pytest.raises(RunError, match="is an ensemble itself"):
        make_ensemble([runs[0], ensemble], corpus, tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_a_damaged_description_is_named(runs, corpus, tmp_path):
    run = make_ensemble(runs[:2], corpus, tmp_path / "two")
    (run.folder / NAME).write_text('{"how": "magic"}')
    with pytest.raises(RunError, match=r"ensemble\.json: cannot be read"):
        read_run(run.folder).network()


def test_an_ensemble_is_exported_as_one_graph_of_integers(runs, corpus, tmp_path):
    from onnxruntime import InferenceSession

    run = make_ensemble(runs, corpus, tmp_path / "three")
    graph = export_graph(run.network(), run.tasks, run.recipe.size)
    session = InferenceSession(fold_temperatures(graph, run.temperatures))
    crops = np.ascontiguousarray(corpus.crops[:8])
    said = dict(
        zip(["side", "shade"], session.run(["side", "shade"], {"image": crops}), strict=True)
    )
    expected = TorchPredictor(run)(crops).logits
    for task in expected:
        np.testing.assert_allclose(said[task], expected[task], atol=1e-3)
    operators = count_operators(quantize(graph, run.tasks, crops))
    assert operators["Conv"] == 0
    assert operators["QLinearConv"] >= 3 * 8


def test_what_is_too_large_for_a_bundle_says_so_and_what_to_do():
    assert why_not_on_a_device(torch.nn.Linear(8, 8)) is None
    with torch.device("meta"):
        huge = torch.nn.Linear(10_000, 10_000)
    assert "train one student" in why_not_on_a_device(huge)


def test_a_student_learns_from_an_ensemble(runs, corpus, tmp_path):
    ensemble = make_ensemble(runs[:2], corpus, tmp_path / "two")
    student = fit(SHORT, corpus, tmp_path / "student", teachers=[read_run(ensemble.folder)])
    assert list(student.facts.teachers.values()) == [ensemble.digest]


def test_a_soup_is_never_worse_than_its_best_member_on_val(runs, corpus):
    soup = greedy_soup(runs[:2], corpus)
    assert soup.score >= max(soup.scores)
    assert soup.score == val_score(soup.network, corpus)
    assert soup.scores[soup.ingredients[0]] == max(soup.scores)


def test_a_soup_leaves_out_what_makes_it_worse(runs, corpus, tmp_path):
    shutil.copytree(runs[0].folder, tmp_path / "broken")
    random = build_network(runs[0].recipe, runs[0].tasks)
    for parameter in random.parameters():
        parameter.data = torch.randn_like(parameter) * 5
    write_weights(tmp_path / "broken", random)
    broken = read_run(tmp_path / "broken")
    soup = greedy_soup([broken, runs[0]], corpus)
    assert soup.ingredients == (1,)
    state, expected = soup.network.state_dict(), runs[0].network().state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in state.items())


def test_a_soup_of_the_same_run_twice_is_the_run(runs, corpus):
    soup = greedy_soup([runs[0], runs[0]], corpus)
    assert soup.ingredients == (0, 1)
    expected = runs[0].network().state_dict()
    for name, value in soup.network.state_dict().items():
        torch.testing.assert_close(value, expected[name])


def test_the_mean_of_weights_keeps_whole_numbers_as_they_are():
    states = [{"w": torch.tensor([1.0]), "n": torch.tensor(7)}, {"w": torch.tensor([3.0])}]
    mean = mean_state(states)
    assert mean["w"].tolist() == [2.0]
    assert mean["n"] == 7


def test_runs_of_another_shape_are_not_boiled_together(runs, corpus, tmp_path):
    with pytest.raises(RunError, match="a soup needs runs of the same tasks, input and layers"):
        make_soup(runs, corpus, tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_the_command_makes_ensembles_and_soups(tiny_dataset, tmp_path):
    runner = CliRunner()

    def run(command, *arguments):
        outcome = runner.invoke(command, [str(argument) for argument in arguments])
        assert outcome.exit_code == 0, outcome.output
        return outcome.output

    settings = ["--backbone", "tiny", "--size", 16, "--epochs", 1, "--set", "embedding=16"]
    members = [tmp_path / "a", tmp_path / "b"]
    for seed, folder in enumerate(members):
        run(train_command, tiny_dataset, "--out", folder, "--seed", seed, *settings)
    text = run(ensemble_command, *members, "--out", tmp_path / "both")
    assert "weight 0.50" in text
    assert "transom export takes it as one graph" in text
    assert read_ensemble(tmp_path / "both").how == "mean"
    text = run(ensemble_command, *members, "--out", tmp_path / "soup", "--how", "soup")
    assert "soup of" in text
    assert read_ensemble(tmp_path / "soup") is None
    figures = run(ensemble_command, members[0], "--out", tmp_path / "one", "--json")
    assert set(msgspec.json.decode(figures)["temperatures"]) == {"kind", "state"}
    for file in (tiny_dataset / "dataset.toml", tiny_dataset / "labels.csv"):
        file.write_text(file.read_text().replace("open", "ajar"))
    text = run(ensemble_command, members[0], "--out", tmp_path / "since")
    assert "their class is none of the network's: ajar (" in text
    again = runner.invoke(ensemble_command, [str(members[0]), "--out", str(tmp_path / "since")])
    assert str(again.exception).endswith("must be a new or empty folder; name another")
