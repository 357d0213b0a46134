"""The command `transom evaluate`."""

from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from train.charts import percent
from train.corpus import Corpus
from train.corpus_loader import read_corpus
from train.evaluate import Evaluation, evaluate, write_predictions
from train.predictor import OnnxPredictor, Predictor
from train.progress import progress_bar
from train.report import write_report
from transom.bundle import read_bundle
from transom.starter import bundle_path


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
    as_json: bool,
    predictions: Path | None,
    report: Path | None,
) -> None:
    """Judge a run, a bundle or the starter on any data sets.

    MODEL is the folder of a run, a bundle file, or the word `starter` for the network that comes
    with Transom. Tasks and classes are matched by name; rows without a label for a task are
    predicted and not counted.

    \b
    Example:
        transom evaluate runs/hall data/hall --split test
        transom evaluate hall-7.bundle data/hall --json --predictions said.jsonl
    """
    predictor = load_predictor(model)
    corpus = _load(predictor, datasets).split(split)
    with progress_bar("predicting") as progress:
        evaluation = evaluate(predictor, corpus, progress=progress)
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
        )
    if as_json:
        click.echo(msgspec.json.encode(evaluation.to_json()).decode())
    else:
        click.echo(table(evaluation))
    if split == "all" and any(row.split == "train" for row in corpus.rows):
        click.echo(
            "note: rows of the split `train` are among these; a network that was trained on them "
            "is fairly judged with --split val or --split test",
            err=True,
        )


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


def table(evaluation: Evaluation) -> str:
    """Return an evaluation as text for a terminal."""
    lines = [f"{evaluation.model} ({evaluation.precision}): {len(evaluation.corpus)} rows"]
    for name, task in evaluation.tasks.items():
        if not task.n:
            lines += ["", f"{name}: no labelled row"]
            continue
        lines += ["", f"{name}: {task.n} labelled rows in {len(task.tally.confusion)} groups"]
        for figure, value in task.figures.items():
            lines.append(f"  {figure:<18} {percent(value, 1):>8}  {_range(task.intervals[figure])}")
        lines += _confusion_lines(task.spec.classes, task.confusion.tolist())
        if task.foreign.any():
            lines.append(f"  {task.foreign.sum()} rows of a class the network does not have")
    return "\n".join(lines)


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
