"""CIFAR-10, in its binary version."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from train.importers.writing import (
    Labelled,
    class_name,
    read_text,
    require_folder,
    train_or_val,
    write_pictures,
)
from train.progress import Progress
from transom.dataset import Dataset
from transom.errors import DatasetError

_CIFAR_RECORD = 1 + 3 * 32 * 32

CIFAR10_KINDS = {
    "airplane": "vehicle", "automobile": "vehicle", "ship": "vehicle", "truck": "vehicle",
    "bird": "animal", "cat": "animal", "deer": "animal",
    "dog": "animal", "frog": "animal", "horse": "animal",
}  # fmt: skip
"""The kind of each class of CIFAR-10: a second, coarser task on the same pictures."""


def import_cifar10(
    source: Path,
    out: Path,
    *,
    task: str = "object",
    kind_task: str = "",
    limit: int | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Import CIFAR-10's binary version; a tenth of the training pictures becomes `val`.

    Args:
        source: Folder with `data_batch_*.bin`, `test_batch.bin` and `batches.meta.txt`.
        out: The data set's folder; must not exist.
        task: What the classes answer.
        kind_task: Name of a second task that asks whether it is an animal or a vehicle; empty =
            no such task.
        limit: Most pictures of each file; None = all.
        progress: Told how many pictures are written.

    Raises:
        DatasetError: A file is missing or not of this format, or a kind is asked for and the
            classes are not CIFAR-10's.
    """
    require_folder(source)
    files = sorted(source.glob("*_batch*.bin"))
    if not files:
        raise DatasetError(f"{source}: holds no data_batch_1.bin … or test_batch.bin")
    names = [class_name(line) for line in read_text(source / "batches.meta.txt").split()]
    strange = sorted(set(names) - CIFAR10_KINDS.keys())
    if kind_task and strange:
        raise DatasetError(
            f"{source / 'batches.meta.txt'}: class {strange[0]} is not one of CIFAR-10, so its "
            "kind is not known; leave the second task out"
        )

    def read() -> Iterator[Labelled]:
        for path in files:
            is_test = path.name.startswith("test")
            for index, record in enumerate(_read_cifar(path, len(names))[:limit]):
                split = "test" if is_test else train_or_val(index)
                planes = record[1:].reshape(3, 32, 32)
                image = np.ascontiguousarray(planes.transpose(1, 2, 0)[..., ::-1])
                yield image, names[int(record[0])], split

    kinds = (kind_task, CIFAR10_KINDS) if kind_task else None
    return write_pictures(out, task, read(), progress, names, kinds)


def _read_cifar(path: Path, classes: int) -> npt.NDArray[np.uint8]:
    data = np.frombuffer(path.read_bytes(), np.uint8)
    if data.size == 0 or data.size % _CIFAR_RECORD:
        raise DatasetError(
            f"{path}: must be whole records of {_CIFAR_RECORD} bytes, has {data.size} bytes"
        )
    records = data.reshape(-1, _CIFAR_RECORD)
    if records[:, 0].max() >= classes:
        raise DatasetError(f"{path}: has class {records[:, 0].max()}, there are {classes} names")
    return records
