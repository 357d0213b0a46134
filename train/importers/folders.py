"""Pictures in a folder for each class."""

from dataclasses import replace
from pathlib import Path

from train.importers.writing import (
    IMAGE_SUFFIXES,
    SPLIT_NAMES,
    class_name,
    copies_of,
    folders_in,
    images_below,
    of_other_kinds,
    one_task,
    other_pictures_below,
    place_of,
    require_folder,
    write_copies,
)
from train.progress import Progress
from transom.dataset import Dataset, Mistake, Row
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

    Returns:
        The data set; its `mistakes` name the pictures of a kind that is not imported.

    Raises:
        DatasetError: There is no picture in a folder of a class, or `out` exists.
    """
    require_folder(source)
    found: list[tuple[Path, str, str]] = []
    left_out: list[Mistake] = []
    for split, folder in _split_folders(source):
        for class_folder in folders_in(folder):
            images = images_below(class_folder)
            left_out += other_pictures_below(class_folder)
            if images:
                name = class_name(class_folder.name)
                found += [(image, name, split) for image in images]
    if not found:
        raise DatasetError(
            f"{source}: holds no picture in a folder of a class (CLASS/picture.jpg or "
            f"SPLIT/CLASS/picture.jpg; {', '.join(sorted(IMAGE_SUFFIXES))})"
            f"{of_other_kinds(left_out)}"
        )
    tasks = one_task(task, sorted({name for _, name, _ in found}))
    rows = [
        Row(image=place_of(image, source), split=split, labels={task: name})
        for image, name, split in found
    ]
    copies = copies_of([image for image, _, _ in found], source)
    dataset = write_copies(out, tasks, rows, copies, progress)
    return replace(dataset, mistakes=(*dataset.mistakes, *left_out))


def _split_folders(source: Path) -> list[tuple[str, Path]]:
    folders = folders_in(source)
    named = [(SPLIT_NAMES[p.name.lower()], p) for p in folders if p.name.lower() in SPLIT_NAMES]
    return named if named and len(named) == len(folders) else [("", source)]
