"""Data that tests of several packages use."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import settings

from train.predictor import Said
from transom.dataset import Row, write_dataset
from transom.geometry import Zone
from transom.manifest import InputSpec, TaskSpec, UnknownRule
from transom.tasks import Task, TaskSet

# Shared machines pause for longer than any example takes; the time limit of a test still holds.
settings.register_profile("transom", deadline=None)
settings.load_profile("transom")

pytest_plugins = ("tests.faults.proof",)

LONGEST = (
    "test_whole_way.py",
    "test_backbone_matrix.py",
    "test_fusion_export.py",
    "test_graph.py",
    "test_check.py",
    "test_compare.py",
    "test_bias_correction.py",
)
"""Files that take a worker a minute or so."""


@pytest.hookimpl(trylast=True)  # after they have been put in random order
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files, so that no worker is left alone with one at the end."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


STATES = TaskSet(
    [
        Task(name="kind", classes=("door", "window")),
        Task(name="state", classes=("closed", "open"), ordinal=True),
    ]
)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real photographs beside the checkout, or `$TRANSOM_DATA`."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("TRANSOM_DATA") or beside)
    if not folder.is_dir():
        what = f"{folder}: no real data here; set TRANSOM_DATA to its folder"
        if os.environ.get("CI"):
            pytest.fail(what)
        pytest.skip(what)
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own, so that no test sees what another has decoded."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("TRANSOM_CACHE", str(folder))
    return folder


def draw_door(state: str, seed: int, size: int = 48) -> npt.NDArray[np.uint8]:
    """Draw a bright leaf on a blotchy wall, shut or with a black gap; uint8 BGR (size, size, 3)."""
    generator = np.random.default_rng(seed)
    blotches = generator.integers(20, 160, (6, 6, 3), np.uint8)
    image = cv2.resize(blotches, (size, size), interpolation=cv2.INTER_LINEAR)
    left, right = (
        int(generator.integers(4, size // 3)),
        int(generator.integers(2 * size // 3, size - 4)),
    )
    leaf = [int(value) for value in generator.integers(140, 240, 3)]
    cv2.rectangle(image, (left, 2), (right, size - 2), leaf, -1)
    if state == "open":
        cv2.rectangle(image, ((left + right) // 2, 2), (right, size - 2), (0, 0, 0), -1)
    noise = generator.normal(0, 12, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


MakeDataset = Callable[..., Path]


@pytest.fixture
def make_dataset(tmp_path: Path) -> MakeDataset:
    """A function that draws a data set: some groups of two pictures, closed and open in turn."""

    def make(name: str = "tiny", *, groups: int = 8, splits: Sequence[str] = ()) -> Path:
        folder = tmp_path / name
        (folder / "images").mkdir(parents=True)
        rows = []
        for group in range(groups):
            for picture, state in enumerate(("closed", "open")):
                image = f"images/{group}-{picture}.png"
                cv2.imwrite(str(folder / image), draw_door(state, 100 * group + picture))
                rows.append(
                    Row(
                        image=image,
                        zone=Zone.rectangle(0.2, 0.0, 0.8, 1.0),
                        group=f"g{group}",
                        split=splits[group % len(splits)] if splits else "",
                        labels={"kind": "door" if group % 2 else "window", "state": state},
                    )
                )
        write_dataset(folder, name=name, tasks=STATES, rows=rows)
        return folder

    return make


@pytest.fixture
def tiny_dataset(make_dataset: MakeDataset) -> Path:
    """Sixteen drawn pictures in eight groups, without a split."""
    return make_dataset()


class GapPredictor:
    """Says `open` of crops whose right part is dark, and `door` of every crop.

    Its classes are in another order than the data set's, and it has a task that no data set has.
    """

    name, precision = "gap", "float32"
    specs = (
        TaskSpec(
            name="state",
            classes=("open", "closed"),
            thresholds=(0.6, 0.6),
            unknown=UnknownRule(max_energy=0.0),
        ),
        TaskSpec(name="kind", classes=("door", "window"), thresholds=(0.0, 0.0)),
        TaskSpec(name="mood", classes=("good", "bad"), thresholds=(0.0, 0.0)),
    )
    tasks = TaskSet(spec.as_task() for spec in specs)
    input = InputSpec(size=32, margin=0.0)

    def __call__(self, crops: npt.NDArray[np.uint8]) -> Said:
        """Return logits by task and an embedding of four zeros."""
        grey = crops[:, 8:24, 18:28].mean((1, 2, 3))
        leaning = ((70.0 - grey) / 10.0).astype(np.float32)
        constant = np.tile(np.float32([1.0, 0.0]), (len(crops), 1))
        logits = {"state": np.stack([leaning, -leaning], 1), "kind": constant, "mood": constant}
        return Said(logits, np.zeros((len(crops), 4), np.float32))


@pytest.fixture
def gap_predictor() -> GapPredictor:
    """A predictor whose answers can be worked out by hand."""
    return GapPredictor()
