import math
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from export.parity import (
    Limits,
    TaskParity,
    check_float,
    check_fused,
    check_parity,
    compare,
    most_flips,
)
from transom.errors import ExportError
from transom.tasks import Task, TaskSet

STATE = TaskSet([Task(name="state", classes=("closed", "open"))])
GOOD = TaskParity(
    task="state",
    n=400,
    agreement=0.99,
    agreement_interval=(0.974, 0.996),
    confident_n=200,
    confident_agreement=1.0,
    confident_interval=(0.981, 1.0),
    labelled_n=400,
    float32_accuracy=0.9,
    int8_accuracy=0.898,
    drop=0.002,
    drop_interval=(-0.004, 0.008),
    worse=2,
    better=1,
    mcnemar_p=1.0,
)


def logits(classes: Sequence[int], lead: float = 8.0) -> dict[str, npt.NDArray[np.float32]]:
    return {"state": np.eye(2, dtype=np.float32)[np.asarray(classes, np.int64)] * np.float32(lead)}


def judge(
    before: Sequence[int],
    after: Sequence[int],
    truth: Sequence[int],
    groups: Sequence[str] | None = None,
    lead: float = 8.0,
) -> TaskParity:
    (parity,) = compare(
        STATE,
        logits(before, lead),
        logits(after),
        np.array([truth]).T,
        groups or [str(i) for i in range(len(truth))],
        Limits(),
    )
    return parity


def test_equal_networks_agree_and_lose_nothing() -> None:
    parity = judge([0, 1, 0, 1], [0, 1, 0, 1], [0, 1, 1, 1])
    assert (parity.agreement, parity.confident_agreement, parity.drop) == (1.0, 1.0, 0.0)
    assert parity.drop_interval == (0.0, 0.0)
    assert parity.mcnemar_p == 1.0
    check_parity([parity], Limits())


def test_counts_what_quantisation_changed() -> None:
    parity = judge([0, 0, 0, 1], [1, 1, 0, 0], [0, 1, 0, 1])
    assert parity.agreement == 0.25
    assert (parity.worse, parity.better) == (2, 1)
    assert parity.drop == pytest.approx(0.25)


def test_crops_without_a_label_count_for_agreement_and_not_for_accuracy() -> None:
    parity = judge([0, 0, 0, 1], [0, 0, 1, 1], [-1, -1, -1, 1])
    assert (parity.n, parity.labelled_n) == (4, 1)
    assert parity.agreement == 0.75
    assert parity.float32_accuracy == 1.0


def test_a_crop_of_which_float32_is_unsure_is_no_confident_one() -> None:
    parity = judge([0, 1], [1, 1], [0, 1], lead=0.5)
    assert parity.confident_n == 0
    assert parity.confident_agreement == 1.0


def test_the_interval_knows_that_the_crops_of_a_group_are_alike() -> None:
    before, truth = [0] * 40, [0] * 40
    after = [1] * 10 + [0] * 30
    alone = judge(before, after, truth)
    together = judge(before, after, truth, [f"door {i // 10}" for i in range(40)])
    width = [p.drop_interval[1] - p.drop_interval[0] for p in (alone, together)]
    assert width[1] > 1.5 * width[0]
    assert together.drop_interval[0] == 0.0  # one door of four: chance cannot be ruled out


def test_one_group_alone_still_has_an_interval() -> None:
    low, high = judge([0] * 40, [1] * 10 + [0] * 30, [0] * 40, ["door"] * 40).drop_interval
    assert low < 0.25 < high


@given(worse=st.integers(0, 60), better=st.integers(0, 60))
def test_mcnemar_is_the_exact_binomial_test(worse: int, better: int) -> None:
    count = worse + better
    parity = judge(
        [0] * worse + [1] * better + [0],
        [1] * worse + [0] * better + [0],
        [0] * (count + 1),
    )
    expected = binomtest(worse, count).pvalue if count else 1.0
    assert parity.mcnemar_p == pytest.approx(expected)


def test_refuses_to_compare_nothing() -> None:
    with pytest.raises(ValueError, match="at least one held-out crop"):
        compare(STATE, logits([]), logits([]), np.zeros((0, 1), np.int64), [], Limits())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"agreement": 0.97},
        {"n": 20, "agreement": 19 / 20},
        {"drop": 0.04, "drop_interval": (-0.001, 0.08)},
        {"drop": 0.005, "drop_interval": (0.003, 0.007)},
        {"confident_n": 11, "confident_agreement": 10 / 11},
        {"confident_n": 60, "confident_agreement": 59 / 60},
        {"confident_n": 400, "confident_agreement": 398 / 400},
        {"confident_n": 0},
    ],
)
def test_the_gate_lets_a_good_network_pass(changes: dict[str, object]) -> None:
    check_parity([GOOD, msgspec.structs.replace(GOOD, **changes)], Limits())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"agreement": 0.941},
            r"agrees with float32 on 94.1 % of `state` \(400 crops, .*\), 97.0 % required",
        ),
        ({"n": 20, "agreement": 18 / 20}, "agrees with float32 on 90.0 % of `state`"),
        (
            {"confident_agreement": 0.98},
            r"98.0 % of `state` where float32 is at least 80 % sure \(200 crops, .*\), 99.5 %",
        ),
        ({"confident_n": 60, "confident_agreement": 58 / 60}, "96.7 % of `state` where float32"),
        ({"confident_n": 10, "confident_agreement": 9 / 10}, "90.0 % of `state` where float32"),
        (
            {"confident_n": 4000, "confident_agreement": 0.994},
            "99.4 % of `state` where float32",
        ),
        (
            {"drop": 0.04, "drop_interval": (0.011, 0.07)},
            r"loses 4.0 points of accuracy on `state` \(95 % interval 1.1 to 7.0\), 0.5 allowed",
        ),
        (
            {"drop": 0.03, "drop_interval": (-0.001, 0.08), "worse": 30, "mcnemar_p": 0.002},
            "loses 3.0 points of accuracy on `state`",
        ),
    ],
)
def test_the_gate_says_which_limit_fails_on_which_task(
    changes: dict[str, object], says: str
) -> None:
    with pytest.raises(ExportError, match=f"^export stopped: .*{says}"):
        check_parity([GOOD, msgspec.structs.replace(GOOD, **changes)], Limits())


@given(count=st.integers(0, 5000), share=st.sampled_from([0.9, 0.97, 0.995, 1.0]))
def test_a_flip_more_than_the_share_allows_is_forgiven_only_where_it_is_no_evidence(
    count: int, share: float
) -> None:
    flips = most_flips(count, share)
    as_written = math.floor((1 - share) * count + 1e-9)
    assert as_written <= flips <= max(as_written, 1)
    if flips > as_written:
        assert binomtest(1, count, 1 - share, alternative="greater").pvalue >= 0.05


def test_a_larger_sample_never_allows_less() -> None:
    allowed = [most_flips(count, 0.995) for count in range(1000)]
    assert allowed == sorted(allowed)


def test_the_interval_of_the_agreement_is_that_of_wilson() -> None:
    parity = judge([0] * 50, [1] * 2 + [0] * 48, [0] * 50)
    expected = binomtest(48, 50).proportion_ci(method="wilson")
    assert parity.agreement_interval == pytest.approx((expected.low, expected.high), abs=1e-6)


@pytest.mark.parametrize(
    ("operators", "excluded", "says"),
    [
        ({"QLinearConv": 9}, 0, None),
        ({"QLinearConv": 9, "QuantizeLinear": 2}, 0, None),
        ({"QLinearConv": 8, "Conv": 1, "QuantizeLinear": 3}, 1, None),
        ({"QLinearConv": 8, "Conv": 1}, 0, "has 1 float convolutions, 0 allowed"),
        ({"QLinearConv": 8, "FusedConv": 2}, 1, "has 2 float convolutions, 1 allowed"),
        ({"QLinearConv": 9, "QuantizeLinear": 3}, 0, "has 3 quantize linear, 2 allowed"),
    ],
)
def test_a_graph_that_is_quantised_here_and_there_is_refused(
    operators: dict[str, int], excluded: int, says: str | None
) -> None:
    if says is None:
        check_fused(operators, Limits(), excluded=excluded)
        return
    with pytest.raises(ExportError, match=says):
        check_fused(operators, Limits(), excluded=excluded)


def test_a_graph_that_differs_from_torch_is_refused() -> None:
    right = {"state": np.array([[100.0, -50.0]], np.float32)}
    near = {"state": np.array([[100.001, -50.0]], np.float32)}
    far = {"state": np.array([[100.1, -50.0]], np.float32)}
    assert check_float(right, near, Limits()) == pytest.approx(1e-5, rel=0.01)
    with pytest.raises(ExportError, match=r"ONNX differs from torch by 0\.001 .* of `state`"):
        check_float(right, far, Limits())


def test_a_graph_that_gives_no_numbers_is_refused() -> None:
    right = {"state": np.array([[1.0, 2.0]], np.float32)}
    with pytest.raises(ExportError, match="ONNX differs from torch by nan"):
        check_float(right, {"state": np.array([[1.0, np.nan]], np.float32)}, Limits())
