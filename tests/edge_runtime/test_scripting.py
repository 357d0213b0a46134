"""The public classes: the daemon's own answers and its own filter, in a script's hands."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import transom
from edge_runtime.classifier import Classifier as Network
from edge_runtime.decision import StateFilter
from tests.edge_runtime.conftest import TinyBundle, draw_scene
from tests.transom.test_public import SCRIPT
from transom.bundle import Bundle
from transom.crop import crop_zone
from transom.errors import BundleError, ClassifierError, SignatureError
from transom.signing import new_key

DOOR = transom.Zone(((0.36, 0.17), (0.64, 0.17), (0.64, 0.93), (0.36, 0.93)))
WALL = transom.Zone.rectangle(0.02, 0.1, 0.2, 0.8)
CLOSED, OPEN = 40.0, 217.0


@pytest.fixture
def bundle(tiny_bundle: TinyBundle) -> Bundle:
    return transom.load_bundle(tiny_bundle.path, public_key=tiny_bundle.keys / "test.pub")


def test_a_bundle_is_read_only_with_the_key_that_signed_it(
    tiny_bundle: TinyBundle, tmp_path: Path
) -> None:
    new_key(tmp_path / "other.pem")
    with pytest.raises(SignatureError, match="no trusted key has signed this"):
        transom.load_bundle(tiny_bundle.path, public_key=tmp_path / "other.pub")
    assert transom.load_bundle(str(tiny_bundle.path)).manifest.name == "tiny"


def test_a_bundle_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"none\.bundle: cannot be read"):
        transom.load_bundle(tmp_path / "none.bundle")


def test_the_answers_are_those_that_the_daemon_gets(bundle: Bundle) -> None:
    frame = draw_scene(OPEN, seed=1, height=240)
    at_door, at_wall = transom.Classifier(bundle).classify(frame, DOOR, WALL)
    fed = bundle.manifest.input
    crops = np.stack([crop_zone(frame, zone, fed.size, fed.margin) for zone in (DOOR, WALL)])
    said = Network(bundle).classify(crops).predictions["state"]
    for row, answer in enumerate((at_door, at_wall)):
        np.testing.assert_array_equal(answer["state"].probabilities, said.probabilities[row])
    assert (at_door["state"].name, at_door["state"].reason) == ("open", None)
    assert set(at_door) == {"state", "kind"}


def test_without_a_zone_the_whole_frame_is_looked_at(bundle: Bundle) -> None:
    frame = np.full((60, 80, 3), 40, np.uint8)
    (answer,) = transom.Classifier(bundle).classify(frame)
    assert answer["state"].name == "closed"


@pytest.mark.parametrize(("level", "reason"), [(84, "unsure"), (255, "unlike")])
def test_an_answer_that_is_not_believed_says_why(bundle: Bundle, level: int, reason: str) -> None:
    (answer,) = transom.Classifier(bundle).classify(np.full((60, 80, 3), level, np.uint8))
    assert (answer["state"].name, answer["state"].reason) == ("unknown", reason)


def test_a_state_follows_as_the_daemon_s_filter_has_it(bundle: Bundle) -> None:
    classifier, decision = transom.Classifier(bundle), transom.Decision(bundle)
    spec = next(spec for spec in bundle.manifest.tasks if spec.name == "state")
    filter_ = StateFilter(spec, transom.DecisionConfig())
    told = []
    for number in range(60):
        frame = draw_scene(CLOSED if number < 30 else OPEN, seed=number, height=120)
        (answers,) = classifier.classify(frame, DOOR)
        now = decision.see(answers["state"], number / 5.0)
        same = filter_.update(answers["state"].probabilities, number / 5.0)
        assert (now.name, now.confidence, now.has_changed) == (
            same.state,
            same.confidence,
            same.changed,
        )
        if now.has_changed:
            told.append((now.previous, now.name))
    assert told == [("unknown", "closed"), ("closed", "open")]


def test_what_is_unlike_training_is_no_evidence(bundle: Bundle) -> None:
    decision = transom.Decision(bundle)
    certain = np.array([0.0, 0.0, 1.0], np.float32)
    unlike = transom.Answer(("closed", "ajar", "open"), certain, "unknown", "unlike")
    now = [decision.see(unlike, float(second)) for second in range(20)][-1]
    assert (now.name, now.reason) == ("unknown", "unlike")


def test_refuses_a_task_that_the_bundle_has_not(bundle: Bundle) -> None:
    with pytest.raises(ClassifierError, match="tiny 1: has the tasks state, kind, not 'bins'"):
        transom.Decision(bundle, "bins")


@pytest.mark.parametrize(
    "wrong", [[0.5, 0.5], [0.0, 0.0, 0.0], [0.5, 0.5, 0.5], [np.nan, 0, 1], [-1, 2, 0]]
)
def test_refuses_what_is_no_distribution_over_the_classes(
    bundle: Bundle, wrong: list[float]
) -> None:
    with pytest.raises(
        ValueError, match=r"must be 3 numbers from 0 on that sum to 1 \(closed, ajar, open\)"
    ):
        transom.Decision(bundle).step(wrong, 0.0)


def test_refuses_time_that_goes_back(bundle: Bundle) -> None:
    decision = transom.Decision(bundle)
    decision.step(None, 5.0, reason="dark")
    with pytest.raises(ValueError, match="must not be before the last step's 5, got 4"):
        decision.step(None, 4.0)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_refuses_a_time_that_is_no_number_and_goes_on_as_before(
    bundle: Bundle, wrong: float
) -> None:
    decision = transom.Decision(bundle)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"now_s must be a number of seconds, got (nan|inf)"):
            decision.step(None, wrong)
        decision.step(None, 5.0)


def test_refuses_an_answer_of_another_task(bundle: Bundle) -> None:
    (answers,) = transom.Classifier(bundle).classify(np.full((60, 80, 3), 40, np.uint8))
    with pytest.raises(ValueError, match=r"answer must be of task 'state' .* got one of window"):
        transom.Decision(bundle).see(answers["kind"], 0.0)


def test_refuses_numbers_in_place_of_a_zone(bundle: Bundle) -> None:
    numbers: Any = (0.1, 0.1, 0.5, 0.5)
    with pytest.raises(TypeError, match=r"a zone must be a transom\.Zone, got tuple"):
        transom.Classifier(bundle).classify(np.zeros((60, 80, 3), np.uint8), numbers)


def test_refuses_a_frame_that_is_none(bundle: Bundle) -> None:
    nothing: Any = cv2.imread("nowhere.jpg")
    with pytest.raises(TypeError, match="frame must be an array"):
        transom.Classifier(bundle).classify(nothing, DOOR)


def test_the_script_of_the_documentation_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    scene: Callable[..., Any],
) -> None:  # fmt: skip
    writer = cv2.VideoWriter(
        str(tmp_path / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 5.0, (320, 240)
    )
    for number in range(15):
        writer.write(scene(CLOSED, seed=number, height=240))
    writer.release()
    monkeypatch.chdir(tmp_path)
    assert SCRIPT is not None
    namespace: dict[str, Any] = {}
    exec(SCRIPT[1], namespace)
    assert namespace["number"] == 15
    assert isinstance(namespace["now"], transom.State)
