"""The commands `transom data …`."""

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
import msgspec

from train.check import check_datasets
from train.evaluate_commands import load_predictor
from train.importers import import_cifar10, import_folders, import_idx, import_yolo, new_folder
from train.multimnist import import_multimnist
from train.progress import progress_bar
from train.splits import SHARES, assign_splits, write_splits
from transom.dataset import SPLITS, Dataset, Mistake, read_dataset, sole_writer
from transom.errors import EXIT_FAILED
from transom.starter import STARTER

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_NEW_FOLDER = click.Path(path_type=Path)
_POSITIVE = click.IntRange(min=1)
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.group("data")
def data_group() -> None:
    """Check, split, import or draw a data set.

    \b
    Example:
        transom data check data/hall
    """


@data_group.command("check")
@click.argument("datasets", nargs=-1, required=True, type=_FOLDER)
@click.option(
    "--model",
    default=STARTER,
    show_default=True,
    help="Bundle or run whose embedding finds the same door on two sides of a split; or `none`.",
)
@_json
@click.pass_context
def check_command(
    context: click.Context, datasets: tuple[Path, ...], model: str, as_json: bool
) -> None:
    """Name everything that is wrong with data sets, with file and line.

    Several data sets are checked as they would train together. Copies on two sides of a split are
    errors, of one that is only assigned (transom data split writes it) a warning; a warning names
    each held-out group that shows the same door as training pictures, from another view or in other
    light. Exits 1 if anything is an error.

    \b
    Example:
        transom data check data/hall data/garage
        transom data check data/cifar10 --model none
    """
    predictor = None if model == "none" else load_predictor(model)
    with progress_bar("reading and comparing") as progress:
        mistakes = check_datasets(datasets, predictor=predictor, progress=progress)
    errors = sum(mistake.is_error for mistake in mistakes)
    if as_json:
        click.echo(msgspec.json.encode(_check_json(mistakes)).decode())
    else:
        for mistake in mistakes:
            click.echo(f"{'error' if mistake.is_error else 'warning'}: {mistake}")
        click.echo(f"{_counted(errors, 'error')}, {_counted(len(mistakes) - errors, 'warning')}")
    if errors:
        context.exit(EXIT_FAILED)


@data_group.command("split")
@click.argument("dataset", type=_FOLDER)
@click.option("--seed", default=0, show_default=True, help="Another seed, another split.")
@click.option("--val", default=SHARES["val"], show_default=True, help="Share of rows that choose.")
@click.option("--test", default=SHARES["test"], show_default=True, help="Share of rows that judge.")
@click.option("--again", is_flag=True, help="Assign rows that have a split already, too.")
@_json
def split_command(
    dataset: Path, seed: int, val: float, test: float, again: bool, as_json: bool
) -> None:
    """Write the column `split` of labels.csv, by group, classes spread evenly.

    \b
    Example:
        transom data split data/hall --val 0.2 --test 0.2
    """
    if not (val >= 0 and test >= 0 and val + test < 1):  # nor are there shares of nan
        raise click.UsageError("--val and --test must be 0 or more and leave a share to train")
    shares = {"train": 1 - val - test, "val": val, "test": test}
    with sole_writer(dataset):  # a pull adds rows, and splits go by the lines that were read
        found = read_dataset(dataset)
        if again:
            bare = tuple(replace(row, split="") for row in found.rows)
            found = replace(found, rows=bare)
        (splits,) = assign_splits([found], seed=seed, shares=shares)
        write_splits(dataset, found, splits)
    rows = Counter(splits.tolist())
    groups = Counter(
        dict(zip((r.group_key for r in found.rows), splits.tolist(), strict=True)).values()
    )
    if as_json:
        counts = {name: {"rows": rows[name], "groups": groups[name]} for name in SPLITS}
        click.echo(msgspec.json.encode(counts).decode())
    else:
        for name in SPLITS:
            click.echo(f"{name:<5} {rows[name]:>7} rows {groups[name]:>7} groups")


@data_group.group("import")
def import_group() -> None:
    """Import pictures from another form into a new data set.

    \b
    Example:
        transom data import folders photos data/hall
    """


_source = click.argument("source", type=_FOLDER)
_out = click.argument("out", type=_NEW_FOLDER)


def _task_option(default: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(
        "--task", default=default, show_default=True, help="What the classes answer."
    )


_limit = click.option("--limit", type=_POSITIVE, help="Most pictures of each file.")


@import_group.command("folders")
@_source
@_out
@_task_option("state")
@_json
def import_folders_command(source: Path, out: Path, task: str, as_json: bool) -> None:
    """Import CLASS/picture.jpg, or SPLIT/CLASS/picture.jpg.

    \b
    Example:
        transom data import folders photos data/hall --task state
    """
    with progress_bar("copying") as progress:
        _tell(import_folders(source, out, task=task, progress=progress), as_json=as_json)


@import_group.command("yolo")
@_source
@_out
@_task_option("state")
@click.option("--classes", default="", help="Names in order, with commas; else from data.yaml.")
@_json
def import_yolo_command(source: Path, out: Path, task: str, classes: str, as_json: bool) -> None:
    """Import pictures with YOLO's label files.

    \b
    Example:
        transom data import yolo downloads/doors data/doors --classes closed,open
    """
    names = [name.strip() for name in classes.split(",") if name.strip()]
    with progress_bar("copying") as progress:
        _tell(
            import_yolo(source, out, task=task, classes=names, progress=progress), as_json=as_json
        )


@import_group.command("mnist")
@_source
@_out
@_task_option("digit")
@_limit
@_json
def import_mnist_command(
    source: Path, out: Path, task: str, limit: int | None, as_json: bool
) -> None:
    """Import MNIST's idx files, gzipped or not.

    \b
    Example:
        transom data import mnist downloads/mnist data/mnist --limit 2000
    """
    with progress_bar("writing") as progress:
        _tell(import_idx(source, out, task=task, limit=limit, progress=progress), as_json=as_json)


@import_group.command("cifar10")
@_source
@_out
@_task_option("object")
@click.option("--kind-task", default="", help="A second task of this name: animal or vehicle.")
@_limit
@_json
def import_cifar10_command(
    source: Path, out: Path, task: str, kind_task: str, limit: int | None, as_json: bool
) -> None:
    """Import CIFAR-10's binary version.

    \b
    Example:
        transom data import cifar10 downloads/cifar-10-batches-bin data/cifar10 --kind-task kind
    """
    with progress_bar("writing") as progress:
        _tell(
            import_cifar10(
                source, out, task=task, kind_task=kind_task, limit=limit, progress=progress
            ),
            as_json=as_json,
        )


@import_group.command("multimnist")
@_source
@_out
@_limit
@click.option("--seed", default=0, show_default=True, help="Another seed, other pairs.")
@_json
def import_multimnist_command(
    source: Path, out: Path, limit: int | None, seed: int, as_json: bool
) -> None:
    """Lay digits of MNIST over each other in pairs: which is on the left, which on the right?

    \b
    Example:
        transom data import multimnist downloads/mnist data/multimnist --limit 10000
    """
    with progress_bar("writing") as progress:
        _tell(
            import_multimnist(source, out, limit=limit, seed=seed, progress=progress),
            as_json=as_json,
        )


@data_group.command("generate")
@_out
@click.option("--groups", type=_POSITIVE, default=200, show_default=True, help="Openings drawn.")
@click.option("--pictures", type=_POSITIVE, default=10, show_default=True, help="Pictures of each.")
@click.option(
    "--size",
    type=(click.IntRange(min=120), click.IntRange(min=120)),
    default=(640, 480),
    show_default=True,
    help="Width and height of a picture, pixels.",
)
@click.option("--seed", default=0, show_default=True, help="Another seed, other scenes.")
@click.option("--workers", type=_POSITIVE, help="Processes that draw; default: one a core.")
@click.option(
    "--plain", is_flag=True, help="One door and one window a room, of the usual mechanisms."
)
@_json
def generate_command(
    out: Path,
    groups: int,
    pictures: int,
    size: tuple[int, int],
    seed: int,
    workers: int | None,
    plain: bool,
    as_json: bool,
) -> None:
    """Draw doors and windows in rooms, labelled, as a new data set.

    \b
    Example:
        transom data generate data/scenes --groups 300 --pictures 8 --size 640 480
    """
    from train.scenes import generate_dataset

    with new_folder(out) as folder, progress_bar("drawing") as progress:
        generate_dataset(
            folder,
            groups=groups,
            pictures=pictures,
            seed=seed,
            size=size,
            workers=workers or len(os.sched_getaffinity(0)),
            is_plain=plain,
            progress=progress,
        )
    _tell(read_dataset(out), as_json=as_json)


def _tell(dataset: Dataset, *, as_json: bool) -> None:
    for mistake in dataset.mistakes:
        click.echo(f"left out: {mistake}", err=True)
    if as_json:
        told = {
            "folder": str(dataset.folder),
            "rows": len(dataset.rows),
            "tasks": {task.name: task.classes for task in dataset.tasks},
            "left_out": len(dataset.mistakes),
        }
        click.echo(msgspec.json.encode(told).decode())
        return
    tasks = "; ".join(f"{task.name}: {', '.join(task.classes)}" for task in dataset.tasks)
    click.echo(f"{dataset.folder}: {len(dataset.rows)} rows; {tasks}")


def _check_json(mistakes: list[Mistake]) -> dict[str, object]:
    found = [
        {"file": m.file, "line": m.line, "what": m.what, "error": m.is_error} for m in mistakes
    ]
    return {"ok": not any(m.is_error for m in mistakes), "mistakes": found}


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
