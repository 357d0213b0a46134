import json
import signal
import subprocess
import sys
import tomllib

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from train.averaging import Average
from train.commands import train_command
from train.history import EpochRecord
from train.network import build_network, predict_logits
from train.recipe import Recipe, load_recipe
from train.run import METRICS, RECIPE, WEIGHTS, Events, read_run
from transom.errors import ConfigurationError, RunError
from transom.tasks import Task, TaskSet

SPLITS = ("train", "train", "train", "val", "test")
QUICK = ["--backbone", "tiny", "--size", "16", "--epochs", "1", "--set", "batch=4"]


pytestmark = pytest.mark.usefixtures("one_thread")


def command(*arguments):
    return CliRunner().invoke(train_command, [str(a) for a in arguments], catch_exceptions=False)


@pytest.fixture
def data(make_dataset):
    return make_dataset(groups=10, splits=SPLITS)


@pytest.fixture
def folder(data, tmp_path):
    result = command(data, "--out", tmp_path / "run", *QUICK)
    assert result.exit_code == 0, result.output
    return tmp_path / "run"


def test_the_command_says_how_good_the_run_is_and_prints_a_line_an_epoch(data, tmp_path):
    result = command(data, "--out", tmp_path / "run", *QUICK, "--epochs", 2)
    assert result.stdout.startswith("val: kind ")
    assert "test: state" in result.stdout
    lines = [line for line in result.stderr.splitlines() if line.startswith("epoch ")]
    assert [line.split()[1] for line in lines] == ["1/2", "2/2"]


def test_json_is_what_the_metrics_file_says(data, tmp_path):
    result = command(data, "--out", tmp_path / "run", *QUICK, "--json")
    said = json.loads(result.stdout)
    assert said == json.loads((tmp_path / "run" / METRICS).read_text())
    assert set(said["evaluations"]) == {"val", "test"}


def test_what_was_stopped_before_it_began_is_told_how_to_begin(data, tmp_path):
    with pytest.raises(RunError, match=r"run: has nothing to resume yet; leave --resume out"):
        command(data, "--out", tmp_path / "run", "--resume")


def test_a_run_is_read_back_as_it_was_written(folder, data):
    run = read_run(folder)
    assert run.tasks.names == ("kind", "state")
    assert run.datasets == (data,)
    assert run.versions["torch"] == torch.__version__
    assert run.created.tzinfo is not None
    assert run.recipe == Recipe(backbone="tiny", size=16, epochs=1, batch=4)
    assert run.facts.rows == {"train": 12, "val": 4, "test": 4}
    assert [spec.name for spec in run.specs] == ["kind", "state"]


def test_the_network_of_a_run_does_not_change_between_readings(folder):
    crops = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    first, second = (predict_logits(read_run(folder).network(), crops)[0] for _ in range(2))
    assert (first["state"] == second["state"]).all()
    assert not read_run(folder).network().training


def test_the_resolved_recipe_says_what_the_training_met(folder):
    tree = tomllib.loads((folder / RECIPE).read_text())
    assert set(tree["run"]["versions"]) >= {"transom", "python", "torch", "numpy"}
    assert len(tree["run"]["corpus"]) == 64
    assert tree["run"]["tasks"]["state"] == {"classes": ["closed", "open"], "ordinal": True}
    assert load_recipe(folder / RECIPE) == read_run(folder).recipe


def test_a_run_s_recipe_repeats_it_to_the_bit(folder, data, tmp_path):
    command(data, "--out", tmp_path / "again", "--recipe", folder / RECIPE)
    assert (tmp_path / "again" / WEIGHTS).read_bytes() == (folder / WEIGHTS).read_bytes()


def test_a_run_whose_weights_were_taken_away_is_not_called_unfinished(folder):
    (folder / WEIGHTS).unlink()
    with pytest.raises(RunError, match=f"has no {WEIGHTS}; .*train again: .*{RECIPE}") as caught:
        read_run(folder)
    assert "--resume" not in str(caught.value)


@pytest.mark.parametrize("name", [RECIPE, WEIGHTS, METRICS])
def test_a_run_without_one_of_its_files_is_refused(folder, name):
    (folder / name).unlink()
    with pytest.raises(RunError, match=f"has no {name}"):
        read_run(folder)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunError, match="is that the folder of a run"):
        read_run(tmp_path)


def test_damaged_files_of_a_run_are_named(folder):
    (folder / WEIGHTS).write_bytes(b"\x00" * 64)
    with pytest.raises(RunError, match=WEIGHTS):
        read_run(folder).network()
    (folder / METRICS).write_text('{"temperatures": 3}')
    with pytest.raises(RunError, match=METRICS):
        read_run(folder)


def test_weights_of_another_network_are_refused(folder):
    text = (folder / RECIPE).read_text()
    (folder / RECIPE).write_text(text.replace("embedding = 128", "embedding = 64"))
    with pytest.raises(RunError, match="size mismatch"):
        read_run(folder).network()


def test_nothing_in_a_run_is_a_pickle(folder):
    for path in folder.rglob("*"):
        if path.is_file():
            assert not path.read_bytes().startswith((b"\x80", b"PK"))


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--set", "epochs"], "key=value"),
        (["--resume", "--epochs", "2"], "the run's own recipe"),
        (["--resume", "--set", "seed=2"], "the run's own recipe"),
    ],
)
def test_wrong_usage_is_said_with_exit_code_2(data, tmp_path, arguments, what):
    result = command(data, "--out", tmp_path / "run", *arguments)
    assert result.exit_code == 2
    assert what in result.stderr


def test_an_unknown_key_is_a_mistake_of_configuration(data, tmp_path):
    with pytest.raises(ConfigurationError, match=r"unknown key `\$.epoch`, epochs is meant"):
        command(data, "--out", tmp_path / "run", "--set", "epoch=2")


def test_a_full_folder_is_refused_before_a_picture_is_read(data, folder, own_cache):
    before = sorted(own_cache.rglob("*"))
    with pytest.raises(RunError, match=r"new or empty folder; name another, or .* with --resume"):
        command(data, "--out", folder, "--size", 32)
    assert sorted(own_cache.rglob("*")) == before


def test_ctrl_c_leaves_whole_files_and_resume_goes_on(data, tmp_path):
    out = tmp_path / "run"
    train = [sys.executable, "-m", "transom", "train", str(data), "--out", str(out)]
    with subprocess.Popen(
        [*train, *QUICK, "--epochs", "100000"],
        stderr=subprocess.PIPE,
        text=True,
        # A shell lets what runs in its background ignore Ctrl-C, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as started:
        try:
            for line in started.stderr:
                if line.startswith("epoch 2/"):
                    break
            started.send_signal(signal.SIGINT)
            _, errors = started.communicate(timeout=60)
        finally:
            started.kill()
    assert started.returncode == 130, errors
    assert "Traceback" not in errors
    assert {path.name for path in out.iterdir()} == {RECIPE, "checkpoint.safetensors", "events"}


def test_the_help_shows_an_example():
    assert "transom train doors --out runs/first" in command("--help").output


def test_events_hold_each_epoch_s_figures_once(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def record(epoch, loss):
        return EpochRecord(
            epoch=epoch,
            seconds=1.0,
            images_per_s=1.0,
            learning_rate=0.1,
            loss={"state": loss},
            val_accuracy={},
        )

    for done, loss in ((0, 1.0), (1, 2.0)):
        events = Events(tmp_path, done)
        for epoch in range(done + 1, 4):
            events.add(record(epoch, loss))
        events.close()
    seen = EventAccumulator(str(tmp_path / "events"))
    seen.Reload()
    assert [(e.step, e.value) for e in seen.Scalars("state/loss")] == [(1, 1), (2, 2), (3, 2)]


def test_averaged_weights_begin_near_the_network_and_then_lag_behind():
    tasks = TaskSet([Task(name="state", classes=("closed", "open"))])
    network = build_network(Recipe(backbone="tiny", size=16), tasks)
    average = Average(network, steps=100)
    bias, mine = network.heads["state_head"].bias, average.network.heads["state_head"].bias
    with torch.no_grad():
        bias.fill_(1.0)
    for step in range(1, 2000):
        average.update(step)
    assert torch.allclose(mine, bias, atol=1e-4)
    with torch.no_grad():
        bias.fill_(2.0)
    average.update(2000)
    assert torch.allclose(mine, torch.full((2,), 1.01), atol=1e-3)


def test_a_memory_of_no_step_keeps_the_last_weights():
    tasks = TaskSet([Task(name="state", classes=("closed", "open"))])
    network = build_network(Recipe(backbone="tiny", size=16), tasks)
    average = Average(network, steps=0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1.0)
    average.update(1)
    mine = dict(average.network.named_parameters())
    assert all(torch.equal(p, mine[n]) for n, p in network.named_parameters())
    assert not any(p.requires_grad for p in mine.values())


def test_statistics_are_averaged_where_they_move_and_nothing_else_that_rests():
    tasks = TaskSet([Task(name="state", classes=("closed", "open"))])
    network = build_network(Recipe(backbone="tiny", size=16), tasks)
    rests = network.fusion.trunk.stages[0].requires_grad_(False).eval()
    average = Average(network, steps=0)
    resting, moving = dict(rests.named_buffers()), dict(network.fusion.embed.named_buffers())
    assert resting
    assert moving
    with torch.no_grad():
        for buffer in [*resting.values(), *moving.values(), *rests.parameters()]:
            buffer.add_(1)
    average.update(1)
    mine = average.network.fusion
    for name, buffer in mine.embed.named_buffers():
        assert torch.equal(buffer, moving[name]), name
    for name, tensor in mine.trunk.stages[0].state_dict().items():
        assert torch.equal(tensor + 1, rests.state_dict()[name]), name
    average.follow(network.train())
    average.update(2)
    for name, buffer in mine.trunk.stages[0].named_buffers():
        assert torch.equal(buffer, resting[name]), name
