"""In which precision a network runs: measured, remembered, chosen, and said why."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.classifier import Classifier
from edge_runtime.doctor_children import check_network
from edge_runtime.measuring import Measuring
from edge_runtime.precision import (
    FILE_NAME,
    Measured,
    PrecisionFile,
    choose,
    measure,
    open_classifier,
)
from edge_runtime.trial import Trial
from tests.edge_runtime.broker import wait_until
from tests.edge_runtime.test_daemon import OPEN, Play, config_of
from transom.bundle import Bundle, read_bundle
from transom.config import Config, ModelsConfig, WantedPrecision
from transom.errors import ClassifierError
from transom.session import Precision, faster

FASTER_IN_INT8 = Measured(int8_ms=1.35, float32_ms=2.07)
FASTER_IN_FLOAT32 = Measured(int8_ms=9.0, float32_ms=6.5)
REFUSED = Measured(int8_ms=9.0, refused="golden 0 differs by 3")


@pytest.fixture(scope="module")
def rounded(rounded_bundle: Any) -> Bundle:
    return read_bundle(rounded_bundle.path, None)


@pytest.mark.parametrize(
    ("wanted", "measured", "precision", "why"),
    [
        ("auto", None, "int8", "not measured yet"),
        ("auto", FASTER_IN_INT8, "int8", "int8 takes 1.35 ms a crop, float32 2.07 ms"),
        ("auto", FASTER_IN_FLOAT32, "float32", "int8 takes 9.00 ms a crop, float32 6.50 ms"),
        ("auto", REFUSED, "int8", "float32 is not used: golden 0 differs by 3"),
        ("int8", FASTER_IN_FLOAT32, "int8", "models.precision; int8 takes 9.00 ms a crop"),
        ("float32", FASTER_IN_INT8, "float32", "models.precision; int8 takes 1.35 ms a crop"),
        ("float32", None, "float32", "models.precision; not measured yet"),
        ("float32", REFUSED, "int8", "float32 is not used: golden 0 differs by 3"),
    ],
)
def test_the_faster_of_those_that_answer_rightly_is_used_unless_one_is_asked_for(
    rounded: Bundle,
    wanted: WantedPrecision,
    measured: Measured | None,
    precision: Precision,
    why: str,
) -> None:
    chosen = choose(rounded, wanted, measured)
    assert chosen.precision == precision
    assert chosen.why.startswith(why)


@pytest.mark.parametrize("wanted", ["auto", "int8", "float32"])
def test_a_bundle_of_one_precision_runs_in_it_and_says_so(
    tiny_bundle: Any, wanted: WantedPrecision
) -> None:
    chosen = choose(read_bundle(tiny_bundle.path, None), wanted, None)
    assert (chosen.precision, chosen.why) == ("float32", "the bundle runs in float32 only")


def test_an_int8_bundle_from_before_runs_in_int8_only(rounded: Bundle) -> None:
    before = replace(rounded, goldens=replace(rounded.goldens, float32_tolerance=None))
    assert before.precisions == ("int8",)
    assert choose(before, "float32", None).why == "the bundle runs in int8 only"
    with pytest.raises(ClassifierError, match="runs in int8, not in float32"):
        Classifier(before, precision="float32")


def test_in_float32_nothing_is_rounded_and_everything_is_cut(rounded: Bundle) -> None:
    crops = rounded.goldens.crops
    levels = crops.mean(axis=(1, 2), dtype=np.float64) - 20.0
    assert (levels < 0).any()
    expected = np.maximum(levels, 0.0) / 255.0
    int8, float32 = (
        Classifier(rounded, precision=precision).classify(crops).embedding[:, :3]
        for precision in rounded.precisions
    )
    np.testing.assert_allclose(float32, expected, atol=1e-6)
    np.testing.assert_allclose(int8, np.maximum(levels, 0.0).round() / 255.0, atol=1e-6)
    assert np.abs(int8 - float32).max() > 1e-4


def test_both_are_timed_where_both_answer_rightly(rounded: Bundle) -> None:
    measured = measure(rounded, Classifier(rounded), threads=1)
    assert measured.refused == ""
    assert measured.float32_ms is not None
    assert min(measured.int8_ms, measured.float32_ms) > 0.0


def test_float32_that_answers_wrongly_is_not_timed_and_not_used(
    rounded: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    strict = replace(rounded, goldens=replace(rounded.goldens, float32_tolerance=1e-6))
    measured = measure(strict, Classifier(strict), threads=1)
    assert measured.float32_ms is None
    assert "1e-06 is allowed" in measured.refused
    with caplog.at_level(logging.WARNING):
        classifier, chosen = open_classifier(strict, "float32", None, threads=1)
    assert (classifier.precision, chosen.precision) == ("int8", "int8")
    assert "float32 is not used" in caplog.text


def test_what_was_measured_is_remembered_for_this_machine_and_bundle(tmp_path: Path) -> None:
    PrecisionFile(tmp_path, threads=1).write("a" * 64, FASTER_IN_FLOAT32)
    PrecisionFile(tmp_path, threads=1).write("b" * 64, REFUSED)
    assert PrecisionFile(tmp_path, threads=1).read("a" * 64) == FASTER_IN_FLOAT32
    assert PrecisionFile(tmp_path, threads=1).read("b" * 64) == REFUSED
    assert PrecisionFile(tmp_path, threads=1).read("c" * 64) is None
    assert PrecisionFile(tmp_path, threads=2).read("a" * 64) is None
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600


def test_old_measurements_make_room_for_new_ones(tmp_path: Path) -> None:
    file = PrecisionFile(tmp_path, threads=1)
    for number in range(20):
        file.write(f"{number:064}", FASTER_IN_INT8)
    assert file.read(f"{3:064}") is None
    assert file.read(f"{19:064}") == FASTER_IN_INT8


def test_a_damaged_file_is_measured_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"{")
    assert PrecisionFile(tmp_path, threads=1).read("a" * 64) is None
    assert "precision is measured anew" in caplog.text


@pytest.mark.parametrize("wanted", ["auto", "int8", "float32"])
def test_a_trial_measures_both_and_runs_the_network_as_chosen(
    rounded_bundle: Any, rounded: Bundle, wanted: WantedPrecision
) -> None:
    crops = rounded.goldens.crops
    with Trial(rounded_bundle.path, rounded.digest, ModelsConfig(precision=wanted)) as trial:
        tried = trial.run()
        assert len(trial.judge(crops)["state"]) == len(crops)
    assert (tried.measured is None) == (wanted == "int8")
    if tried.measured is not None and tried.measured.float32_ms is not None:
        figures = {"int8": tried.measured.int8_ms, "float32": tried.measured.float32_ms}
        assert tried.inference_ms == figures[tried.chosen.precision]
        fastest = faster(figures["int8"], figures["float32"])
        assert tried.chosen.precision == (fastest if wanted == "auto" else wanted)


def test_the_daemon_runs_as_was_remembered_and_says_so(
    rounded: Bundle, scene: Callable[..., Any], play_list_camera: Any
) -> None:
    frames = [scene(OPEN, seed=i, height=120) for i in range(5)] * 40
    play = Play(rounded, config_of(), play_list_camera, frames, measured=FASTER_IN_FLOAT32)
    play.turn(35)
    told = play.payloads("diagnostics")[-1]
    assert told["precision"] == "float32"
    assert told["precision_why"] == "int8 takes 9.00 ms a crop, float32 6.50 ms"


def models_config(bundle: Any, **more: Any) -> ModelsConfig:
    return ModelsConfig(bundle=str(bundle.path), trusted_keys=str(bundle.keys), **more)


def test_a_bundle_that_nobody_tried_is_measured_once_the_daemon_is_at_work(
    tmp_path: Path,
    rounded_bundle: Any,
    rounded: Bundle,
    scene: Callable[..., Any],
    play_list_camera: Any,
) -> None:
    frames = [scene(OPEN, seed=i, height=120) for i in range(10)]
    play = Play(rounded, config_of(), play_list_camera, frames)
    assert play.daemon.precision.why == "not measured yet"
    file, config = PrecisionFile(tmp_path, threads=1), models_config(rounded_bundle)
    with Measuring(config, rounded, play.daemon, file, after_s=0.01):
        assert file.read(rounded.digest) is None
        play.turn(1)
        wait_until(lambda: play.daemon.precision.why != "not measured yet", 60.0)
    assert play.daemon.precision == choose(rounded, "auto", file.read(rounded.digest))
    play.turn(1)


def test_a_device_that_is_slower_in_int8_measures_it_and_goes_on_in_float32(
    tmp_path: Path,
    slow_in_int8_bundle: Any,
    scene: Callable[..., Any],
    play_list_camera: Any,
) -> None:
    bundle = read_bundle(slow_in_int8_bundle.path, None)
    frames = [scene(OPEN, seed=i, height=120) for i in range(60)]
    play = Play(bundle, config_of(), play_list_camera, frames)
    file, config = PrecisionFile(tmp_path, threads=1), models_config(slow_in_int8_bundle)
    assert play.daemon.precision.precision == "int8"
    with Measuring(config, bundle, play.daemon, file, after_s=0.01):
        play.turn(5)
        wait_until(lambda: play.daemon.precision.precision == "float32", 60.0)
    measured = file.read(bundle.digest)
    assert measured is not None
    assert measured.float32_ms is not None
    assert measured.float32_ms < measured.int8_ms
    play.turn(5)
    assert play.events() == [("known", "unknown", "open")]
    _, chosen = open_classifier(bundle, "auto", measured, threads=1)
    assert chosen.precision == "float32"


def test_measuring_ends_with_the_daemon(
    tmp_path: Path, rounded_bundle: Any, rounded: Bundle, play_list_camera: Any
) -> None:
    play = Play(rounded, config_of(), play_list_camera, [])
    file = PrecisionFile(tmp_path, threads=1)
    with Measuring(models_config(rounded_bundle), rounded, play.daemon, file):
        pass
    assert file.read(rounded.digest) is None


def doctor_config(folder: Path, bundle: Any, **models: Any) -> Config:
    return config_of(state_directory=str(folder), models=models_config(bundle, **models))


def test_the_doctor_says_which_precision_and_why(
    tmp_path: Path, rounded_bundle: Any, rounded: Bundle
) -> None:
    _, fresh = check_network(doctor_config(tmp_path, rounded_bundle))
    assert fresh.ok
    assert "measured just now" in fresh.what
    PrecisionFile(tmp_path, threads=1).write(rounded.digest, FASTER_IN_FLOAT32)
    _, known = check_network(doctor_config(tmp_path, rounded_bundle))
    assert known.what == "float32: int8 takes 9.00 ms a crop, float32 6.50 ms"


def test_the_doctor_finds_a_precision_that_is_asked_for_in_vain(
    tmp_path: Path, tiny_bundle: Any
) -> None:
    _, found = check_network(doctor_config(tmp_path, tiny_bundle, precision="int8"))
    assert not found.ok
    assert found.what == "float32: the bundle runs in float32 only"
    assert "models.precision" in found.do
