"""A bundle in a process of its own: what ends that process ends nothing else."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime import trial
from edge_runtime.classifier import Classifier
from edge_runtime.trial import Trial
from edge_runtime.trial_process import said_of
from transom.bundle import read_bundle
from transom.config import ModelsConfig
from transom.errors import UpdateError


@pytest.fixture
def on_trial(tiny_bundle: Any) -> Any:
    bundle = read_bundle(tiny_bundle.path, None)
    with Trial(tiny_bundle.path, bundle.digest, ModelsConfig()) as running:
        assert running.run().inference_ms > 0.0
        yield running


def test_judges_as_the_network_does_in_this_process(on_trial: Trial, tiny_bundle: Any) -> None:
    bundle = read_bundle(tiny_bundle.path, None)
    crops = np.random.default_rng(1).integers(0, 256, (37, 32, 32, 3), np.uint8)
    crops[::2] //= 4
    classifier = Classifier(bundle)
    expected = said_of(classifier.classify(crops), classifier)
    assert on_trial.judge(crops) == expected
    assert len(set(expected["state"])) > 1
    assert on_trial.judge(crops[:1])["state"] == expected["state"][:1]


def test_a_network_that_kills_its_process_is_refused(on_trial: Trial) -> None:
    os.kill(on_trial.process_id, signal.SIGILL)
    with pytest.raises(UpdateError, match="ends its process with signal 4"):
        on_trial.judge(np.zeros((1, 32, 32, 3), np.uint8))


def test_a_network_that_hangs_is_refused(on_trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "ANSWER_S", 0.1)
    os.kill(on_trial.process_id, signal.SIGSTOP)
    for count in (1, 200):  # what fits into a pipe, and what does not
        with pytest.raises(UpdateError, match="does not answer within"):
            on_trial.judge(np.zeros((count, 32, 32, 3), np.uint8))


def test_what_is_no_answer_is_refused_and_said(
    tmp_path: Path, tiny_bundle: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('hello from a library', flush=True)\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    digest = read_bundle(tiny_bundle.path, None).digest
    with (
        Trial(tiny_bundle.path, digest, ModelsConfig()) as running,
        pytest.raises(UpdateError, match="gave no answer but 'hello from a library'"),
    ):
        running.run()


def test_a_file_that_changed_after_it_was_verified_is_refused(
    tmp_path: Path, tiny_bundle: Any
) -> None:
    changed = tmp_path / "changed.bundle"
    changed.write_bytes(tiny_bundle.path.read_bytes() + b"\0")
    digest = read_bundle(tiny_bundle.path, None).digest
    with (
        Trial(changed, digest, ModelsConfig()) as running,
        pytest.raises(UpdateError, match="has changed since it was verified"),
    ):
        running.run()
