from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from train.commands import train_command
from train.corpus import learnable
from train.distill import Guidance, Teachers, divergence
from train.engine import Engine
from train.fit import Training, fit
from train.mixing import Mixed
from train.network import predict_logits, to_image
from train.recipe import Recipe
from train.run import read_run
from transom.errors import ConfigurationError
from transom.tasks import Task, TaskSet

SHORT = Recipe(
    backbone="tiny", size=16, embedding=16, batch=8, epochs=6, learning_rate=3e-3, seed=5
)
STILL = {
    **{f"augment.{key}": 0 for key in ("flip", "stretch", "shift", "rotate_deg", "brightness")},
    **{f"augment.{key}": 0 for key in ("contrast", "gamma", "saturation", "tint", "grey")},
    **{f"augment.{key}": 0 for key in ("noise", "blur", "cutout")},
    "augment.zoom": 1.0,
}
CPU = torch.device("cpu")
NOBODY = torch.zeros(2)
ALL_HEARD = (torch.ones(4), NOBODY)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def corpus(draw_halves):
    return draw_halves()


@pytest.fixture(scope="module")
def teacher(corpus, tmp_path_factory):
    return fit(SHORT, corpus, tmp_path_factory.mktemp("runs") / "teacher")


def test_the_divergence_is_that_of_softened_distributions():
    student, teacher = torch.randn(4, 3), torch.randn(4, 3)
    p, q = (teacher / 2).softmax(1), (student / 2).softmax(1)
    expected = 4 * (p * (p.log() - q.log())).sum(1)
    torch.testing.assert_close(divergence(student, teacher, 2.0), expected)


def test_the_divergence_is_zero_where_student_and_teacher_agree():
    logits = torch.randn(4, 3)
    torch.testing.assert_close(divergence(logits, logits + 5.0, 3.0), torch.zeros(4))


def test_teachers_answer_with_calibrated_logits_in_the_student_s_order(corpus, teacher):
    tasks = TaskSet(
        [
            Task(name="shade", classes=("bright", "none", "dark", "middle"), ordinal=True),
            Task(name="weather", classes=("rain", "sun")),
        ]
    )
    teachers = Teachers([teacher], SHORT, tasks, corpus.crops, CPU)
    rows = np.arange(5)
    (answers,) = teachers(to_image(torch.from_numpy(corpus.crops[rows])), rows)
    assert list(answers) == ["shade"]
    said = answers["shade"]
    assert said.classes.tolist() == [0, 2, 3]
    logits, _ = predict_logits(teacher.network(), corpus.crops[rows])
    expected = logits["shade"][:, [2, 0, 1]] / teacher.temperatures["shade"]
    np.testing.assert_allclose(said.logits.numpy(), expected, atol=1e-5)


def test_pictures_that_do_not_vary_are_shown_once(corpus, teacher):
    recipe = SHORT.with_values(STILL)
    teachers = Teachers([teacher, teacher], recipe, corpus.tasks, corpus.crops, CPU)
    rows = np.array([3, 1, 3])
    nothing = torch.zeros(3, 3, 16, 16)
    first, second = teachers(nothing, rows)
    fresh = Teachers([teacher], SHORT, corpus.tasks, corpus.crops, CPU)
    (expected,) = fresh(to_image(torch.from_numpy(corpus.crops[rows])), rows)
    for said in (first, second):
        torch.testing.assert_close(said["side"].logits, expected["side"].logits)
    again, _ = teachers(nothing + 255.0, rows)
    assert torch.equal(again["side"].logits, first["side"].logits)


def test_varied_pictures_are_shown_as_the_student_sees_them(corpus, teacher):
    teachers = Teachers([teacher], SHORT, corpus.tasks, corpus.crops, CPU)
    rows = np.array([0, 1])
    (dark,) = teachers(torch.zeros(2, 3, 16, 16), rows)
    (bright,) = teachers(torch.full((2, 3, 16, 16), 200.0), rows)
    assert not torch.equal(dark["side"].logits, bright["side"].logits)


def test_a_teacher_of_another_size_sees_the_picture_at_its_own(corpus, teacher):
    recipe = SHORT.with_values({"size": 32})
    teachers = Teachers([teacher], recipe, corpus.tasks, corpus.crops, CPU)
    small = to_image(torch.from_numpy(corpus.crops[:4]))
    large = torch.nn.functional.interpolate(small, scale_factor=2.0, mode="nearest")
    (seen,) = teachers(large, np.arange(4))
    (expected,) = Teachers([teacher], SHORT, corpus.tasks, corpus.crops, CPU)(small, np.arange(4))
    torch.testing.assert_close(seen["side"].logits, expected["side"].logits, atol=0.3, rtol=0.3)


def test_a_row_without_a_label_is_learnt_from_the_teacher(corpus, teacher):
    teachers = Teachers([teacher], SHORT, corpus.tasks, corpus.crops, CPU)
    answers = teachers(to_image(torch.from_numpy(corpus.crops[:4])), np.arange(4))
    logits = {"side": torch.zeros(4, 2), "shade": torch.zeros(4, 3)}
    guidance = Guidance(SHORT.with_values({"distill.weight": 0.25}), corpus.tasks)
    losses, learns = guidance(
        torch.tensor([2.0, 0.0]), torch.tensor([True, False]), logits, answers, *ALL_HEARD
    )
    assert learns.tolist() == [True, True]
    said = answers[0]["side"].logits
    expected = 0.75 * 2.0 + 0.25 * float(divergence(logits["side"], said, 2.0).mean())
    assert float(losses[0]) == pytest.approx(expected)
    assert float(losses[1]) > 0.0


def test_where_teachers_are_not_heard_labels_count_whole(corpus, teacher):
    teachers = Teachers([teacher], SHORT, corpus.tasks, corpus.crops, CPU)
    answers = teachers(to_image(torch.from_numpy(corpus.crops[:4])), np.arange(4))
    logits = {"side": torch.zeros(4, 2), "shade": torch.zeros(4, 3)}
    guidance = Guidance(SHORT.with_values({"distill.weight": 0.25}), corpus.tasks)
    heard, alone = torch.tensor([1.0, 0.0, 0.0, 0.0]), torch.tensor([1.5, 0.0])
    losses, _ = guidance(
        torch.tensor([2.0, 0.0]), torch.tensor([True, False]), logits, answers, heard, alone
    )
    first = float(divergence(logits["side"], answers[0]["side"].logits, 2.0)[0])
    assert float(losses[0]) == pytest.approx(1.5 + 0.75 * 0.5 + 0.25 * first / 4)


def test_a_data_set_on_which_nobody_is_heard_is_learnt_as_without_teachers(
    corpus, teacher, tmp_path
):
    origins = tuple("home" if split == "train" else "away" for split in corpus.splits)
    corpus = replace(corpus, origins=origins)
    recipe = SHORT.with_values({"epochs": 1})
    alone = fit(recipe, corpus, tmp_path / "alone").network().state_dict()
    recipe = recipe.with_values({"distill.datasets": ("away",)})
    taught = fit(recipe, corpus, tmp_path / "taught", teachers=[teacher]).network().state_dict()
    for name, tensor in alone.items():
        torch.testing.assert_close(taught[name], tensor, atol=1e-4, rtol=1e-3)


def test_a_picture_that_is_mixed_away_is_taught_as_the_one_that_took_its_place(corpus, teacher):
    origins = tuple("home" if row % 2 else "away" for row in range(len(corpus)))
    corpus = replace(corpus, origins=origins)
    recipe = SHORT.with_values({"distill.datasets": ("away",), "mix.mixup": 1.0})
    tasks, rows = learnable(corpus)
    training = Training(recipe, corpus, tasks, rows, Engine.start("float32"), [teacher])
    network = training.network.eval()
    ask = Teachers([teacher], recipe, tasks, corpus.crops, CPU)
    home, away = (next(row for row in rows if corpus.origins[row] == o) for o in ("home", "away"))
    pair = np.array([home, away])
    turned = to_image(torch.from_numpy(corpus.crops[pair[::-1].copy()]))

    def loss(mixed, rows):
        said = [(*network(turned), torch.tensor(0.0))]
        return training._loss(said, mixed, rows, ask(turned, rows))[0]

    whole = Mixed(turned, torch.tensor([1, 0]), torch.zeros(2))
    torch.testing.assert_close(loss(whole, pair), loss(Mixed(turned), pair[::-1].copy()))


def test_teachers_are_heard_on_data_sets_that_are_there_only(corpus, teacher, tmp_path):
    recipe = SHORT.with_values({"distill.datasets": ("hoem",)})
    with pytest.raises(ConfigurationError, match=r"distill\.datasets .*hoem"):
        fit(recipe, corpus, tmp_path / "run", teachers=[teacher])


def test_several_teachers_pull_towards_the_mean_of_their_distances():
    tasks = TaskSet([Task(name="side", classes=("left", "right"))])
    from train.distill import Answer

    both = torch.tensor([0, 1])
    first, second = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    answers = [{"side": Answer(both, first)}, {"side": Answer(both, second)}]
    guidance = Guidance(SHORT.with_values({"distill.weight": 1.0}), tasks)
    logits = torch.zeros(1, 2, requires_grad=True)
    loss, _ = guidance(
        torch.zeros(1), torch.tensor([False]), {"side": logits}, answers, torch.ones(1), NOBODY[:1]
    )
    loss.sum().backward()
    torch.testing.assert_close(logits.grad, torch.zeros(1, 2))  # halfway already


def test_a_student_moves_towards_its_teacher(corpus, teacher, tmp_path):
    recipe = SHORT.with_values({"seed": 11, "epochs": 8})
    alone = fit(recipe, corpus, tmp_path / "alone")
    taught = fit(
        recipe.with_values({"distill.weight": 1.0}), corpus, tmp_path / "taught", teachers=[teacher]
    )
    test = corpus.split("test").crops
    truth, _ = predict_logits(teacher.network(), test)
    distances = []
    for run in (alone, taught):
        said, _ = predict_logits(run.network(), test)
        temperature = {task: teacher.temperatures[task] for task in said}
        distances.append(
            sum(
                float(
                    divergence(
                        torch.from_numpy(said[task]),
                        torch.from_numpy(truth[task]) / temperature[task],
                    ).mean()
                )
                for task in said
            )
        )
    assert distances[1] < 0.7 * distances[0]


def test_teachers_of_other_pictures_or_other_tasks_are_refused(corpus, teacher):
    with pytest.raises(ConfigurationError, match="margin and preprocess must be the teacher's"):
        Teachers([teacher], SHORT.with_values({"margin": 0.5}), corpus.tasks, corpus.crops, CPU)
    foreign = TaskSet([Task(name="side", classes=("left", "up"))])
    with pytest.raises(ConfigurationError, match="no task with two classes in common"):
        Teachers([teacher], SHORT, foreign, corpus.crops, CPU)


def test_the_command_takes_teachers(tiny_dataset, tmp_path):
    runner = CliRunner()
    settings = ["--backbone", "tiny", "--size", "16", "--epochs", "1", "--set", "embedding=16"]

    def run(*arguments):
        outcome = runner.invoke(train_command, [str(tiny_dataset), *arguments])
        assert outcome.exit_code == 0, outcome.output

    run("--out", str(tmp_path / "teacher"), *settings)
    run("--out", str(tmp_path / "student"), *settings, "--teacher", str(tmp_path / "teacher"))
    student = read_run(tmp_path / "student")
    assert list(student.facts.teachers) == [str((tmp_path / "teacher").resolve())]

    run("--out", str(tmp_path / "pupil"), *settings, "--teacher", "starter")
    pupil = read_run(tmp_path / "pupil")
    assert [Path(folder).name for folder in pupil.facts.teachers] == ["starter"]


def test_only_an_augmentation_that_does_nothing_is_off():
    assert not Recipe().augment.is_off
    assert Recipe().with_values(STILL).augment.is_off
    assert not Recipe().with_values({**STILL, "augment.zoom": 0.9}).augment.is_off
