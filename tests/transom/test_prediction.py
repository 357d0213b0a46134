import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from transom.manifest import TaskSpec, UnknownRule
from transom.prediction import UNKNOWN_INDEX, energy, predict, softmax

Floats = npt.NDArray[np.float32]


def spec(
    thresholds: tuple[float, ...] = (0.5, 0.5, 0.5), max_energy: float | None = None
) -> TaskSpec:
    return TaskSpec(
        name="state",
        classes=("closed", "ajar", "open"),
        thresholds=thresholds,
        unknown=UnknownRule(max_energy=max_energy),
    )


logits = arrays.arrays(
    np.float32, st.tuples(st.integers(0, 5), st.just(3)), elements=st.floats(-200, 200, width=32)
)


@given(logits)
def test_probabilities_are_those_of_the_textbook(values: Floats) -> None:
    probabilities = softmax(values)
    exponentials = np.exp(values.astype(np.longdouble))
    expected = exponentials / exponentials.sum(axis=1, keepdims=True)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, expected.astype(np.float64), rtol=1e-4, atol=1e-7)


@given(logits)
def test_probabilities_have_no_error_of_their_own_in_the_last_bits(values: Floats) -> None:
    exponentials = np.exp(values.astype(np.longdouble) - values.max(axis=1, keepdims=True))
    expected = (exponentials / exponentials.sum(axis=1, keepdims=True)).astype(np.float32)
    np.testing.assert_array_max_ulp(softmax(values), expected, maxulp=1)


@given(logits)
def test_energy_is_minus_the_log_of_the_sum_of_exponentials(values: Floats) -> None:
    expected = -np.log(np.exp(values.astype(np.longdouble)).sum(axis=1))
    assert energy(values).dtype == np.float32
    np.testing.assert_allclose(energy(values), expected.astype(np.float64), rtol=1e-4, atol=1e-4)


@given(logits, st.floats(-50, 50, width=32))
def test_adding_to_every_logit_changes_the_energy_and_no_probability(
    values: Floats, more: float
) -> None:
    shifted = (values + np.float32(more)).astype(np.float32)
    np.testing.assert_allclose(softmax(shifted), softmax(values), atol=1e-4)
    np.testing.assert_allclose(energy(shifted), energy(values) - np.float32(more), atol=1e-3)


@given(logits)
def test_a_prediction_has_one_entry_a_picture(values: Floats) -> None:
    prediction = predict(values, spec())
    assert prediction.probabilities.shape == values.shape
    assert prediction.energy.shape == prediction.classes.shape == (len(values),)
    assert prediction.classes.dtype == np.int64


def test_each_class_has_its_own_threshold() -> None:
    values = np.log(np.array([[0.6, 0.3, 0.1], [0.1, 0.6, 0.3], [0.1, 0.3, 0.6]], np.float32))
    prediction = predict(values, spec(thresholds=(0.5, 0.7, 0.6)))
    assert prediction.classes.tolist() == [0, UNKNOWN_INDEX, 2]


def test_a_threshold_of_zero_believes_everything_finite() -> None:
    values = np.zeros((2, 3), np.float32)
    assert predict(values, spec(thresholds=(0.0, 0.0, 0.0))).classes.tolist() == [0, 0]


def test_a_picture_unlike_training_is_unknown_however_sure_the_network_is() -> None:
    values = np.array([[9.0, 0.0, 0.0], [1.0, -8.0, -8.0]], np.float32)
    prediction = predict(values, spec(max_energy=-5.0))
    assert prediction.probabilities[1].max() > 0.99
    assert prediction.classes.tolist() == [0, UNKNOWN_INDEX]


@pytest.mark.parametrize(
    "row",
    [[np.nan, 0.0, 0.0], [np.nan] * 3, [np.inf, 0.0, 0.0], [np.inf] * 3, [-np.inf] * 3],
)
@pytest.mark.parametrize("max_energy", [None, 0.0])
def test_a_network_gone_wrong_is_unknown(row: list[float], max_energy: float | None) -> None:
    rule = spec(thresholds=(0.0, 0.0, 0.0), max_energy=max_energy)
    assert predict(np.array([row], np.float32), rule).classes.tolist() == [UNKNOWN_INDEX]


@pytest.mark.parametrize("shape", [(3,), (1, 2), (1, 4), (1, 1, 3)])
def test_refuses_logits_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"logits of task 'state' must be \(N, 3\), got \("):
        predict(np.zeros(shape, np.float32), spec())


def test_a_picture_far_from_training_is_unlike_and_unknown() -> None:
    values = np.float32([[9, 0, 0], [9, 0, 0], [9, 0, 0]])
    rule = TaskSpec(
        name="state",
        classes=("closed", "ajar", "open"),
        thresholds=(0.5, 0.5, 0.5),
        unknown=UnknownRule(max_distance=1.0),
    )
    prediction = predict(values, rule, np.float32([0.5, 1.5, np.nan]))
    assert prediction.classes.tolist() == [0, UNKNOWN_INDEX, UNKNOWN_INDEX]
    assert prediction.unlike.tolist() == [False, True, True]
    with pytest.raises(ValueError, match="'state' asks for a distance, there is none"):
        predict(values, rule)


def test_being_unsure_is_not_being_unlike() -> None:
    prediction = predict(np.float32([[0.1, 0, 0]]), spec(max_energy=0.0))
    assert prediction.classes.tolist() == [UNKNOWN_INDEX]
    assert not prediction.unlike.any()
