from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from train.commands import choose_start, train_command
from train.corpus import load_corpus
from train.engine import Engine
from train.fit import fit
from train.mutual import Learner
from train.network import build_network
from train.recipe import Recipe
from train.run import Run, read_run
from train.start import begin_from
from transom.errors import ConfigurationError, RunError
from transom.tasks import Task, TaskSet

RECIPE = Recipe(size=32, backbone="tiny", embedding=16, epochs=1, batch=8, frozen_epochs=0)


@pytest.fixture
def finished(tiny_dataset: Path, tmp_path: Path) -> Run:
    corpus = load_corpus([tiny_dataset], size=32, margin=RECIPE.margin)
    return fit(RECIPE, corpus, tmp_path / "run")


def test_starts_with_every_weight_of_a_run_with_the_same_tasks(finished: Run) -> None:
    recipe = RECIPE.with_values({"start": str(finished.folder), "seed": 7})

    network = build_network(recipe, finished.tasks)
    begin_from(network, recipe.start)

    theirs = finished.network().state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in network.state_dict().items())


def test_a_head_starts_anew_where_the_classes_differ(finished: Run) -> None:
    task = finished.tasks[finished.tasks.names[0]]
    turned = TaskSet([Task(name=task.name, classes=task.classes[::-1])])
    torch.manual_seed(1)
    network = build_network(RECIPE, turned)
    before = {name: t.clone() for name, t in network.heads.state_dict().items()}

    begin_from(network, str(finished.folder))

    assert all(torch.equal(t, before[name]) for name, t in network.heads.state_dict().items())


def test_a_training_uses_the_start_that_its_recipe_names(finished: Run) -> None:
    recipe = RECIPE.with_values({"start": str(finished.folder)})

    learner = Learner.begin(recipe, finished.tasks, Engine.start("float32"))

    theirs = finished.network().state_dict()
    mine = learner.network.state_dict()
    assert all(torch.equal(mine[name], tensor) for name, tensor in theirs.items())


@pytest.mark.parametrize(
    ("classes", "asked", "expected"),
    [
        (("closed", "ajar", "open"), {}, {"start": "starter"}),
        (("closed", "open"), {"epochs": 3, "size": 96}, {"start": "starter"}),
        (("closed", "open"), {"backbone": "tiny"}, {}),
        (("closed", "open"), {"start": "none"}, {"start": ""}),
        (("closed", "open"), {"start": "runs/home"}, {"start": "runs/home"}),
        (("in", "out"), {}, {}),
    ],
)
def test_a_training_begins_from_the_starter_where_it_knows_a_task(
    tmp_path: Path,
    classes: tuple[str, ...],
    asked: dict[str, object],
    expected: dict[str, object],
) -> None:
    named = ", ".join(f'"{name}"' for name in classes)
    (tmp_path / "dataset.toml").write_text(f'name = "x"\n[tasks.state]\nclasses = [{named}]\n')
    (tmp_path / "labels.csv").write_text("image,zone,group,split,state\n")

    assert choose_start(None, asked, (tmp_path,)) == {**asked, **expected}


def test_a_recipe_s_file_may_name_the_network(tiny_dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "plain.toml").write_text("epochs = 3\n")
    (tmp_path / "own.toml").write_text('fusion = "mmoe"\n')

    chosen = [choose_start(tmp_path / f"{n}.toml", {}, (tiny_dataset,)) for n in ("plain", "own")]

    assert chosen == [{"start": "starter"}, {}]


def test_refuses_a_start_of_another_shape_and_says_what_it_is(finished: Run) -> None:
    network = build_network(RECIPE.with_values({"embedding": 24}), finished.tasks)

    with pytest.raises(ConfigurationError, match="embedding 16"):
        begin_from(network, str(finished.folder))


def test_refuses_a_folder_that_is_no_run(tmp_path: Path, finished: Run) -> None:
    with pytest.raises(RunError, match="is that the folder of a run"):
        begin_from(finished.network(), str(tmp_path / "nothing"))


def test_the_command_takes_the_shape_of_the_network_from_its_start(
    finished: Run, tiny_dataset: Path, tmp_path: Path
) -> None:
    arguments = [str(tiny_dataset), "--out", str(tmp_path / "next"), "--epochs", "1"]

    outcome = CliRunner().invoke(
        train_command, [*arguments, "--start", str(finished.folder), "--set", "batch=8"]
    )

    assert outcome.exit_code == 0, outcome.output
    recipe = read_run(tmp_path / "next").recipe
    assert (recipe.backbone, recipe.size, recipe.embedding) == ("tiny", 32, 16)
