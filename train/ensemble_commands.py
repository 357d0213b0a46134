"""The command `transom ensemble`."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
import msgspec
import numpy as np

from train.commands import summary
from transom.errors import RunError

if TYPE_CHECKING:
    from train.members import TaskAgreement
    from train.run import Run

_FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command("ensemble")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=_FOLDER)
@click.option("--out", required=True, metavar="RUN", type=_FOLDER, help="Folder of the new run.")
@click.option(
    "--how",
    type=click.Choice(["mean", "weighted", "stacked", "soup"]),
    default="mean",
    show_default=True,
    help="Mean of the answers; weights or a linear map fitted on val; mean of the networks.",
)
@click.option(
    "--data",
    "datasets",
    multiple=True,
    metavar="DATASET",
    type=_FOLDER,
    help="Data to calibrate and judge on; otherwise those that the first run was trained on.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the metrics as one JSON object.")
def ensemble_command(
    runs: tuple[Path, ...],
    out: Path,
    how: Literal["mean", "weighted", "stacked", "soup"],
    datasets: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Put several runs together as one.

    The answers of an ensemble are better than those of its members where they differ, and it
    costs as much as all of them. A soup averages the networks themselves, where that does not
    make val worse: it needs runs of the same recipe but for the seed, the length or the
    augmentation, best from one pretrained start, and costs as much as one.

    \b
    Examples:
        transom ensemble runs/a runs/b runs/c --out runs/three
        transom ensemble runs/a runs/b runs/c --out runs/soup --how soup
        transom train doors --out runs/student --teacher runs/three
    """
    from train.corpus_loader import read_corpus
    from train.ensemble import make_ensemble, make_soup, why_not_on_a_device
    from train.evaluate import foreign_lines
    from train.run import read_run, require_new

    require_new(out)
    members = [read_run(folder) for folder in runs]
    folders = datasets or members[0].datasets
    if not folders:
        raise RunError(f"{members[0].folder}: does not say its data sets; name them with --data")
    corpus = read_corpus(folders, members[0].input)
    kept_aside = corpus.select(np.flatnonzero(corpus.splits != "train"))
    tasks = {task.name: task for run in members for task in run.tasks}
    for line in foreign_lines(tasks.values(), kept_aside):
        click.echo(line, err=True)
    if how == "soup":
        run, soup = make_soup(members, corpus, out, datasets=folders)
        lines = [
            f"soup of {len(soup.ingredients)} of {len(members)}: "
            + ", ".join(str(members[place].folder) for place in soup.ingredients),
            f"val: {soup.score:.1%} right, the best alone {max(soup.scores):.1%}",
        ]
    else:
        run = make_ensemble(members, corpus, out, how=how, datasets=folders)
        lines = _explain(run)
    obstacle = why_not_on_a_device(run.network())
    lines.append(
        f"not for a device: {obstacle}" if obstacle else "transom export takes it as one graph"
    )
    if as_json:
        click.echo(msgspec.json.encode(run.metrics).decode())
    else:
        click.echo("\n".join([*lines, summary(run)]))


def _explain(run: "Run") -> list[str]:
    from train.members import read_ensemble

    ensemble = read_ensemble(run.folder)
    lines: list[str] = []
    for task, found in (ensemble.agreement if ensemble else {}).items():
        weights = ensemble.weights.get(task, {}) if ensemble else {}
        lines += [f"{task}:", *_task_lines(found, weights)]
    return lines


def _task_lines(found: "TaskAgreement", weights: dict[str, float]) -> list[str]:
    lines = []
    for name, accuracy in found.accuracy.items():
        weight = f", weight {weights[name]:.2f}" if name in weights else ""
        lines.append(f"  {name}: {accuracy:.1%} right of {found.n} held-out rows{weight}")
    lines.append(f"  all say the same of {found.unanimous:.1%}{_right(found.accuracy_unanimous)}")
    if found.accuracy_divided is not None:
        lines.append(f"  where they differ, the ensemble is right in {found.accuracy_divided:.1%}")
    lines.append(f"  at least one is right of {found.one_right:.1%}")
    return lines


def _right(share: float | None) -> str:
    return "" if share is None else f", right in {share:.1%} of these"
