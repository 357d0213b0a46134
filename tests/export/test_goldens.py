from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import pytest

from export.goldens import LEAST, make_goldens
from export.goldens import _choose as choose
from train.network import Network

RunGraph = Callable[..., Mapping[str, npt.NDArray[np.float32]]]
Draw = Callable[..., tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]]
Answer = Callable[[npt.NDArray[np.uint8]], dict[str, npt.NDArray[np.float32]]]


@pytest.fixture
def answer(int8_graph: bytes, run_graph: RunGraph) -> Answer:
    def run(crops: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.float32]]:
        outputs = run_graph(int8_graph, crops)
        return {name: outputs[name] for name in ("kind", "state")}

    return run


def test_goldens_cover_every_class_and_are_not_too_few(
    network: Network, int8_graph: bytes, answer: Answer, draw_crops: Draw
) -> None:
    crops, targets = draw_crops(40, seed=11)
    goldens = make_goldens(int8_graph, answer, network.tasks, crops, targets)
    chosen = [np.flatnonzero((crops == crop).all(axis=(1, 2, 3)))[0] for crop in goldens.crops]
    assert len(chosen) >= LEAST
    assert [set(column) for column in targets[chosen].T.tolist()] == [{0, 1}, {0, 1, 2}]


def test_goldens_hold_what_the_network_answers(
    network: Network, int8_graph: bytes, answer: Answer, draw_crops: Draw
) -> None:
    goldens = make_goldens(int8_graph, answer, network.tasks, *draw_crops(20, seed=12))
    for task, values in answer(goldens.crops).items():
        np.testing.assert_array_equal(goldens.logits[task], values)


def test_a_permitted_difference_changes_the_class_of_no_golden(
    network: Network, int8_graph: bytes, answer: Answer, draw_crops: Draw
) -> None:
    goldens = make_goldens(int8_graph, answer, network.tasks, *draw_crops(40, seed=13))
    for values in goldens.logits.values():
        ordered = np.sort(values, axis=1)
        assert ((ordered[:, -1] - ordered[:, -2]) > 2 * goldens.tolerance).all()


def test_a_crop_that_is_not_sure_is_no_golden_even_alone_of_its_class() -> None:
    targets = np.array([[0], [0], [1], [0]])
    sure = np.array([True, True, False, True])
    assert choose(targets, sure).tolist() == [0, 1, 3]
    assert choose(targets, ~sure).tolist() == [2]
    assert choose(targets, np.zeros(4, bool)).tolist() == [0, 1, 2, 3]


def test_the_tolerance_tells_a_broken_network_from_another_machine(
    network: Network,
    float_graph: bytes,
    int8_graph: bytes,
    answer: Answer,
    run_graph: RunGraph,
    draw_crops: Draw,
) -> None:
    goldens = make_goldens(int8_graph, answer, network.tasks, *draw_crops(40, seed=14))
    wrong_channels = run_graph(float_graph, np.ascontiguousarray(goldens.crops[..., ::-1]))
    largest = max(
        np.abs(wrong_channels[task] - goldens.logits[task]).max() for task in goldens.logits
    )
    assert goldens.tolerance < 0.1 * largest


def test_few_crops_are_all_goldens(
    network: Network, int8_graph: bytes, answer: Answer, draw_crops: Draw
) -> None:
    goldens = make_goldens(int8_graph, answer, network.tasks, *draw_crops(3, seed=15))
    assert len(goldens.crops) == 3


def test_refuses_to_make_goldens_of_nothing(
    network: Network, int8_graph: bytes, answer: Answer
) -> None:
    with pytest.raises(ValueError, match="at least one crop"):
        make_goldens(
            int8_graph,
            answer,
            network.tasks,
            np.zeros((0, 32, 32, 3), np.uint8),
            np.zeros((0, 2), np.int64),
        )
