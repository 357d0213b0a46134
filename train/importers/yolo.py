"""Pictures with boxes in the text files of YOLO."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from train.importers.writing import (
    SPLIT_NAMES,
    class_name,
    copies_of,
    images_below,
    of_other_kinds,
    one_task,
    other_pictures_below,
    place_of,
    read_text,
    require_folder,
    write_copies,
)
from train.progress import Progress
from transom.dataset import Dataset, Mistake, Row
from transom.errors import DatasetError
from transom.geometry import Zone


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
        The data set; its `mistakes` name the boxes that are too small to be a zone, and the
        pictures of a kind that is not imported.

    Raises:
        DatasetError: No class names, no labelled picture, or a line that is no box.
    """
    require_folder(source)
    names = [class_name(name) for name in classes or _yolo_classes(source)]
    rows: list[Row] = []
    images: list[Path] = []
    left_out = other_pictures_below(source)
    for image in images_below(source):
        labels = _yolo_labels_of(image)
        if labels is None:
            continue
        folders = [name.lower() for name in image.relative_to(source).parts[:-1]]
        split = next((SPLIT_NAMES[name] for name in folders if name in SPLIT_NAMES), "")
        boxes = _read_yolo(labels, len(names), left_out)
        if boxes:
            images.append(image)
        rows += [
            Row(image=place_of(image, source), zone=zone, split=split, labels={task: names[index]})
            for index, zone in boxes
        ]
    if not rows:
        raise DatasetError(
            f"{source}: holds no picture with a label file that has a box "
            "(images/NAME.jpg with labels/NAME.txt, or both in one folder)"
            f"{of_other_kinds(left_out)}"
        )
    tasks = one_task(task, list(dict.fromkeys(names)))
    dataset = write_copies(out, tasks, rows, copies_of(images, source), progress)
    return replace(dataset, mistakes=(*dataset.mistakes, *left_out))


def _yolo_classes(source: Path) -> list[str]:
    for name in ("classes.txt", "obj.names"):
        for path in sorted(source.rglob(name)):
            return [line.strip() for line in read_text(path).splitlines() if line.strip()]
    for path in sorted([*source.rglob("data.yaml"), *source.rglob("data.yml")]):
        names = _yaml_names(read_text(path))
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
    for number, line in enumerate(read_text(path).splitlines(), 1):
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
