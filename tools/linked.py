"""Data sets whose pictures are those of another one."""

from collections.abc import Sequence
from pathlib import Path

from train.scenes.dataset import scene_tasks
from transom.dataset import Row, write_dataset


def write_linked(out: Path, name: str, rows: Sequence[Row], source: Path) -> None:
    """Write rows, labelled for `kind` and `state`, as a data set that links to `source`'s pictures.

    Raises:
        DatasetError: A row could not be read back.
        OSError: Something cannot be written.
    """
    write_dataset(out, name=name, tasks=scene_tasks(), rows=rows)
    images = out / "images"
    images.unlink(missing_ok=True)  # made before
    images.symlink_to((source / "images").resolve())
