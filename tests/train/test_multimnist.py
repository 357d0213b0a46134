from pathlib import Path

import cv2
import numpy as np
import pytest

from train.importers import CIFAR10_KINDS, import_cifar10
from train.multimnist import SHIFT, SIDE, import_multimnist, overlay
from transom.errors import DatasetError


def write_idx(path: Path, values: np.ndarray) -> None:
    magic = 0x0800 + values.ndim
    sizes = b"".join(int(size).to_bytes(4, "big") for size in values.shape)
    path.write_bytes(magic.to_bytes(4, "big") + sizes + values.astype(np.uint8).tobytes())


def write_digits(folder: Path, counts: dict[str, int], side: int = 28) -> Path:
    """Squares as bright as their number, so that a picture says which two it was made of."""
    folder.mkdir()
    first = 1
    for name, count in counts.items():
        marks = np.arange(first, first + count)
        images = np.zeros((count, side, side), np.uint8)
        images[:, 2:6, 2:6] = marks[:, None, None]
        write_idx(folder / f"{name}-images-idx3-ubyte", images)
        write_idx(folder / f"{name}-labels-idx1-ubyte", marks % 10)
        first += count
    return folder


def read_pair(path: Path) -> tuple[int, int]:
    picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    assert picture.shape == (SIDE, SIDE)
    return int(picture[2, 2]), int(picture[SHIFT + 5, SHIFT + 5])


def test_every_digit_is_used_once_on_each_side_and_on_one_side_of_a_split(tmp_path: Path) -> None:
    source = write_digits(tmp_path / "digits", {"train": 40, "t10k": 12})
    dataset = import_multimnist(source, tmp_path / "out", seed=3)
    pairs = {split: [] for split in ("train", "val", "test")}
    for row in dataset.rows:
        left, right = read_pair(dataset.path(row))
        assert (row.labels["left"], row.labels["right"]) == (
            f"class_{left % 10}",
            f"class_{right % 10}",
        )
        pairs[row.split].append((left, right))
    assert {split: len(found) for split, found in pairs.items()} == {
        "train": 36,
        "val": 4,
        "test": 12,
    }
    used = {split: {mark for pair in found for mark in pair} for split, found in pairs.items()}
    for split, found in pairs.items():
        lefts, rights = zip(*found, strict=True)
        assert sorted(lefts) == sorted(rights) == sorted(used[split])
    assert not used["train"] & used["val"]
    assert not used["train"] & used["test"]


def test_the_seed_decides_the_pairs(tmp_path: Path) -> None:
    source = write_digits(tmp_path / "digits", {"train": 30})
    labels = [
        [row.labels["right"] for row in import_multimnist(source, tmp_path / name, seed=seed).rows]
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert labels[0] == labels[1] != labels[2]


def test_where_digits_overlap_the_brighter_stays() -> None:
    picture = overlay(np.full((28, 28), 9, np.uint8), np.full((28, 28), 5, np.uint8))
    assert set(picture[:28, :28].ravel()) == {9}
    assert set(picture[28:, 8:].ravel()) == {5}
    assert set(picture[28:, :8].ravel()) == {0}


def test_digits_of_another_size_are_refused_and_nothing_is_left(tmp_path: Path) -> None:
    source = write_digits(tmp_path / "digits", {"train": 10}, side=20)
    with pytest.raises(DatasetError, match="28 by 28"):
        import_multimnist(source, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"digits"}


def test_the_real_digits_are_paired(shared_data: Path, tmp_path: Path) -> None:
    dataset = import_multimnist(shared_data / "mnist", tmp_path / "out", limit=50)
    assert len(dataset.rows) == 100
    assert dataset.tasks.names == ("left", "right")


def test_cifar10_asks_for_its_kind_where_that_is_wanted(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "cifar-10-batches-bin"
    dataset = import_cifar10(source, tmp_path / "out", kind_task="kind", limit=40)
    assert dataset.tasks["kind"].classes == ("animal", "vehicle")
    for row in dataset.rows:
        assert row.labels["kind"] == CIFAR10_KINDS[row.labels["object"]]
    assert import_cifar10(source, tmp_path / "one", limit=5).tasks.names == ("object",)


def test_a_kind_of_other_classes_is_not_guessed(tmp_path: Path) -> None:
    source = tmp_path / "other"
    source.mkdir()
    (source / "batches.meta.txt").write_text("cat\nteapot\n")
    (source / "data_batch_1.bin").write_bytes(bytes(3073))
    with pytest.raises(DatasetError, match="teapot"):
        import_cifar10(source, tmp_path / "out", kind_task="kind")
