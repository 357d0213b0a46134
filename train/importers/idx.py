"""MNIST and its like, in the idx format."""

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from train.importers.writing import Labelled, require_folder, train_or_val, write_pictures
from train.progress import Progress
from transom.dataset import Dataset
from transom.errors import DatasetError

_IDX_IMAGES = 0x0803
_IDX_LABELS = 0x0801


def import_idx(
    source: Path,
    out: Path,
    *,
    task: str = "digit",
    limit: int | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Import MNIST's idx files, gzipped or not; a tenth of the training pictures becomes `val`.

    Args:
        source: Folder with `*images-idx3-ubyte[.gz]` and `*labels-idx1-ubyte[.gz]`.
        out: The data set's folder; must not exist.
        task: What the classes answer; they are named `class_0`, `class_1` and so on.
        limit: Most pictures of each file; None = all.
        progress: Told how many pictures are written.

    Raises:
        DatasetError: A file is missing or not of this format.
    """

    def read() -> Iterator[Labelled]:
        for digits in read_idx(source):
            for split, images, labels in digits.splits(limit):
                for image, label in zip(images, labels, strict=True):
                    picture = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR).astype(np.uint8)
                    yield picture, f"class_{int(label)}", split

    return write_pictures(out, task, read(), progress)


@dataclass(frozen=True)
class Digits:
    """A pair of idx files.

    Attributes:
        images: (N, H, W) uint8, dark ground.
        labels: (N,) uint8.
        is_test: Whether they are kept for judging.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]
    is_test: bool

    def splits(
        self, limit: int | None = None
    ) -> Iterator[tuple[str, npt.NDArray[np.uint8], npt.NDArray[np.uint8]]]:
        """Yield split, images and labels; a tenth of what is not for judging is `val`."""
        images, labels = self.images[:limit], self.labels[:limit]
        if self.is_test:
            yield "test", images, labels
            return
        names = np.array([train_or_val(index) for index in range(len(images))])
        for split in ("train", "val"):
            yield split, images[names == split], labels[names == split]


def read_idx(source: Path) -> list[Digits]:
    """Read every pair of idx files in a folder, gzipped or not.

    Raises:
        DatasetError: There is none, or a file is missing or not of this format.
    """
    require_folder(source)
    paths = sorted(source.glob("*images*idx3-ubyte*"))
    if not paths:
        raise DatasetError(f"{source}: holds no file *images-idx3-ubyte or *images-idx3-ubyte.gz")
    found = []
    for path in paths:
        labels_path = _idx_labels_of(path)
        images, labels = _read_idx(path, _IDX_IMAGES), _read_idx(labels_path, _IDX_LABELS)
        if len(images) != len(labels):
            raise DatasetError(
                f"{path}: has {len(images)} pictures, {labels_path} {len(labels)} labels"
            )
        found.append(Digits(images, labels, is_test=not path.name.startswith("train")))
    return found


def _idx_labels_of(images: Path) -> Path:
    stem = images.name.removesuffix(".gz").replace("images", "labels").replace("idx3", "idx1")
    for path in (images.with_name(stem), images.with_name(f"{stem}.gz")):
        if path.is_file():
            return path
    raise DatasetError(f"{images}: its labels {stem} or {stem}.gz are not beside it")


def _read_idx(path: Path, magic: int) -> npt.NDArray[np.uint8]:
    try:
        data = path.read_bytes()
        if data.startswith(b"\x1f\x8b"):
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"{path}: cannot be read: {error}") from error
    if int.from_bytes(data[:4], "big") != magic:
        raise DatasetError(f"{path}: must begin with {magic:#010x}, begins with {data[:4].hex()}")
    dimensions = magic & 0xFF
    if len(data) < 4 + 4 * dimensions:
        raise DatasetError(f"{path}: ends within its header of {4 + 4 * dimensions} bytes")
    shape = tuple(int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(dimensions))
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions)
    if values.size != np.prod(shape, dtype=np.int64):
        raise DatasetError(f"{path}: must hold {shape} values, holds {values.size}")
    return values.reshape(shape)
