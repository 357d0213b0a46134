"""The end of a run: weights are there, now it is calibrated, judged, reported and complete."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from train.calibrate import calibrated_spec, fit_temperature
from train.corpus import Corpus
from train.evaluate import Evaluation, evaluate, judge, label_classes, task_targets
from train.history import EpochRecord
from train.network import Logits, Network, predict_logits
from train.predictor import Said, TorchPredictor
from train.recipe import Recipe
from train.report import write_report
from train.run import REPORT, Facts, Metrics, Run, write_metrics, write_weights
from train.unlike import Distance, fit_distance, reference_rows
from transom.tasks import TaskSet


def conclude(
    folder: Path,
    recipe: Recipe,
    facts: Facts,
    network: Network,
    corpus: Corpus,
    history: tuple[EpochRecord, ...] = (),
    *,
    val_logits: Logits | None = None,
    sections: Sequence[str] = (),
    compare: Callable[[Mapping[str, Evaluation]], str] | None = None,
) -> Run:
    """Write the weights, calibrate on `val`, judge, write report and metrics: the run is done.

    Args:
        folder: Of the run, with its recipe.
        recipe: How it was trained.
        facts: What it met on its way.
        network: What came of it.
        corpus: All data, crops as the recipe says.
        history: Every epoch.
        val_logits: By task (N, C), not calibrated: what is said of the rows of `val` where the
            network itself has learnt from them; None = what the network says.
        sections: Of the report, HTML, beside what every report has.
        compare: Returns a section that follows from the evaluations, by split.
    """
    write_weights(folder, network)
    val = corpus.split("val")
    distance = _distance(network, corpus.split("train"))
    if distance is not None:
        distance.write(folder)
    logits, embedding = predict_logits(network, val.crops)
    said = Said(val_logits or logits, embedding, distance(embedding) if distance else None)
    run = Run(folder, recipe, facts, _calibrated(network.tasks, said, val, history))
    predictor = TorchPredictor(run)
    said = said._replace(logits=_divided(said.logits, run.temperatures))
    evaluations = {
        split: judge(predictor, said, val)
        if split == "val"
        else evaluate(predictor, corpus.split(split))
        for split in _judges(corpus)
    }
    write_report(
        folder / REPORT,
        title=folder.resolve().name,
        evaluations=evaluations,
        history=[record.flat() for record in history],
        corpus=corpus,
        recipe=msgspec.to_builtins(recipe),
        sections=[*sections, compare(evaluations)] if compare else sections,
    )
    results = msgspec.structs.replace(run.results, evaluations=_plain(evaluations))
    done = Run(folder, recipe, facts, results)
    write_metrics(done)
    return done


def _distance(network: Network, train: Corpus) -> Distance | None:
    rows = train.select(reference_rows(train.groups))
    _, embedding = predict_logits(network, rows.crops)
    return fit_distance(embedding, label_classes(network.tasks, rows))


def _calibrated(
    tasks: TaskSet, said: Said, val: Corpus, history: tuple[EpochRecord, ...]
) -> Metrics:
    targets = {task.name: task_targets(task, val)[0] for task in tasks}
    temperatures = {
        name: fit_temperature(said.logits[name], truth) for name, truth in targets.items()
    }
    calibrated = _divided(said.logits, temperatures)
    seconds = sum(record.seconds for record in history)
    images = sum(record.seconds * record.images_per_s for record in history)
    return Metrics(
        temperatures=temperatures,
        specs=tuple(
            calibrated_spec(task, calibrated[task.name], targets[task.name], distance=said.distance)
            for task in tasks
        ),
        history=history,
        seconds=seconds,
        images_per_s=images / max(seconds, 1e-9),
    )


def _divided(logits: Logits, temperatures: Mapping[str, float]) -> Logits:
    return {
        name: np.asarray(values / temperatures[name], np.float32) for name, values in logits.items()
    }


def _judges(corpus: Corpus) -> list[str]:
    """Splits to judge, `test` last; `train` where the data keep nothing aside."""
    kept_aside = [split for split in ("val", "test") if (corpus.splits == split).any()]
    return kept_aside or ["train"]


def _plain(evaluations: dict[str, Evaluation]) -> dict[str, dict[str, object]]:
    return {split: evaluation.to_json() for split, evaluation in evaluations.items()}
