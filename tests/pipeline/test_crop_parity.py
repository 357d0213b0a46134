"""The trainer's crop is the daemon's crop, byte for byte, whatever is done to it."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from edge_runtime.announcer import Announcer
from edge_runtime.frame_ring import Frame
from edge_runtime.replay import ClipClock, Recorder
from edge_runtime.zone_watch import ZoneWatch
from train.corpus import load_corpus
from train.recipe import Recipe
from transom.config import DecisionConfig, ZoneConfig
from transom.dataset import read_dataset
from transom.geometry import Zone
from transom.image_file import read_image
from transom.manifest import InputSpec, Manifest, TaskSpec
from transom.messages import Topics
from transom.preprocess import Step

SPEC = TaskSpec(name="state", classes=("closed", "open"), thresholds=(0.5, 0.5))
SIZE, MARGIN = 40, 0.1


def watch(zone: Zone, spec: InputSpec) -> ZoneWatch:
    manifest = Manifest(
        name="hall", sequence=1, created="2026-11-23T12:00:00Z", input=spec, tasks=(SPEC,),
        embedding=4, precision="float32", minimum_runtime="0.1.0",
    )  # fmt: skip
    clock, topics = ClipClock(), Topics("transom", "pi")
    recorder = Recorder(topics, clock, lambda at, message: None)
    announcer = Announcer(topics, manifest, clock, recorder, recorder)
    config = ZoneConfig(name="front", polygon=zone.points)
    return ZoneWatch(config, manifest, DecisionConfig(), announcer)


@pytest.mark.parametrize(
    "steps", [(), *((step,) for step in get_args(Step)), ("median", "clahe", "sharpen")]
)
def test_the_daemon_crops_as_the_trainer_does(tiny_dataset: Path, steps: tuple[Step, ...]) -> None:
    recipe = Recipe(size=SIZE, margin=MARGIN, preprocess=steps)
    corpus = load_corpus(
        [tiny_dataset], size=recipe.size, margin=recipe.margin, steps=recipe.preprocess
    )
    dataset = read_dataset(tiny_dataset)
    spec = InputSpec(size=SIZE, margin=MARGIN, preprocess=steps)
    for row, expected in zip(corpus.rows[:4], corpus.crops, strict=False):
        frame = Frame(read_image(dataset.path(row)), taken_ns=0, number=1)
        np.testing.assert_array_equal(watch(row.zone, spec).crop_if_due(frame), expected)


def test_crops_with_and_without_steps_do_not_meet_in_the_cache(tiny_dataset: Path) -> None:
    plain, sharp, plain_again = (
        load_corpus([tiny_dataset], size=SIZE, margin=MARGIN, steps=steps)
        for steps in ((), ("sharpen",), ())
    )
    assert (plain.crops == plain_again.crops).all()
    assert (plain.crops != sharp.crops).any()
    assert plain.digest == plain_again.digest != sharp.digest
