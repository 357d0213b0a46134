import json
import subprocess
import sys

import pytest
import torch
from click.testing import CliRunner

from train.backbone_commands import backbones_command
from train.backbones import BACKBONES
from train.backbones.efficientnet_lite import load_weights
from train.backbones.layers import Convolution

OWN = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2", "tiny")


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("name", OWN)
def test_maps_have_the_channels_and_strides_that_the_registry_says(name):
    backbone = BACKBONES[name]
    maps = backbone.trunk(pretrained=False).eval()(torch.zeros(1, 3, 64, 64))
    assert tuple(m.shape[1] for m in maps) == backbone.channels
    assert tuple(64 // m.shape[2] for m in maps) == backbone.strides


@pytest.mark.parametrize("name", OWN)
def test_a_backbone_called_int8_friendly_has_only_such_layers(name):
    assert BACKBONES[name].int8_friendly
    trunk = BACKBONES[name].trunk(pretrained=False)
    kinds = {type(m) for m in trunk.modules() if not list(m.children())}
    allowed = {"Convolution", "BatchNorm2d", "ReLU6", "Identity"}
    assert {kind.__name__ for kind in kinds} <= allowed


@pytest.mark.parametrize("member", [0, 1, 2])
def test_efficientnet_lite_computes_what_the_package_computes(member):
    package = pytest.importorskip("efficientnet_lite_pytorch")
    torch.manual_seed(member)
    theirs = package.EfficientNet.from_name(f"efficientnet-lite{member}", image_size=64).eval()
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    trunk = BACKBONES[f"efficientnet_lite{member}"].trunk(pretrained=False).eval()
    load_weights(trunk, theirs.state_dict())
    bgr = torch.rand(2, 3, 64, 64) * 255
    with torch.no_grad():
        expected = theirs.extract_features((bgr.flip(1) - 127) / 128)
        torch.testing.assert_close(trunk(bgr)[-1], expected, rtol=1e-4, atol=1e-5)


def test_the_pretrained_weights_are_the_package_s():
    backbone = BACKBONES["efficientnet_lite0"]
    assert backbone.weights.licence == "Apache-2.0"
    stem = backbone.trunk(pretrained=True).stages[0][0]
    # ImageNet's first layer has filters that stand out; random ones of this size do not.
    assert stem.conv.weight.std() > 0.2
    assert not torch.equal(stem.norm.running_var, torch.ones(32))


def test_weights_of_another_network_are_refused():
    small = BACKBONES["efficientnet_lite0"].trunk(False)
    with pytest.raises((KeyError, ValueError)):
        load_weights(small, {"_conv_stem.weight": torch.zeros(32, 3, 3, 3)})


def test_a_backbone_without_weights_starts_from_random_ones():
    assert BACKBONES["tiny"].weights is None
    BACKBONES["tiny"].trunk(pretrained=True)


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (5, 1), (3, 2), (5, 2)])
def test_a_convolution_keeps_or_halves_the_size(kernel, stride):
    convolution = Convolution(3, 4, kernel, stride)
    assert convolution(torch.zeros(1, 3, 32, 32)).shape == (1, 4, 32 // stride, 32 // stride)


def test_importing_the_backbones_reads_no_package_of_weights():
    code = (
        "import sys, train.backbones;"
        "print([m for m in sys.modules if m.startswith(('efficientnet', 'torchvision', 'timm'))])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert answer.stdout.strip() == b"[]"


def test_the_command_lists_every_backbone_with_its_facts():
    done = CliRunner().invoke(backbones_command, ["--json"])
    facts = {entry["name"]: entry for entry in json.loads(done.stdout)}
    assert list(facts) == list(BACKBONES)
    for name, found in facts.items():
        backbone = BACKBONES[name]
        assert tuple(found["strides"]) == backbone.strides
        assert tuple(found["mean_bgr"]) == backbone.mean
        assert found["int8_friendly"] == backbone.int8_friendly
        assert (found["weights"] is None) == (backbone.weights is None)
    listed = CliRunner().invoke(backbones_command, []).output
    assert all(name in listed for name in BACKBONES)


def test_the_command_says_licence_and_whether_weights_come_along():
    page = CliRunner().invoke(backbones_command, ["efficientnet_lite0", "resnet18", "tiny"]).output
    assert "Apache-2.0" in page
    assert "BSD-3-Clause" in page
    assert "from a cache of this workstation" in page
    assert "none published" in page
