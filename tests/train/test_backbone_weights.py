import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import safetensors.torch
import torch

from train.backbones import BACKBONES
from train.backbones.library import import_library
from train.backbones.trunk import IMAGENET_MEAN, IMAGENET_STD, read_tensors
from train.network import build_network
from train.recipe import Recipe
from transom.errors import ConfigurationError
from transom.tasks import Task, TaskSet

CHECKPOINT = "resnet18-f37072fd.pth"
TASKS = TaskSet([Task(name="state", classes=("closed", "open"))])


@pytest.fixture(autouse=True)
def empty_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Caches of torch.hub and of the Hugging Face hub that hold nothing yet."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    yield tmp_path
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def published() -> Any:
    """A ResNet-18 of timm with weights and statistics of its own, and a classifier."""
    torch.manual_seed(3)
    model = import_library("timm", "a test").create_model("resnet18", pretrained=False)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    return model.eval()


def hub_file(folder: Path, name: str = CHECKPOINT) -> Path:
    path = folder / "torch" / "hub" / "checkpoints" / name
    path.parent.mkdir(parents=True)
    return path


def expected(published: Any, bgr: torch.Tensor) -> torch.Tensor:
    mean, std = (
        torch.tensor(values[::-1]).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD)
    )
    with torch.no_grad():
        features: torch.Tensor = published.forward_features((bgr.flip(1) - mean) / std)
    return features


def test_a_checkpoint_in_the_cache_of_torch_hub_is_used(empty_caches: Path, published: Any) -> None:
    torch.save(published.state_dict(), hub_file(empty_caches))
    trunk = BACKBONES["resnet18"].trunk(pretrained=True).eval()
    bgr = torch.rand(2, 3, 64, 64) * 255
    with torch.no_grad():
        torch.testing.assert_close(trunk(bgr)[-1], expected(published, bgr), rtol=1e-4, atol=1e-4)
    assert list(trunk.pretrained_parts) == list(trunk.stages)


def test_a_model_in_the_hugging_face_cache_is_used(empty_caches: Path, published: Any) -> None:
    folder = empty_caches / "hub" / "models--timm--resnet18.tv_in1k"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0123")
    (folder / "snapshots" / "0123").mkdir(parents=True)
    safetensors.torch.save_file(
        published.state_dict(), folder / "snapshots" / "0123" / "model.safetensors"
    )
    stem = BACKBONES["resnet18"].trunk(pretrained=True).stages[0][0]  # type: ignore[index]
    assert torch.equal(stem.weight, published.conv1.weight.flip(1))


def test_a_file_with_published_names_is_used_where_a_recipe_names_it(
    tmp_path: Path, published: Any
) -> None:
    path = tmp_path / "mine.safetensors"
    safetensors.torch.save_file(published.state_dict(), path)
    recipe = Recipe(backbone="resnet18", pretrained=str(path))
    network = build_network(recipe, TASKS)
    assert len(network.fusion.pretrained_stages()) == 5
    weights = [p for p in network.parameters() if p.shape == published.conv1.weight.shape]
    assert torch.equal(weights[0], published.conv1.weight.flip(1))


def test_attention_in_every_block_starts_fresh_on_published_weights(
    empty_caches: Path, published: Any
) -> None:
    torch.save(published.state_dict(), hub_file(empty_caches))
    trunk = BACKBONES["resnet18_cbam"].trunk(pretrained=True)
    weight = trunk.get_parameter("stages.2.0.0.conv1.weight")
    assert torch.equal(weight, published.layer2[0].conv1.weight)
    assert list(trunk.pretrained_parts) == []


def test_what_is_built_on_a_pretrained_trunk_counts_as_new() -> None:
    trunk = BACKBONES["efficientnet_lite0_attention"].trunk(pretrained=True)
    assert list(trunk.pretrained_parts) == list(trunk.stages)[:-1]
    plain = BACKBONES["efficientnet_lite0"].trunk(pretrained=True)
    image = torch.rand(1, 3, 64, 64) * 255
    with torch.no_grad():
        torch.testing.assert_close(trunk.eval()(image)[-2], plain.eval()(image)[-1])


def test_weights_that_are_not_here_are_named_and_never_fetched() -> None:
    with pytest.raises(ConfigurationError, match=r"timm/resnet18\.tv_in1k.*pretrained = false"):
        BACKBONES["resnet18"].trunk(pretrained=True)


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({"conv1.weight": torch.zeros(64, 3, 7, 7)}, "it lacks"),
        ({"conv1.weight": torch.zeros(8, 3, 7, 7), "odd.weight": torch.zeros(1)}, "it lacks"),
        ({"stages.0.0.weight": torch.zeros(1)}, "stages"),
    ],
)
def test_weights_of_another_network_are_refused(
    tmp_path: Path, tensors: dict[str, torch.Tensor], says: str
) -> None:
    path = tmp_path / "other.safetensors"
    safetensors.torch.save_file(tensors, path)
    with pytest.raises(ConfigurationError, match=rf"other\.safetensors.*resnet18(.|\n)*{says}"):
        BACKBONES["resnet18"].trunk(pretrained=path)


def test_a_larger_network_of_the_family_is_refused(tmp_path: Path, published: Any) -> None:
    path = tmp_path / "more.safetensors"
    extra = {"layer4.2.conv1.weight": torch.zeros(512, 512, 3, 3)}
    safetensors.torch.save_file({**published.state_dict(), **extra}, path)
    with pytest.raises(ConfigurationError, match=r"layer4\.2\.conv1\.weight"):
        BACKBONES["resnet18"].trunk(pretrained=path)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Surprise:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "surprise"),)

    path = tmp_path / "surprise.pth"
    path.write_bytes(pickle.dumps({"conv1.weight": Surprise()}, protocol=2))
    with pytest.raises(ConfigurationError, match="cannot be read as weights"):
        read_tensors(path)
    assert not (tmp_path / "surprise").exists()


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.safetensors"):
        BACKBONES["tiny"].trunk(pretrained=tmp_path / "none.safetensors")


@pytest.mark.parametrize("name", ["timm", "torchvision.models.segmentation.deeplabv3"])
def test_a_missing_library_is_named_with_what_to_install(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigurationError, match=r"pip install 'transom\[backbones\]'"):
        BACKBONES["deeplabv3plus"].trunk(pretrained=False)


def test_crops_that_are_too_small_for_a_backbone_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"at least 75 .*'inception_v3', got 64"):
        build_network(Recipe(backbone="inception_v3", size=64, pretrained=False), TASKS)


def test_real_operators_of_torchvision_are_never_replaced() -> None:
    code = """
import torch
library = torch.library.Library("torchvision", "FRAGMENT")
library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
library.impl("nms", lambda dets, scores, iou_threshold: scores + 1, "CPU")
from train.backbones.torchvision_operators import prepare_torchvision
prepare_torchvision()
prepare_torchvision()
print(torch.ops.torchvision.nms(torch.zeros(1, 4), torch.ones(1), 0.5).item())
print(hasattr(torch.ops.torchvision, "qnms"))
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert answer.stdout.split() == [b"2.0", b"True"]
