from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import safetensors.torch
import torch
from click.testing import CliRunner

from tests.conftest import MakeDataset
from train.backbones import BACKBONES
from train.engine import Engine
from train.mutual import Learner
from train.network import build_network, to_image
from train.pretrain import Pretraining, pretrain_autoencoder, spoil
from train.pretrain_commands import pretrain_command
from train.recipe import Recipe
from train.reconstruction import Decoder, Reconstruction
from transom.errors import ConfigurationError, DatasetError
from transom.tasks import Task, TaskSet

TASKS = TaskSet([Task(name="state", classes=("closed", "open"))])


pytestmark = pytest.mark.usefixtures("one_thread")


def blobs(count: int, size: int = 32) -> npt.NDArray[np.uint8]:
    """Draw bright discs on plain walls, (N, S, S, 3) uint8."""
    random = np.random.default_rng(4)
    crops = np.empty((count, size, size, 3), np.uint8)
    for crop in crops:
        crop[:] = random.integers(20, 120, 3)
        centre = [int(value) for value in random.integers(8, size - 8, 2)]
        cv2.circle(crop, centre, 6, [int(value) for value in random.integers(150, 255, 3)], -1)
    return crops


SETTINGS = Pretraining(epochs=12, batch=16, learning_rate=3e-3)


def test_a_pretrained_trunk_is_what_a_recipe_starts_from(tmp_path: Path) -> None:
    crops, path = blobs(32), tmp_path / "trunk.safetensors"
    result = pretrain_autoencoder("autoencoder", crops, path, settings=SETTINGS)
    assert result.losses[-1] < 0.5 * result.losses[0]
    recipe = Recipe(backbone="autoencoder", size=32, pretrained=str(path))
    network = build_network(recipe, TASKS)
    assert len(network.fusion.pretrained_stages()) == 5
    saved = safetensors.torch.load_file(path)
    mine = {name.partition("trunk.")[2]: v for name, v in network.state_dict().items()}
    assert all(torch.equal(mine[name], value) for name, value in saved.items())


def test_every_stage_of_the_trunk_learns_and_not_the_decoder_alone(tmp_path: Path) -> None:
    start, end = tmp_path / "start.safetensors", tmp_path / "end.safetensors"
    settings = Pretraining(epochs=1, batch=8)
    pretrain_autoencoder("tiny", blobs(8), start, settings=settings)
    pretrain_autoencoder("tiny", blobs(8), end, pretrained=start, settings=settings)
    before, after = safetensors.torch.load_file(start), safetensors.torch.load_file(end)
    weights = [name for name in before if name.endswith("conv.weight")]
    assert len(weights) == 8
    for name in weights:
        assert 1e-4 < (after[name] - before[name]).abs().max() < 0.1  # from there, and not far


def test_the_same_seed_gives_the_same_trunk(tmp_path: Path) -> None:
    settings = Pretraining(epochs=1, batch=8)
    paths = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for path in paths:
        torch.rand(3)  # what happened before does not matter
        pretrain_autoencoder("tiny", blobs(16), path, settings=settings)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_progress_counts_the_steps(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    pretrain_autoencoder(
        "tiny",
        blobs(9),
        tmp_path / "t.safetensors",
        settings=Pretraining(epochs=2, batch=4),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_spoiling_hides_about_the_share_that_is_asked_for() -> None:
    image = torch.full((64, 3, 32, 32), 200.0)
    random = torch.Generator().manual_seed(1)
    spoilt = spoil(image, Pretraining(hidden=0.3, noise=8.0), random)
    hidden = (spoilt == 127.0).all(1)
    assert 0.25 < hidden.float().mean() < 0.35
    rest = spoilt.permute(0, 2, 3, 1)[~hidden]
    assert abs(rest.mean() - 200.0) < 1.0
    assert 7.0 < rest.std() < 9.0


def test_spoiling_nothing_leaves_the_picture_alone() -> None:
    image = torch.rand(2, 3, 32, 32) * 255
    settings = Pretraining(hidden=0.0, noise=0.0)
    assert torch.equal(spoil(image, settings, torch.Generator()), image)


@pytest.mark.parametrize(("stride", "side", "size"), [(4, 8, 32), (32, 1, 32), (32, 1, 75)])
def test_a_decoder_paints_in_the_size_of_the_picture(stride: int, side: int, size: int) -> None:
    picture = Decoder(24, stride)(torch.zeros(2, 24, side, side), size)
    assert picture.shape == (2, 3, size, size)


def test_reconstruction_costs_each_picture_its_own_difference() -> None:
    trunk = BACKBONES["tiny"].trunk(False).eval()
    task = Reconstruction(BACKBONES["tiny"]).eval()
    torch.nn.init.zeros_(task.decoder.paint.weight)
    assert task.decoder.paint.bias is not None
    torch.nn.init.zeros_(task.decoder.paint.bias)
    truth = torch.stack([torch.full((3, 32, 32), 127.0), torch.full((3, 32, 32), 255.0)])
    loss = task(trunk, trunk(truth)[-1], truth)
    torch.testing.assert_close(loss, torch.tensor([0.0, 1.0]))


def test_one_picture_is_too_few(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="at least 2 pictures, got 1"):
        pretrain_autoencoder("tiny", blobs(1), tmp_path / "t.safetensors")


def test_pictures_that_are_too_small_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="at least 75"):
        pretrain_autoencoder("inception_v3", blobs(2), tmp_path / "t.safetensors")


def beside_labels(**values: object) -> Learner:
    recipe = Recipe(backbone="tiny", size=32, pretrained=False, embedding=16, reconstruction=1.0)
    return Learner.begin(recipe.with_values(values), TASKS, Engine.start("float32"))


def test_painting_again_teaches_the_trunk_where_no_row_has_a_label() -> None:
    learner, image = beside_labels(), to_image(torch.from_numpy(blobs(16)))
    optimiser = torch.optim.AdamW(learner.parameters(), lr=3e-3)
    learner.network.train()
    trunk = learner.network.fusion.trunk
    before = next(trunk.parameters()).detach().clone()
    losses = []
    for _ in range(40):
        _, _, painting = learner.look(learner.network, image)
        optimiser.zero_grad()
        torch.autograd.backward(painting)
        optimiser.step()
        losses.append(float(painting.detach()))
    assert losses[-1] < 0.5 * losses[0]
    assert not torch.equal(next(trunk.parameters()), before)


def test_what_paints_is_not_part_of_the_network_and_watches_one_look_only() -> None:
    learner = beside_labels()
    plain = build_network(Recipe(backbone="tiny", size=32, embedding=16), TASKS, pretrained=False)
    assert learner.network.state_dict().keys() == plain.state_dict().keys()
    learner.look(learner.network, torch.zeros(2, 3, 32, 32))
    assert not any(module._forward_hooks for module in learner.network.modules())


def test_every_trunk_of_a_network_paints() -> None:
    tasks = TaskSet([*TASKS, Task(name="kind", classes=("door", "window"))])
    recipe = Recipe(backbone="tiny", size=32, embedding=16, fusion="cross_stitch", reconstruction=1)
    learner = Learner.begin(recipe, tasks, Engine.start("float32"))
    assert learner.painters is not None
    assert len(learner.painters.tasks) == 2
    assert learner.look(learner.network, torch.zeros(2, 3, 32, 32))[2] > 0


def test_nothing_paints_unless_the_recipe_says_so() -> None:
    learner = beside_labels(reconstruction=0.0)
    assert learner.painters is None
    assert learner.look(learner.network, torch.zeros(2, 3, 32, 32))[2] == 0


def test_the_command_pretrains_on_rows_without_labels_and_leaves_test_out(
    make_dataset: MakeDataset, tmp_path: Path
) -> None:
    data, out = make_dataset(splits=("train", "val", "test")), tmp_path / "trunk.safetensors"
    header, *lines = (data / "labels.csv").read_text().splitlines()
    tasks = sum(column in ("kind", "state") for column in header.split(","))
    bare = [line.rsplit(",", tasks)[0] + "," * tasks for line in lines]
    (data / "labels.csv").write_text("\n".join([header, *bare]) + "\n")
    arguments = [str(data), "--out", str(out), "--backbone", "tiny", "--size", "32"]
    done = CliRunner().invoke(pretrain_command, [*arguments, "--epochs", "2"])
    assert done.exit_code == 0, done.output
    assert "trunk of tiny" in done.output
    recipe = Recipe(backbone="tiny", size=32, pretrained=str(out))
    assert len(build_network(recipe, TASKS).fusion.pretrained_stages()) == 4
    only_test = make_dataset("unseen", splits=("test",))
    refused = CliRunner().invoke(pretrain_command, [str(only_test), *arguments[1:]])
    assert isinstance(refused.exception, DatasetError)
