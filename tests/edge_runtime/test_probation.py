"""When a new bundle is kept, and when it is left."""

import pytest

from edge_runtime.probation import Probation, Verdict


def verdicts(probation: Probation, *looks: tuple[float, bool]) -> list[Verdict | None]:
    return [probation.look(now_s, is_well=is_well) for now_s, is_well in looks]


def test_a_device_that_is_well_for_long_enough_keeps_its_bundle_and_says_so_once() -> None:
    looks = [(float(second), True) for second in range(0, 100, 10)]
    found = verdicts(Probation(60.0, 0.0), *looks)
    assert found == [None] * 6 + [Verdict(None)] + [None] * 3


def test_a_break_begins_the_time_anew() -> None:
    found = verdicts(Probation(60.0, 0.0), (0, True), (50, False), (55, True), (114, True))
    assert found == [None] * 4


def test_a_device_that_is_not_well_for_far_longer_goes_back() -> None:
    found = verdicts(Probation(60.0, 100.0), (400.0, False), (401.0, False), (402.0, False))
    assert found == [None, Verdict("device was not well within 301 s"), None]


def test_a_device_that_becomes_well_late_is_given_its_time() -> None:
    assert verdicts(Probation(60.0, 0.0), (299, True), (310, True)) == [None, None]


@pytest.mark.parametrize("is_well", [True, False])
def test_a_verdict_that_nobody_took_in_is_given_again(is_well: bool) -> None:
    probation = Probation(10.0, 0.0)
    probation.look(0.0, is_well=is_well)
    assert probation.look(60.0, is_well=is_well) is not None
    assert probation.look(61.0, is_well=is_well) is None
    probation.take_back()
    assert probation.look(62.0, is_well=is_well) is not None


def test_a_verdict_that_could_not_be_carried_out_is_come_to_anew() -> None:
    probation = Probation(10.0, 0.0)
    assert verdicts(probation, (0, True), (10, True))[1] == Verdict(None)
    probation.begin_anew(11.0)
    assert verdicts(probation, (12, True), (21, True), (22, True)) == [None, None, Verdict(None)]
