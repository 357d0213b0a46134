"""A tiny network that has learnt something, and what an export needs around it."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import torch

import export.quantize
from export.graph import export_graph
from export.pipeline import export_run
from export.quantize import quantize
from train.corpus import Corpus, load_corpus
from train.fit import fit
from train.network import Network, build_network, to_image
from train.recipe import Recipe
from train.run import Run
from transom.bundle import Bundle, read_bundle
from transom.dataset import Row, write_dataset
from transom.session import open_session
from transom.signing import load_private_key, new_key, public_half
from transom.tasks import Task, TaskSet

Crops = npt.NDArray[np.uint8]
Outputs = dict[str, npt.NDArray[np.float32]]

SIZE = 32
TASKS = TaskSet(
    [
        Task(name="kind", classes=("door", "window")),
        Task(name="state", classes=("closed", "ajar", "open"), ordinal=True),
    ]
)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def draw(count: int, seed: int, noise: float = 12.0) -> tuple[Crops, npt.NDArray[np.int64]]:
    """Draw crops, (N, 32, 32, 3) uint8, and targets, (N, 2): a bar as wide as it is open."""
    rng = np.random.default_rng(seed)
    targets = np.stack([rng.integers(0, 2, count), rng.integers(0, 3, count)], axis=1)
    crops = np.empty((count, SIZE, SIZE, 3))
    for crop, (kind, state) in zip(crops, targets, strict=True):
        crop[:] = (60, 90, 140) if kind == 0 else (150, 110, 70)
        crop[:, : int(2 + 13 * state + rng.integers(0, 3))] = 230
    crops += rng.normal(0.0, noise, crops.shape)
    return crops.clip(0, 255).astype(np.uint8), targets.astype(np.int64)


def learn(network: Network, crops: Crops, targets: npt.NDArray[np.int64], steps: int) -> Network:
    """Train a network for some steps on all crops at once, and leave it in evaluation mode."""
    image, truth = to_image(torch.from_numpy(crops)), torch.from_numpy(targets)
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    network.train()
    for _ in range(steps):
        logits, _ = network(image)
        loss = sum(
            torch.nn.functional.cross_entropy(logits[task.name], truth[:, column])
            for column, task in enumerate(network.tasks)
        )
        optimiser.zero_grad()
        loss.backward()  # type: ignore[union-attr]
        optimiser.step()
    return network.eval()


def recipe() -> Recipe:
    """Return the recipe of the tiny network."""
    return Recipe(size=SIZE, margin=0.0, backbone="tiny", pretrained=False, embedding=16)


@pytest.fixture(scope="session")
def network() -> Network:
    """A network that has learnt kind and state of the drawn crops."""
    torch.manual_seed(0)
    crops, targets = draw(96, seed=1)
    return learn(build_network(recipe(), TASKS, pretrained=False), crops, targets, steps=30)


@pytest.fixture(scope="session")
def float_graph(network: Network) -> bytes:
    """Its float32 graph."""
    return export_graph(network, TASKS, SIZE)


@pytest.fixture(scope="session")
def int8_graph(float_graph: bytes) -> bytes:
    """Its INT8 graph."""
    return quantize(float_graph, TASKS, draw(64, seed=2)[0])


@pytest.fixture
def calibrations(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many crops each graph was shown to find its ranges, so far."""
    shown: list[int] = []

    class Noted(export.quantize._Crops):
        def __init__(self, crops: Crops) -> None:
            super().__init__(crops)
            self._unseen = [len(crops)]

        def get_next(self) -> dict[str, Crops] | None:
            if self._unseen:
                shown.append(self._unseen.pop())
            return super().get_next()

    monkeypatch.setattr(export.quantize, "_Crops", Noted)
    return shown


@pytest.fixture(scope="session")
def run_graph() -> Callable[[bytes, Crops], Outputs]:
    """A function that runs a graph over crops and returns all its outputs by name."""

    def run(model: bytes, crops: Crops, threads: int = 1) -> Outputs:
        session = open_session(onnxruntime, model, threads=threads)
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, {"image": crops}), strict=True))

    return run


@pytest.fixture(scope="session")
def draw_crops() -> Callable[..., tuple[Crops, npt.NDArray[np.int64]]]:
    """The function that draws crops and their targets."""
    return draw


def write_pictures(folder: Path, counts: Mapping[str, int]) -> Path:
    """Write a data set of drawn crops, two in a group, with so many groups in each split."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for seed, (split, count) in enumerate(counts.items()):
        crops, targets = draw(2 * count, seed=20 + seed)
        for number, (crop, target) in enumerate(zip(crops, targets, strict=True)):
            image = f"images/{split}{number}.png"
            cv2.imwrite(str(folder / image), crop)
            labels = {t.name: t.classes[i] for t, i in zip(TASKS, target, strict=True)}
            group = f"{split}{number // 2}"
            rows.append(Row(image=image, group=group, split=split, labels=labels))
    write_dataset(folder, name=folder.name, tasks=TASKS, rows=rows)
    return folder


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set on disk."""
    folder = tmp_path_factory.mktemp("data") / "bars"
    return write_pictures(folder, {"train": 48, "val": 24, "test": 24})


@pytest.fixture(scope="session")
def corpus(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """The data set, decoded."""
    cache = tmp_path_factory.mktemp("cache")
    return load_corpus([pictures], size=SIZE, margin=0.0, cache=cache)


@pytest.fixture(scope="session")
def run(corpus: Corpus, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run trained on it."""
    values = {"epochs": 10, "frozen_epochs": 0, "batch": 16, "learning_rate": 3e-3, "average": 0.0}
    folder = tmp_path_factory.mktemp("runs") / "Bars 1"
    return fit(recipe().with_values(values), corpus, folder, datasets=[pictures])


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A private key."""
    path = tmp_path_factory.mktemp("keys") / "home.key"
    new_key(path)
    return path


@pytest.fixture(scope="session")
def bundle_path(
    run: Run, corpus: Corpus, key: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The run as a bundle."""
    path = tmp_path_factory.mktemp("bundles") / "bars.bundle"
    export_run(run, corpus, path, load_private_key(key), name="bars", sequence=7)
    return path


@pytest.fixture(scope="session")
def bundle(bundle_path: Path, key: Path) -> Bundle:
    """The same, read."""
    return read_bundle(bundle_path, [public_half(load_private_key(key))])
