"""Pictures in a folder for each class."""

from pathlib import Path

from train.importers.writing import (
    IMAGE_SUFFIXES,
    SPLIT_NAMES,
    class_name,
    copies_of,
    images_below,
    one_task,
    place_of,
    require_folder,
    write_copies,
)
from train.progress import Progress
from transom.dataset import Dataset, Row
from transom.errors import DatasetError


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
    require_folder(source)
    found: list[tuple[Path, str, str]] = []
    for split, folder in _split_folders(source):
        for class_folder in sorted(path for path in folder.iterdir() if path.is_dir()):
            name = class_name(class_folder.name)
            found += [(image, name, split) for image in images_below(class_folder)]
    if not found:
        raise DatasetError(
            f"{source}: holds no picture in a folder of a class (CLASS/picture.jpg or "
            f"SPLIT/CLASS/picture.jpg; {', '.join(sorted(IMAGE_SUFFIXES))})"
        )
    tasks = one_task(task, sorted({name for _, name, _ in found}))
    rows = [
        Row(image=place_of(image, source), split=split, labels={task: name})
        for image, name, split in found
    ]
    return write_copies(out, tasks, rows, copies_of([i for i, _, _ in found], source), progress)


def _split_folders(source: Path) -> list[tuple[str, Path]]:
    folders = [path for path in sorted(source.iterdir()) if path.is_dir()]
    named = [(SPLIT_NAMES[p.name.lower()], p) for p in folders if p.name.lower() in SPLIT_NAMES]
    return named if named and len(named) == len(folders) else [("", source)]
