"""Each fallback, on a network that INT8 really breaks in the way that it mends."""

from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from export.activations import added_errors, channel_peaks
from export.equalise import equalise
from export.fallbacks import Attempt, Quantizer, first_that_passes
from export.graph import export_graph
from export.parity import Limits, check_fused, check_parity, compare
from export.qat import FineTuning, RoundedNetwork, train_on
from export.quantize import Quantization, count_operators, quantize
from export.recipe import ExportRecipe, load_export_recipe
from train.backbones.layers import ConvUnit
from train.network import Network
from transom.errors import ConfigurationError, ExportError

Crops = npt.NDArray[np.uint8]
Outputs = Mapping[str, npt.NDArray[np.float32]]
RunGraph = Callable[..., Outputs]
Draw = Callable[..., tuple[Crops, npt.NDArray[np.int64]]]

QUICK = FineTuning(epochs=8, images=256, step_rate=0.1)


def spread_channels(network: Network, factor: float) -> Network:
    """Make every other channel of each convolution quieter, and heal that in the one behind it.

    ReLU6 never meets its 6 in the quiet ones: float32 hardly notices. INT8 has one step for loud
    and quiet ones.
    """
    units = [unit for stage in network.fusion.trunk.stages for unit in stage]  # type: ignore[union-attr]
    with torch.no_grad():
        for unit, after in pairwise(units):
            assert isinstance(unit, ConvUnit)
            unit.norm.weight[::2] /= factor
            unit.norm.bias[::2] /= factor
            after.conv.weight[:, ::2] *= factor
    return network


@pytest.fixture(scope="module")
def uneven(network: Network) -> bytes:
    """The graph of a network with quiet channels in every layer."""
    return export_graph(_copy(network, lambda n: spread_channels(n, 200.0)), network.tasks, 32)


@pytest.fixture(scope="module")
def loud(network: Network) -> bytes:
    """The graph of a network with one loud dimension in its embedding, which no head reads."""

    def shout(changed: Network) -> Network:
        with torch.no_grad():
            changed.fusion.embed.norm.bias[0] = 1e5  # type: ignore[union-attr, index, operator]
            for head in changed.heads.values():
                assert isinstance(head, nn.Linear)
                head.weight[:, 0] = 0.0
        return changed

    return export_graph(_copy(network, shout), network.tasks, 32)


def _copy(network: Network, change: Callable[[Network], Network]) -> Network:
    from copy import deepcopy

    return change(deepcopy(network))


class Gate:
    """Judges attempts as an export does, on 300 crops, and remembers what it was told."""

    def __init__(self, graph: bytes, network: Network, draw: Draw, run_graph: RunGraph) -> None:
        self.tasks, self.told = network.tasks, list[str]()
        self._graph, self._run = graph, run_graph
        self._crops, self._targets = draw(300, seed=40)
        self.train, _ = draw(256, seed=41)
        self._float32 = run_graph(graph, self._crops)

    def choose(self, recipe: ExportRecipe) -> Attempt:
        quantizer = Quantizer(
            self._graph,
            self.tasks,
            lambda count: self.train[:count],
            lambda crops: self._run(self._graph, crops),
            recipe,
        )
        return first_that_passes(quantizer, self.check, self.told.append)

    def check(self, attempt: Attempt) -> Attempt:
        limits = Limits()
        check_fused(count_operators(attempt.model), limits, excluded=attempt.excluded)
        int8 = self._run(attempt.model, self._crops)
        groups = [str(number) for number in range(len(self._crops))]
        check_parity(
            compare(self.tasks, self._float32, int8, self._targets, groups, limits), limits
        )
        return attempt


@pytest.fixture
def gate_of(network: Network, draw_crops: Draw, run_graph: RunGraph) -> Callable[[bytes], Gate]:
    return lambda graph: Gate(graph, network, draw_crops, run_graph)


def test_a_good_network_needs_no_fallback(
    gate_of: Callable[[bytes], Gate], float_graph: bytes
) -> None:
    gate = gate_of(float_graph)
    assert gate.choose(ExportRecipe()).fallback is None
    assert gate.told == []


def test_more_calibration_mends_ranges_that_too_few_crops_have_shown(
    gate_of: Callable[[bytes], Gate], float_graph: bytes
) -> None:
    gate = gate_of(float_graph)
    # The first crop is the grey that the network subtracts: it shows the range of nothing.
    gate.train = np.concatenate([np.full_like(gate.train[:1], 127), gate.train])
    chosen = gate.choose(ExportRecipe(quantization=Quantization(images=1), more_images=64))
    assert (chosen.fallback, chosen.excluded) == ("more_calibration", 0)
    assert gate.told[0].startswith("INT8 does not pass (1 calibration crops): INT8 agrees")
    assert gate.told[1] == "fallback more_calibration passes: 64 calibration crops"


def test_the_layer_that_destroys_most_is_found_and_left_in_float(
    gate_of: Callable[[bytes], Gate], loud: bytes
) -> None:
    gate = gate_of(loud)
    chosen = gate.choose(ExportRecipe(quantization=Quantization(images=32), more_images=64))
    assert (chosen.fallback, chosen.excluded) == ("excluded_layers", 1)
    assert count_operators(chosen.model)["Conv"] + count_operators(chosen.model)["FusedConv"] == 1
    assert "more_calibration does not pass" in gate.told[1]


def test_equalisation_mends_quiet_channels_in_every_layer(
    gate_of: Callable[[bytes], Gate], uneven: bytes, calibrations: list[int]
) -> None:
    gate = gate_of(uneven)
    chosen = gate.choose(ExportRecipe(more_images=64))
    assert (chosen.fallback, chosen.excluded) == ("equalisation", 0)
    assert len(calibrations) == 2  # one a graph, though three layers were left out of the first
    assert [told.split(" (")[0] for told in gate.told[-4:-1]] == [
        "fallback excluded_layers does not pass"
    ] * 3


def test_training_on_learns_the_ranges_that_calibration_has_shown_too_narrow(
    gate_of: Callable[[bytes], Gate], float_graph: bytes
) -> None:
    gate = gate_of(float_graph)
    # Fog: a crop of little contrast shows a part of every range, and there is no other to show.
    fog = (127 + 0.15 * (gate.train[:1].astype(np.float64) - 127)).astype(np.uint8)
    gate.train = np.concatenate([fog, gate.train])
    one = Quantization(images=1)
    recipe = ExportRecipe(quantization=one, more_images=1, most_excluded=1, qat=QUICK)
    chosen = gate.choose(recipe)
    assert (chosen.fallback, chosen.excluded) == ("qat", 0)
    assert [told.split(" does not")[0] for told in gate.told[:-1]] == [
        "INT8",
        "fallback excluded_layers",
        "fallback equalisation",
    ]
    assert count_operators(chosen.model)["QLinearConv"] == 9


def test_fallbacks_that_do_not_help_are_all_named(
    gate_of: Callable[[bytes], Gate], uneven: bytes
) -> None:
    gate = gate_of(uneven)
    recipe = ExportRecipe(
        quantization=Quantization(images=64),
        fallbacks=("more_calibration", "excluded_layers"),
        more_images=128,
        most_excluded=1,
    )
    with pytest.raises(
        ExportError, match=r"INT8 \(64 .*; then fallback more_calibration .*float32"
    ):
        gate.choose(recipe)
    assert len(gate.told) == 3


def test_equalised_channels_are_alike_and_the_network_is_the_same(
    uneven: bytes, run_graph: RunGraph, draw_crops: Draw
) -> None:
    crops = draw_crops(48, seed=42)[0]
    equalised = equalise(uneven, crops)
    for name, values in run_graph(uneven, crops).items():
        np.testing.assert_allclose(
            run_graph(equalised, crops)[name], values, atol=1e-4 * np.abs(values).max()
        )
    tensor = next(iter(_read_by_convolutions(uneven)))
    before, after = (channel_peaks(g, [tensor], crops)[tensor] for g in (uneven, equalised))
    alive = before > 0
    assert np.ptp(np.log(after[alive])) < 0.7 * np.ptp(np.log(before[alive]))


def test_the_error_of_a_layer_knows_the_channels_that_a_loud_one_hides(
    network: Network, loud: bytes, draw_crops: Draw
) -> None:
    crops = draw_crops(32, seed=43)[0]
    errors = added_errors(loud, quantize(loud, network.tasks, crops), crops[:16])
    worst, second, *_ = errors.values()
    assert worst > 0.5 > 10 * second


def test_rounding_in_torch_is_rounding_in_onnxruntime(
    int8_graph: bytes, run_graph: RunGraph, draw_crops: Draw
) -> None:
    crops = draw_crops(32, seed=44)[0]
    with torch.no_grad():
        ours = RoundedNetwork(int8_graph)(torch.tensor(crops))
    for name, values in run_graph(int8_graph, crops).items():
        np.testing.assert_allclose(ours[name].numpy(), values, atol=0.02 * np.ptp(values))


def test_a_graph_that_has_learnt_nothing_is_written_back_as_it_was(
    int8_graph: bytes, run_graph: RunGraph, draw_crops: Draw
) -> None:
    crops = draw_crops(16, seed=45)[0]
    before = run_graph(int8_graph, crops)
    for name, values in run_graph(RoundedNetwork(int8_graph).graph(), crops).items():
        np.testing.assert_array_equal(values, before[name])


def test_a_channel_that_is_only_its_bias_stays_so_when_written_back(
    network: Network, run_graph: RunGraph, draw_crops: Draw
) -> None:
    def quench(changed: Network) -> Network:
        unit = changed.fusion.trunk.stages[1][0]  # type: ignore[union-attr, index]
        with torch.no_grad():
            unit.norm.weight[:4] = 1e-9
            unit.norm.bias[:4] = 3.0
        return changed

    crops = draw_crops(32, seed=47)[0]
    int8 = quantize(export_graph(_copy(network, quench), network.tasks, 32), network.tasks, crops)
    again = run_graph(RoundedNetwork(int8).graph(), crops)
    for name, values in run_graph(int8, crops).items():
        np.testing.assert_allclose(again[name], values, atol=0.02 * np.ptp(values))


def test_training_on_never_takes_what_answers_less_alike(
    network: Network, int8_graph: bytes, float_graph: bytes, run_graph: RunGraph, draw_crops: Draw
) -> None:
    crops = draw_crops(32, seed=46)[0]
    much_too_fast = FineTuning(epochs=1, learning_rate=1.0, step_rate=0.5)
    after = train_on(int8_graph, network.tasks, crops, run_graph(float_graph, crops), much_too_fast)
    np.testing.assert_array_equal(
        run_graph(after, crops)["state"], run_graph(int8_graph, crops)["state"]
    )


def test_the_recipe_of_an_export_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "export.toml"
    path.write_text('fallbacks = ["qat"]\n[limits]\ndrop = 0.002\n[qat]\nepochs = 9\n')
    recipe = load_export_recipe(path)
    assert (recipe.fallbacks, recipe.limits.drop, recipe.qat.epochs) == (("qat",), 0.002, 9)
    assert recipe.limits.agreement == 0.97
    path.write_text("[limits]\ndrops = 0.002\n")
    with pytest.raises(ConfigurationError, match=r"export.toml: .*drops`, drop is meant"):
        load_export_recipe(path)


def _read_by_convolutions(graph: bytes) -> list[str]:
    import onnx

    nodes = onnx.load_from_string(graph).graph.node
    made = {name for node in nodes if node.op_type == "Clip" for name in node.output}
    return [node.input[0] for node in nodes if node.op_type == "Conv" and node.input[0] in made]
