import pytest

from benchmarks.decision_against_frigate import steady_delays
from transom.config import DecisionConfig


@pytest.mark.parametrize("probability", [0.7, 0.85, 0.95])
def test_a_steady_view_is_believed_later_the_more_the_zone_moves(probability: float) -> None:
    found = steady_delays(probability, DecisionConfig())
    at_rest, usual, unusual = found["none"], found["usual"], found["unusual"]
    assert at_rest is not None
    assert usual is not None
    assert unusual is not None
    assert at_rest < usual < unusual


def test_three_equal_labels_come_at_the_third_look_and_never_below_four_fifths() -> None:
    assert steady_delays(0.85, DecisionConfig())["frigate"] == 1.2
    assert steady_delays(0.78, DecisionConfig())["frigate"] is None
