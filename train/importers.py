"""Data sets in other forms, written as a folder with `dataset.toml`, `labels.csv` and images."""

import gzip
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from train.progress import Progress
from transom.crop import Image
from transom.dataset import SPLITS, Dataset, Mistake, Row, read_dataset, write_dataset
from transom.errors import DatasetError
from transom.geometry import Zone
from transom.tasks import Task, TaskSet

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})

_SPLIT_NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
_IDX_IMAGES = 0x0803
_IDX_LABELS = 0x0801
_CIFAR_RECORD = 1 + 3 * 32 * 32

Labelled = tuple[Image, str, str]
"""A picture, its class and its split."""

CIFAR10_KINDS = {
    "airplane": "vehicle", "automobile": "vehicle", "ship": "vehicle", "truck": "vehicle",
    "bird": "animal", "cat": "animal", "deer": "animal",
    "dog": "animal", "frog": "animal", "horse": "animal",
}  # fmt: skip
"""The kind of each class of CIFAR-10: a second, coarser task on the same pictures."""


def import_folders(
    source: Path, out: Path, *, task: str = "state", progress: Progress | None = None
) -> Dataset:
    """Import `CLASS/picture.jpg`, or `SPLIT/CLASS/picture.jpg`.

    Args:
        source: The folder of classes, or of splits that hold the classes.
        out: The data set's folder; must not exist.
        task: What the classes answer.
        progress: Told how many pictures are copied.

    Raises:
        DatasetError: There is no picture in a folder of a class, or `out` exists.
    """
    _require_folder(source)
    found: list[tuple[Path, str, str]] = []
    for split, folder in _split_folders(source):
        for class_folder in sorted(path for path in folder.iterdir() if path.is_dir()):
            name = class_name(class_folder.name)
            found += [(image, name, split) for image in _images_below(class_folder)]
    if not found:
        raise DatasetError(
            f"{source}: holds no picture in a folder of a class (CLASS/picture.jpg or "
            f"SPLIT/CLASS/picture.jpg; {', '.join(sorted(IMAGE_SUFFIXES))})"
        )
    tasks = _one_task(task, sorted({name for _, name, _ in found}))
    rows = [
        Row(image=_below(image, source), split=split, labels={task: name})
        for image, name, split in found
    ]
    return _write(out, tasks, rows, _copies([i for i, _, _ in found], source), progress)


def import_yolo(
    source: Path,
    out: Path,
    *,
    task: str = "state",
    classes: Sequence[str] = (),
    progress: Progress | None = None,
) -> Dataset:
    """Import pictures with YOLO labels: a `.txt` a picture, a line `class x y width height` a box.

    Pictures lie in `images/` and labels in `labels/`, in any arrangement with or without a folder
    for each split. A polygon (`class x1 y1 x2 y2 …`) becomes the box around it.

    Args:
        source: The folder.
        out: The data set's folder; must not exist.
        task: What the classes answer.
        classes: Their names in order; empty = from `data.yaml`, `classes.txt` or `obj.names`.
        progress: Told how many pictures are copied.

    Returns:
        The data set; its `mistakes` name the boxes that are too small to be a zone.

    Raises:
        DatasetError: No class names, no labelled picture, or a line that is no box.
    """
    _require_folder(source)
    names = [class_name(name) for name in classes or _yolo_classes(source)]
    rows: list[Row] = []
    images: list[Path] = []
    left_out: list[Mistake] = []
    for image in _images_below(source):
        labels = _yolo_labels_of(image)
        if labels is None:
            continue
        folders = image.relative_to(source).parts[:-1]
        split = next((_SPLIT_NAMES[name] for name in folders if name in _SPLIT_NAMES), "")
        boxes = _read_yolo(labels, len(names), left_out)
        if boxes:
            images.append(image)
        rows += [
            Row(image=_below(image, source), zone=zone, split=split, labels={task: names[index]})
            for index, zone in boxes
        ]
    if not rows:
        raise DatasetError(
            f"{source}: holds no picture with a label file that has a box "
            "(images/NAME.jpg with labels/NAME.txt, or both in one folder)"
        )
    tasks = _one_task(task, list(dict.fromkeys(names)))
    dataset = _write(out, tasks, rows, _copies(images, source), progress)
    return replace(dataset, mistakes=(*dataset.mistakes, *left_out))


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

    return _write_pictures(out, task, read(), progress)


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
        names = np.array([_train_or_val(index) for index in range(len(images))])
        for split in ("train", "val"):
            yield split, images[names == split], labels[names == split]


def read_idx(source: Path) -> list[Digits]:
    """Read every pair of idx files in a folder, gzipped or not.

    Raises:
        DatasetError: There is none, or a file is missing or not of this format.
    """
    _require_folder(source)
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
    _require_folder(source)
    files = sorted(source.glob("*_batch*.bin"))
    if not files:
        raise DatasetError(f"{source}: holds no data_batch_1.bin … or test_batch.bin")
    names = [class_name(line) for line in _read_text(source / "batches.meta.txt").split()]
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
                split = "test" if is_test else _train_or_val(index)
                planes = record[1:].reshape(3, 32, 32)
                image = np.ascontiguousarray(planes.transpose(1, 2, 0)[..., ::-1])
                yield image, names[int(record[0])], split

    kinds = (kind_task, CIFAR10_KINDS) if kind_task else None
    return _write_pictures(out, task, read(), progress, names, kinds)


def class_name(text: str) -> str:
    """Return a class name made of any text: lower case, `_` for what is not a letter or digit.

    Raises:
        DatasetError: The text holds no letter or digit of ASCII.

    Examples:
        >>> class_name("Semi-open door")
        'semi_open_door'
        >>> class_name("7")
        'class_7'
    """
    name = re.sub(r"[^a-z0-9]+", "_", text.strip().lower()).strip("_")
    if not name:
        raise DatasetError(f"class {text!r} must have a letter a-z or a digit in its name")
    return (name if name[0].isalpha() else f"class_{name}")[:32].rstrip("_")


def _require_folder(source: Path) -> None:
    if not source.is_dir():
        raise DatasetError(f"{source}: must be a folder, and is not there")


def _one_task(task: str, classes: Sequence[str]) -> TaskSet:
    try:
        return TaskSet([Task(name=task, classes=tuple(classes))])
    except ValueError as error:
        raise DatasetError(str(error)) from error


def _below(path: Path, folder: Path) -> str:
    return f"images/{path.relative_to(folder).as_posix()}"


def _images_below(folder: Path) -> list[Path]:
    found = (path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    return sorted(path for path in found if path.is_file())


def _split_folders(source: Path) -> list[tuple[str, Path]]:
    folders = [path for path in sorted(source.iterdir()) if path.is_dir()]
    named = [(_SPLIT_NAMES[p.name.lower()], p) for p in folders if p.name.lower() in _SPLIT_NAMES]
    return named if named and len(named) == len(folders) else [("", source)]


def _copies(images: Sequence[Path], source: Path) -> Iterator[tuple[str, Path]]:
    return ((_below(image, source), image) for image in dict.fromkeys(images))


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: cannot be read: {error}") from error


def _yolo_classes(source: Path) -> list[str]:
    for name in ("classes.txt", "obj.names"):
        for path in sorted(source.rglob(name)):
            return [line.strip() for line in _read_text(path).splitlines() if line.strip()]
    for path in sorted([*source.rglob("data.yaml"), *source.rglob("data.yml")]):
        names = _yaml_names(_read_text(path))
        if names:
            return names
    raise DatasetError(
        f"{source}: no class names found in data.yaml, classes.txt or obj.names; "
        "give them with --classes"
    )


def _yaml_names(text: str) -> list[str]:
    """Return the list `names:` of a YOLO data.yaml: in brackets, dashed or numbered lines."""
    found = re.search(r"^names:[ \t]*(\[[^\]]*\]|)", text, re.MULTILINE)
    if not found:
        return []
    if found.group(1):
        items = found.group(1)[1:-1].replace("\n", " ").split(",")
    else:
        items = []
        for line in text[found.end() :].lstrip("\n").splitlines():
            item = re.match(r"\s*(?:-|\d+:)\s*(.+)$", line)
            if not item:
                break
            items.append(item.group(1))
    return [item.split(" #")[0].strip().strip("'\"") for item in items if item.strip()]


def _yolo_labels_of(image: Path) -> Path | None:
    parts = list(image.parts)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    for path in (Path(*parts).with_suffix(".txt"), image.with_suffix(".txt")):
        if path.is_file():
            return path
    return None


def _read_yolo(path: Path, classes: int, left_out: list[Mistake]) -> list[tuple[int, Zone]]:
    boxes = []
    for number, line in enumerate(_read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            index, corners = _yolo_box(line)
        except ValueError as error:
            raise DatasetError(f"{path}:{number}: {error}") from error
        if not 0 <= index < classes:
            raise DatasetError(f"{path}:{number}: class {index}, there are only {classes} names")
        try:
            boxes.append((index, Zone.rectangle(*corners)))
        except ValueError as error:
            left_out.append(Mistake(str(path), number, f"left out: {error}", is_error=False))
    return boxes


def _yolo_box(line: str) -> tuple[int, tuple[float, float, float, float]]:
    """Class, and left, top, right, bottom as fractions of the picture."""
    words = line.split()
    try:
        index, numbers = int(words[0]), [float(word) for word in words[1:]]
    except ValueError:
        index, numbers = -1, []
    if len(numbers) == 4:
        x, y, width, height = numbers
        box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    elif len(numbers) >= 6 and len(numbers) % 2 == 0:
        across, down = numbers[0::2], numbers[1::2]
        box = (min(across), min(down), max(across), max(down))
    else:
        raise ValueError(f"must be: class x y width height, is {line.strip()[:60]!r}")
    # Rounding in the tools that write these puts edges a hair outside the picture.
    left, top, right, bottom = (min(max(value, 0.0), 1.0) for value in box)
    return index, (left, top, right, bottom)


def _train_or_val(index: int) -> str:
    """Keep a tenth of the training pictures aside: without `val` nothing can be calibrated."""
    return "val" if index % 10 == 9 else "train"


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
    except (OSError, EOFError) as error:
        raise DatasetError(f"{path}: cannot be read: {error}") from error
    if int.from_bytes(data[:4], "big") != magic:
        raise DatasetError(f"{path}: must begin with {magic:#010x}, begins with {data[:4].hex()}")
    dimensions = magic & 0xFF
    shape = tuple(int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(dimensions))
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions)
    if values.size != np.prod(shape, dtype=np.int64):
        raise DatasetError(f"{path}: must hold {shape} values, holds {values.size}")
    return values.reshape(shape)


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


def _write_pictures(
    out: Path,
    task: str,
    pictures: Iterable[Labelled],
    progress: Progress | None,
    names: Sequence[str] = (),
    kinds: tuple[str, Mapping[str, str]] | None = None,
) -> Dataset:
    """Write pictures as PNG, numbered within their split and class.

    `kinds` is a second task and what it says of each class.
    """
    with new_folder(out) as folder:
        rows: list[Row] = []
        seen: Counter[tuple[str, str]] = Counter()
        for image, name, split in pictures:
            seen[split, name] += 1
            path = f"images/{split}/{name}/{seen[split, name]:05d}.png"
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(cv2.imencode(".png", image)[1].tobytes())
            labels = {task: name} | ({kinds[0]: kinds[1][name]} if kinds else {})
            rows.append(Row(image=path, split=split, labels=labels))
            if progress and len(rows) % 100 == 0:
                progress(len(rows), len(rows) + 1)
        found = {row.labels[task] for row in rows}
        classes = names or sorted(found, key=lambda name: (len(name), name))  # 2 before 10
        tasks = _one_task(task, classes)
        if kinds:
            coarse = sorted({kinds[1][name] for name in classes})
            tasks = tasks.joined(_one_task(kinds[0], coarse))
        write_dataset(folder, name=_dataset_name(out), tasks=tasks, rows=_in_order(rows))
    return read_dataset(out)


def _write(
    out: Path,
    tasks: TaskSet,
    rows: Sequence[Row],
    copies: Iterable[tuple[str, Path]],
    progress: Progress | None,
) -> Dataset:
    with new_folder(out) as folder:
        pairs = list(copies)
        for done, (name, image) in enumerate(pairs, 1):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(image, folder / name)
            if progress:
                progress(done, len(pairs))
        write_dataset(folder, name=_dataset_name(out), tasks=tasks, rows=_in_order(rows))
    return read_dataset(out)


def _dataset_name(out: Path) -> str:
    return out.absolute().name


def _in_order(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: SPLITS.index(row.split) if row.split else -1)


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Give a folder to fill that gets the name `out` when the block has ended well, or goes.

    Raises:
        DatasetError: There is something of that name.
    """
    if out.exists():
        raise DatasetError(f"{out}: exists already; name a folder that does not")
    parent = out.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=parent))
    try:
        yield folder
        folder.chmod(0o755)
        folder.rename(out)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
