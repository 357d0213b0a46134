"""The command `transom evaluate`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import msgspec
import numpy as np

from train.charts import percent
from train.corpus import Corpus
from train.corpus_loader import read_corpus
from train.evaluate import Evaluation, evaluate, say_foreign, write_predictions
from train.predictor import OnnxPredictor, Predictor
from train.progress import progress_bar
from train.report import write_report
from train.shots import Shots, few_shots, shot_lines
from train.told_apart import ANSWERED, Unlike, tell_apart
from train.unlike_page import unlike_section
from transom.bundle import read_bundle
from transom.errors import DatasetError
from transom.guard import Guard
from transom.starter import bundle_path


def _counts(_context: click.Context, _option: click.Parameter, text: str | None) -> tuple[int, ...]:
    """Read numbers of examples, like 1,2,5,10."""
    words = [] if text is None else text.split(",")
    if not all(word.strip().isdecimal() and int(word) > 0 for word in words):
        raise click.BadParameter(f"must be numbers from 1 up, like 1,2,5,10, got {text!r}")
    return tuple(sorted({int(word) for word in words}))


@click.command("evaluate")
@click.argument("model")
@click.argument(
    "datasets",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
)
@click.option(
    "--split",
    type=click.Choice(["val", "test", "train", "all"]),
    default="all",
    show_default=True,
    help="Which rows. A data set that was trained on is fairly judged on val or test only.",
)
@click.option(
    "--unlike",
    "others",
    multiple=True,
    metavar="DATASET[:TASK=CLASS]",
    help="Pictures of anything else, all or those of a class: are they told apart?",
)
@click.option(
    "--shots",
    "counts",
    metavar="K,K,…",
    callback=_counts,
    help="Learn from so many examples of each class of a group, as a device does; judge the rest.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--predictions",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write one JSON line a row: image, zone, probabilities, class or `unknown`, truth.",
)
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a page with charts and the worst mistakes as pictures.",
)
def evaluate_command(
    model: str,
    datasets: tuple[Path, ...],
    split: str,
    others: tuple[str, ...],
    counts: tuple[int, ...],
    as_json: bool,
    predictions: Path | None,
    report: Path | None,
) -> None:
    """Judge a run, a bundle or the starter on any data sets.

    MODEL is the folder of a run, a bundle file, or the word `starter` for the network that comes
    with Transom. Tasks and classes are matched by name; rows without a label for a task, or of a
    class that the network does not have, are predicted and not counted.

    With --unlike it also says how well pictures that the network was not made for are told apart:
    how many it answers all the same, and the area under the ROC curve of each score. A data set
    that is judged, too, gives only its rows of --split.

    With --shots each group stands for a camera: what are a few corrections of it worth to the rest
    of its pictures, beside the network alone and a probe on its frozen embedding?

    \b
    Example:
        transom evaluate runs/hall data/hall --split test
        transom evaluate starter data/hall --unlike data/cifar10 --unlike data/kinds:kind=other
        transom evaluate starter data/hall --split val --shots 1,2,5,10
        transom evaluate hall-7.bundle data/hall --json --predictions said.jsonl
    """
    predictor = load_predictor(model)
    corpus = _load(predictor, datasets).split(split)
    with progress_bar("predicting") as progress:
        evaluation = evaluate(predictor, corpus, progress=progress)
    said_of_others = {
        text: evaluate(predictor, read_others(predictor, text, datasets, split)) for text in others
    }
    unlike = {text: tell_apart(evaluation, other) for text, other in said_of_others.items()}
    curves = _learn(evaluation, load_guard(model, predictor), counts) if counts else {}
    if predictions is not None:
        write_predictions(predictions, evaluation)
    if report is not None:
        write_report(
            report,
            title=f"{evaluation.model} on {', '.join(dict.fromkeys(corpus.origins))}",
            evaluations={split: evaluation},
            history=(),
            corpus=corpus,
            recipe={},
            sections=[unlike_section(unlike, said_of_others)],
        )
    if as_json:
        found = evaluation.to_json() | ({"unlike": unlike} if unlike else {})
        found |= {"shots": curves} if curves else {}
        click.echo(msgspec.json.encode(found).decode())
    else:
        click.echo("\n".join([table(evaluation), *_unlike_lines(unlike), *shot_lines(curves)]))
    if split == "all" and any(row.split == "train" for row in corpus.rows):
        click.echo(
            "note: rows of the split `train` are among these; a network that was trained on them "
            "is fairly judged with --split val or --split test",
            err=True,
        )


def _learn(
    evaluation: Evaluation, guard: Guard | None, counts: tuple[int, ...]
) -> dict[str, list[Shots]]:
    with progress_bar("learning from examples") as progress:
        return few_shots(evaluation, guard, counts, progress=progress)


def load_predictor(model: str) -> Predictor:
    """Open what a person means by `MODEL`: a run's folder, a bundle file, or `starter`.

    Raises:
        BundleError: There is no such bundle, or it is damaged.
        RunError: The folder is not that of a run.
    """
    path = bundle_path(model)
    if path.is_dir():
        from train.predictor import TorchPredictor
        from train.run import read_run  # torch: not for a bundle

        return TorchPredictor(read_run(path))
    bundle = read_bundle(path, None)
    return OnnxPredictor(bundle.model, bundle.manifest)


def load_guard(model: str, predictor: Predictor) -> Guard | None:
    """Return what a device would not lose by what it is taught; None for a run, which has none.

    Args:
        model: What a person named; see `load_predictor`.
        predictor: Of that.
    """
    path = bundle_path(model)
    if path.is_dir():
        return None
    return read_bundle(path, None).goldens.guarding(lambda crops: predictor(crops).embedding)


def table(evaluation: Evaluation) -> str:
    """Return an evaluation as text for a terminal."""
    lines = [f"{evaluation.model} ({evaluation.precision}): {len(evaluation.corpus)} rows"]
    for name, task in evaluation.tasks.items():
        left_out = say_foreign(task.spec, task.foreign_classes) if task.foreign.any() else ""
        if not task.n:
            lines += ["", left_out or f"{name}: no labelled row"]
            continue
        lines += ["", f"{name}: {task.n} labelled rows in {len(task.tally.confusion)} groups"]
        for figure, value in task.figures.items():
            lines.append(f"  {figure:<18} {percent(value, 1):>8}  {_range(task.intervals[figure])}")
        lines += _confusion_lines(task.spec.classes, task.confusion.tolist())
        if left_out:
            lines.append(left_out)
    return "\n".join(lines)


def read_others(predictor: Predictor, text: str, judged: Sequence[Path], split: str) -> Corpus:
    """Return the pictures that `DATASET[:TASK=CLASS]` means.

    Args:
        predictor: Says how they are fed.
        text: What a person named.
        judged: Data sets that are judged: one of these gives only its rows of the split.
        split: Which.

    Raises:
        DatasetError: There is no such data set, or no row is meant.
    """
    name, _, wanted = text.rpartition(":") if "=" in text.rpartition(":")[2] else (text, "", "")
    corpus = _load(predictor, [Path(name)])
    if Path(name).resolve() in [path.resolve() for path in judged]:
        corpus = corpus.split(split)
    task, _, label = wanted.partition("=")
    rows = [not wanted or row.labels.get(task) == label for row in corpus.rows]
    if not any(rows):
        what = f"labelled {task} = {label}" if wanted else f"of the split {split}"
        known = "; ".join(f"{known.name}: {', '.join(known.classes)}" for known in corpus.tasks)
        raise DatasetError(f"--unlike {text}: no row is {what}; there are {known}")
    return corpus.select(np.flatnonzero(rows))


def _unlike_lines(unlike: Mapping[str, Mapping[str, Unlike]]) -> list[str]:
    lines = []
    for name, by_task in unlike.items():
        for task, found in by_task.items():
            lines += ["", f"{task}, pictures unlike its own ({name}): {found.n}"]
            answered = f"{percent(found.answered, 1)}  {_range(found.answered_interval)}"
            lines.append(f"  answered all the same  {answered}")
            for score, apart in found.scores.items():
                lines.append(
                    f"  AUROC by {score:<16} {100 * apart.auroc:5.1f}  {_range(apart.interval)}, "
                    f"{percent(apart.missed)} pass where {percent(ANSWERED)} of its own do"
                )
    return lines


def _load(predictor: Predictor, datasets: Sequence[Path]) -> Corpus:
    return read_corpus(datasets, predictor.input, allow_leaks=True)


def _range(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"({100 * interval[0]:.1f} to {100 * interval[1]:.1f})"


def _confusion_lines(classes: Sequence[str], confusion: Sequence[Sequence[int]]) -> list[str]:
    width = max(7, *(len(name) for name in classes))
    header = "  " + "true".ljust(width) + "".join(f" {name:>{width}}" for name in classes)
    return [header] + [
        "  " + name.ljust(width) + "".join(f" {count:>{width}}" for count in counts)
        for name, counts in zip(classes, confusion, strict=True)
    ]
