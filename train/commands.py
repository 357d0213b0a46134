"""The command `transom train`."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from train.history import EpochRecord
from train.progress import Progress, progress_bar
from train.recipe import Recipe, load_recipe, parse_setting, read_toml
from transom.dataset import read_dataset
from transom.errors import RunError
from transom.starter import STARTER

if TYPE_CHECKING:
    from train.against import Rival
    from train.run import Run

NO_START = "none"
"""What `--start` is told for a training that begins from no run."""

_FOLDER = click.Path(file_okay=False, path_type=Path)
_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("train")
@click.argument("datasets", nargs=-1, required=True, metavar="DATASET...", type=_FOLDER)
@click.option("--out", required=True, metavar="RUN", type=_FOLDER, help="Folder of the run.")
@click.option("--recipe", "recipe_file", type=_FILE, help="TOML file; what it omits is default.")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="One key of the recipe."
)
@click.option("--epochs", type=int, help="Passes over the data.")
@click.option("--size", type=int, help="Side of the crops, pixels.")
@click.option("--seed", type=int, help="Of every random number.")
@click.option("--backbone", help="Name of the backbone, such as efficientnet_lite0 or tiny.")
@click.option(
    "--start",
    metavar="RUN",
    help="A run to start from, or the word starter: the default where the data ask what it knows. "
    "The word none: weights of ImageNet.",
)
@click.option(
    "--teacher",
    "teachers",
    multiple=True,
    metavar="RUN",
    help="A run to learn from, or the word starter, beside the labels; may be given several times.",
)
@click.option(
    "--against",
    metavar="BUNDLE",
    help="Compare with this bundle on the held-out rows, zone by zone. The default where data sets "
    "were pulled: what the devices serve, where that bundle is at hand. The word none: nothing.",
)
@click.option("--resume", is_flag=True, help="Go on with an interrupted training in RUN.")
@click.option("--json", "as_json", is_flag=True, help="Print the metrics as one JSON object.")
def train_command(
    datasets: tuple[Path, ...],
    out: Path,
    recipe_file: Path | None,
    settings: tuple[str, ...],
    teachers: tuple[str, ...],
    against: str | None,
    resume: bool,
    as_json: bool,
    **shortcuts: Any,
) -> None:
    """Train a network on data sets and write a run.

    The run's folder has the resolved recipe, the weights, the metrics, a report to open in a
    browser, and events for TensorBoard. Ctrl-C loses at most the epoch under way; --resume goes
    on and ends where an uninterrupted training would.

    \b
    Examples:
        transom train doors --out runs/first
        transom train doors home --out runs/home --epochs 12 --set augment.flip=0
        transom train home --out runs/better --start runs/home
        transom train home --out runs/own --start none
        transom train pulled --out runs/monday --against home.bundle
        transom train doors --out runs/first --resume
        torchrun --nproc-per-node 2 -m transom train doors --out runs/both
        transom train doors --out runs/small --backbone tiny --teacher runs/first
    """
    chosen = {key: value for key, value in shortcuts.items() if value is not None}
    chosen = {**read_settings(settings), **chosen}
    if resume and (recipe_file or chosen or teachers):
        raise click.UsageError(
            "--resume goes on with the run's own recipe and teachers; leave the others out"
        )
    if resume:
        if not (out / "recipe.toml").is_file():  # as after a Ctrl-C while pictures are read
            raise RunError(f"{out}: has nothing to resume yet; leave --resume out")
        recipe = load_recipe(out / "recipe.toml")
    else:
        recipe = resolve_recipe(recipe_file, choose_start(recipe_file, chosen, datasets))
    rival = _rival(against, datasets)
    run = _train(recipe, datasets, out, resume, teachers, rival)
    if not _speaks():
        return
    found = rival.found if rival is not None else {}
    if as_json:
        told = {"against": {name: beside.to_json() for name, beside in found.items()}}
        click.echo(msgspec.json.encode(run.metrics | (told if found else {})).decode())
    else:
        click.echo(summary(run))
        for beside in found.values():
            click.echo("\n".join(beside.as_lines()))


def _speaks() -> bool:
    """Return whether this process speaks for all that `torchrun` started."""
    return int(os.environ.get("RANK", "0")) == 0


def read_settings(settings: tuple[str, ...]) -> dict[str, object]:
    """Return what `--set KEY=VALUE` says, given any number of times.

    Raises:
        click.BadParameter: A setting is not of that form.
    """
    try:
        return dict(parse_setting(text) for text in settings)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--set") from error


def choose_start(
    recipe_file: Path | None, values: Mapping[str, object], datasets: tuple[Path, ...]
) -> dict[str, object]:
    """Let a training begin from the starter where it knows a task, unless something else is asked.

    Args:
        recipe_file: TOML; None = the defaults.
        values: By recipe key.
        datasets: Their folders.

    Raises:
        ConfigurationError: The file is no recipe.
        DatasetError: A data set cannot be read.
    """
    if values.get("start") == NO_START:
        return {**values, "start": ""}
    # torch is seconds: not for --help
    from train.start import asks_for_network, known_tasks, starter_run

    if not starter_run().is_dir() or asks_for_network(
        [*(read_toml(recipe_file) if recipe_file else ()), *values]
    ):
        return dict(values)
    known = {name for folder in datasets for name in known_tasks(read_dataset(folder).tasks)}
    if not known:
        return dict(values)
    if _speaks():
        click.echo(
            f"begins from the starter, which knows {', '.join(sorted(known))}; "
            f"--start {NO_START} begins from weights of ImageNet",
            err=True,
        )
    return {**values, "start": STARTER}


def resolve_recipe(recipe_file: Path | None, values: Mapping[str, object]) -> Recipe:
    """Return the recipe of a file with some keys set, in the shape of what it starts from.

    A start fixes what the network looks like and what it is fed, unless the file or a key asks
    for something else by name.

    Args:
        recipe_file: TOML; None = the defaults.
        values: By recipe key, dotted where it is in a table.

    Raises:
        ConfigurationError: The file or a key says what no recipe can.
        RunError: There is no such run to start from.
    """
    recipe = load_recipe(recipe_file) if recipe_file else Recipe()
    start = values.get("start", recipe.start)
    if not start:
        return recipe.with_values(values)
    from train.start import shape_of  # torch is seconds: not for --help

    asked = {*(read_toml(recipe_file) if recipe_file else ()), *values}
    shape = {key: value for key, value in shape_of(str(start)).items() if key not in asked}
    return recipe.with_values({**shape, **values})


def _rival(against: str | None, datasets: tuple[Path, ...]) -> "Rival | None":
    """Return what the run is compared with; None = with nothing."""
    if against == NO_START:
        return None
    from train.against import SERVING, Rival, find_serving  # torch is seconds: not for --help

    bundle = against or find_serving(datasets)
    if bundle is None and any((folder / SERVING).exists() for folder in datasets) and _speaks():
        click.echo(
            "the bundle that the devices serve is not at hand, or they serve several: "
            "name one with --against BUNDLE",
            err=True,
        )
    return None if bundle is None else Rival(bundle, datasets)


def _train(
    recipe: Recipe,
    datasets: tuple[Path, ...],
    out: Path,
    resume: bool,
    teachers: tuple[str, ...],
    rival: "Rival | None",
) -> "Run":
    from train.corpus_loader import read_corpus
    from train.fit import fit  # torch is seconds: not for --help
    from train.run import require_new
    from train.start import named_run

    if not resume:
        require_new(out, can_resume=True)  # before any picture is read
    teaching = [named_run(name) for name in teachers]

    corpus = read_corpus(datasets, recipe)
    with console_progress() as shown:
        return fit(
            recipe,
            corpus,
            out,
            resume=resume,
            progress=shown,
            datasets=datasets,
            teachers=teaching,
            compare=rival,
        )


class ConsoleProgress:
    """A bar of all steps on a terminal, and a line for each epoch, both on stderr.

    Args:
        bar: Told of each step.
    """

    def __init__(self, bar: Progress) -> None:
        self._bar = bar

    def step(self, done: int, total: int) -> None:
        """Move the bar."""
        self._bar(done, total)

    def epoch(self, record: EpochRecord, epochs: int) -> None:
        """Print the epoch's line."""
        clear = "\r\x1b[K" if sys.stderr.isatty() else ""  # over the bar, which is drawn again
        click.echo(f"{clear}{epoch_line(record, epochs)}", err=True)


@contextmanager
def console_progress() -> Iterator[ConsoleProgress]:
    """Show the progress of a training on stderr while the block runs."""
    with progress_bar("training") as bar:
        yield ConsoleProgress(bar)


def epoch_line(record: EpochRecord, epochs: int) -> str:
    """Return an epoch as one line of text."""
    parts = [f"epoch {record.epoch}/{epochs}"]
    for task, loss in record.loss.items():
        accuracy = record.val_accuracy.get(task)
        right = "" if accuracy is None else f", val {accuracy:.1%}"
        parts.append(f"{task}: loss {loss:.3f}{right}")
    parts.append(f"{record.seconds:.0f} s, {record.images_per_s:.0f} images/s")
    return "  ".join(parts)


def summary(run: "Run") -> str:
    """Return what a person wants to know of a finished run."""
    lines = []
    for split, evaluation in run.results.evaluations.items():
        for task, figures in evaluation["tasks"].items():
            if figures["n"]:
                lines.append(
                    f"{split}: {task} {figures['accuracy']:.1%} right of {figures['n']} pictures, "
                    f"each class alike {figures['balanced_accuracy']:.1%}"
                )
    seconds, rate = run.results.seconds, run.results.images_per_s
    lines.append(f"{run.folder}: {seconds:.0f} s of training, {rate:.0f} images/s; see report.html")
    return "\n".join(lines)
