"""What importers have in common: finding pictures, naming classes, writing the folder."""

import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2

from train.progress import Progress
from transom.crop import Image
from transom.dataset import SPLITS, Dataset, Mistake, Row, read_dataset, write_dataset
from transom.errors import DatasetError
from transom.tasks import Task, TaskSet

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff"}
)

_OTHER_PICTURES = frozenset(
    {".heic", ".heif", ".avif", ".jxl", ".gif", ".dng", ".cr2", ".cr3", ".nef", ".arw"}
)
"""What a person takes for pictures, too: left out, but not without a word."""

_NOT_OF_PERSONS = frozenset({"__MACOSX", "@eaDir"})
"""Folders that archives of macOS, and Synology's for its previews, put among a person's own."""

SPLIT_NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
"""What folders of a split are called, and the split."""

Labelled = tuple[Image, str, str]
"""A picture, its class and its split."""


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


def require_folder(source: Path) -> None:
    """Refuse a source that is no folder.

    Raises:
        DatasetError: It is none.
    """
    if not source.is_dir():
        raise DatasetError(f"{source}: must be a folder, and is not there")


def one_task(task: str, classes: Sequence[str]) -> TaskSet:
    """Return a task set of one task.

    Raises:
        DatasetError: Its name or classes are none.
    """
    try:
        return TaskSet([Task(name=task, classes=tuple(classes))])
    except ValueError as error:
        raise DatasetError(str(error)) from error


def folders_in(folder: Path) -> list[Path]:
    """Return the folders in a folder, sorted, without those that no person made."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and _is_of_person(path.name))


def images_below(folder: Path) -> list[Path]:
    """Return the pictures at any depth, sorted, without those that no person put there."""
    return _files_below(folder, IMAGE_SUFFIXES)


def other_pictures_below(folder: Path) -> list[Mistake]:
    """Name the pictures at any depth of a kind that is not imported."""
    kinds = ", ".join(sorted(IMAGE_SUFFIXES))
    return [
        Mistake(str(path), 0, f"is none of {kinds}; save it as JPEG", is_error=False)
        for path in _files_below(folder, _OTHER_PICTURES)
    ]


def of_other_kinds(left_out: Sequence[Mistake]) -> str:
    """Return the end of an error's sentence where only such pictures were found, or nothing."""
    if not left_out:
        return ""
    return f"; {len(left_out)} are of other kinds, as {left_out[0].file}: save them as JPEG"


def _files_below(folder: Path, suffixes: frozenset[str]) -> list[Path]:
    found = (path for path in folder.rglob("*") if path.suffix.lower() in suffixes)
    return sorted(
        path
        for path in found
        if all(map(_is_of_person, path.relative_to(folder).parts)) and path.is_file()
    )


def _is_of_person(name: str) -> bool:
    """Whether a name may be a person's: macOS leaves a ._NAME beside each file that it copies."""
    return not name.startswith(".") and name not in _NOT_OF_PERSONS


def place_of(path: Path, folder: Path) -> str:
    """Return where a picture of `folder` lies in a data set that is made of it."""
    return f"images/{path.relative_to(folder).as_posix()}"


def copies_of(images: Sequence[Path], source: Path) -> Iterator[tuple[str, Path]]:
    """Yield each picture once, with where it lies in the data set."""
    return ((place_of(image, source), image) for image in dict.fromkeys(images))


def read_text(path: Path) -> str:
    """Return the text of a file.

    Raises:
        DatasetError: It cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: cannot be read: {error}") from error


def train_or_val(index: int) -> str:
    """Keep a tenth of the training pictures aside: without `val` nothing can be calibrated."""
    return "val" if index % 10 == 9 else "train"


def write_pictures(
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
        tasks = one_task(task, classes)
        if kinds:
            coarse = sorted({kinds[1][name] for name in classes})
            tasks = tasks.joined(one_task(kinds[0], coarse))
        write_dataset(folder, name=_dataset_name(out), tasks=tasks, rows=_in_order(rows))
    return read_dataset(out)


def write_copies(
    out: Path,
    tasks: TaskSet,
    rows: Sequence[Row],
    copies: Iterable[tuple[str, Path]],
    progress: Progress | None,
) -> Dataset:
    """Write a data set of pictures that are files already.

    Args:
        out: Its folder; must not exist.
        tasks: Its tasks.
        rows: Its rows.
        copies: Where each picture lies in the data set, and its file.
        progress: Told how many pictures are copied.

    Raises:
        DatasetError: `out` exists.
    """
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
