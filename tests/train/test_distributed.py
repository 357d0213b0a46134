import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import safetensors.numpy
import torch
from torch import nn

from train.checkpoint import NAME as CHECKPOINT
from train.run import WEIGHTS, read_run
from train.shared_norm import SharedNorm, share_norms

_SCRIPT = Path(__file__).with_name("distributed_trainings.py")


def load_trainings() -> ModuleType:
    spec = importlib.util.spec_from_file_location("distributed_trainings", _SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of the same trainings, whole and cut short, by one process and by two."""
    folder = tmp_path_factory.mktemp("trained")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    trainings = load_trainings()
    trainings.train_whole(trainings.RECIPE, folder / "one")
    trainings.train_part(trainings.RECIPE, folder / "begun-by-one")
    trainings.train_whole(trainings.PRETRAINED, folder / "pretrained-one")
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *launch, str(_SCRIPT), str(folder)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Warning" not in done.stderr
    assert (folder / "begun-by-two" / CHECKPOINT).is_file()
    trainings.resume(trainings.RECIPE, folder / "begun-by-two")
    torch.set_num_threads(before)
    return folder


@pytest.mark.parametrize("name", ["two", "begun-by-one", "begun-by-two", "pretrained-two"])
def test_two_processes_train_what_one_does(trained: Path, name: str) -> None:
    one = "pretrained-one" if name.startswith("pretrained") else "one"
    expected = safetensors.numpy.load_file(trained / one / WEIGHTS)
    found = safetensors.numpy.load_file(trained / name / WEIGHTS)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-3, atol=2e-4, err_msg=key)


def test_two_processes_say_what_one_says_of_each_epoch(trained: Path) -> None:
    one, two = (read_run(trained / name).results.history for name in ("one", "two"))
    assert len(one) == len(two) == 3
    for mine, theirs in zip(one, two, strict=True):
        assert mine.loss == pytest.approx(theirs.loss, rel=1e-3)
        assert mine.val_accuracy == theirs.val_accuracy


def test_a_run_states_how_many_processes_made_it(trained: Path) -> None:
    assert [read_run(trained / name).facts.processes for name in ("one", "two")] == [1, 2]


def test_a_shared_normalisation_keeps_names_parameters_and_evaluation() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()))
    image = torch.randn(2, 3, 8, 8)
    network(image)
    expected, state = network.eval()(image), network.state_dict()
    parameters = list(network.parameters())
    share_norms(network)
    assert isinstance(network[1][0], SharedNorm)
    assert list(network.state_dict()) == list(state)
    assert all(a is b for a, b in zip(network.parameters(), parameters, strict=True))
    assert torch.equal(network(image), expected)
