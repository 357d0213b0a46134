"""From a run to a signed bundle, step by step; `export_run` is the page to read.

No bundle is written unless every gate is passed, and the same run, data, key and sequence always
give the same bytes.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from export.benchmark import time_models
from export.bundle_report import Candidate, report_of
from export.calibration import Calibration, calibrate
from export.distance import append_distance
from export.fallbacks import Attempt, Quantizer, first_that_passes
from export.figures import metrics_of, training_of
from export.goldens import Answer, make_goldens
from export.graph import EMBEDDING, export_graph, fold_temperatures
from export.guard import make_guard
from export.held_out import HeldOut, hold_out, said_of
from export.parity import Limits, check_fused, check_parity, compare
from export.quantize import calibration_indices, count_operators, drop_zero_points
from export.recipe import ExportRecipe
from export.unrounded import Unrounded, judge, keep_clips
from train.corpus import MISSING, Corpus
from train.ensemble import why_not_on_a_device
from train.evaluate import evaluate, foreign_lines, label_classes, task_targets
from train.network import Network
from train.predictor import OnnxPredictor, Said
from train.progress import Progress
from train.run import Run
from train.unlike import fit_distance, reference_rows
from transom import __version__
from transom.bundle import read_bundle, write_bundle
from transom.crop import Image
from transom.errors import BundleError, ExportError
from transom.goldens import Goldens, Logits
from transom.manifest import DISTANCE, Manifest, TaskSpec
from transom.signing import PrivateKey

Precision = Literal["int8", "float32", "auto"]

_STEPS = 6
_AUTO_SECONDS = 3.0

Tell = Callable[[str], None]


def export_run(
    run: Run,
    corpus: Corpus,
    path: Path,
    key: PrivateKey,
    *,
    name: str,
    sequence: int | None = None,
    precision: Precision = "int8",
    recipe: ExportRecipe | None = None,
    progress: Progress | None = None,
    tell: Tell | None = None,
) -> Manifest:
    """Export, quantise, judge, calibrate, sign.

    Args:
        run: What was trained.
        corpus: Rows of all three splits, crops as the run's input says. Train rows show the
            range of each activation, val rows calibrate, val and test rows judge INT8 against
            float32, test rows give the figures in the manifest.
        path: The bundle; replaced whole or not at all.
        key: Signs it.
        name: Of the bundle, lower-case letters, digits and `._-`.
        sequence: Above that of every bundle of this name so far; None = one more than the
            bundle at `path`, or else the second the run was made, since 1970.
        precision: `int8`; `float32`; or `auto`, INT8 where it passes and is faster here.
        recipe: What the gates ask for, how INT8 is made, what is tried where it fails.
        progress: Told how many steps are done.
        tell: Told in a sentence which rows do not count because the run does not know their class,
            when INT8 does not pass, and which fallback does.

    Raises:
        ExportError: A gate is not passed, the network is too large for a bundle, or the corpus
            lacks a split or the classes of the run. No bundle is written.
        BundleError: What is at `path` is no bundle, or the new one would be too large.
    """
    recipe = recipe or ExportRecipe()
    _check_corpus(run, corpus, tell or _say_nothing)
    sequence = _next_sequence(path, run) if sequence is None else sequence
    network = run.network()
    _check_size(network, precision)
    draft = _draft(run, name, sequence, network.embedding_size)
    step = _steps(progress)

    graph = export_graph(network, run.tasks, run.recipe.size)
    step()
    held = hold_out(network, graph, draft, corpus, recipe.limits)
    step()
    candidate = _choose(run, graph, draft, corpus, held, precision, recipe, tell or _say_nothing)
    step()
    calibration = _calibrate(run, candidate, held, draft, corpus)
    manifest = msgspec.structs.replace(
        draft, precision=candidate.precision, tasks=calibration.specs
    )
    model = _finished(candidate, calibration, manifest, recipe.limits)
    step()
    predictor = OnnxPredictor(model, manifest)
    evaluation = evaluate(predictor, _judged(corpus))
    manifest = msgspec.structs.replace(manifest, metrics=metrics_of(run, evaluation))
    step()
    unrounded, in_float32 = _run_unrounded(run, model, manifest, held, recipe.limits)
    goldens = _goldens(run, model, predictor, held, in_float32)
    report = report_of(
        candidate,
        recipe,
        evaluation,
        model,
        difference=held.difference,
        temperatures=calibration.temperatures,
        unrounded=unrounded,
        float32_tolerance=goldens.float32_tolerance,
    )
    write_bundle(path, manifest=manifest, model=model, goldens=goldens, report=report, key=key)
    step()
    return manifest


def _check_size(network: Network, precision: Precision) -> None:
    obstacle = why_not_on_a_device(network, "float32" if precision == "float32" else "int8")
    if obstacle:
        raise ExportError(f"export stopped: {obstacle}")


def _check_corpus(run: Run, corpus: Corpus, tell: Tell) -> None:
    for split in ("train", "val"):
        if not (corpus.splits == split).any():
            raise ExportError(
                f"export stopped: the data have no row of split `{split}`; name data sets with "
                "train and val groups, such as those the run was trained on"
            )
    if not any(name in corpus.tasks for name in run.tasks.names):
        raise ExportError(
            f"export stopped: the data label {', '.join(corpus.tasks.names)}, the run knows "
            f"{', '.join(run.tasks.names)}; name a data set with one of the run's tasks"
        )
    held = corpus.select(np.flatnonzero(corpus.splits != "train"))
    foreign = foreign_lines(run.tasks, held)
    if foreign and all((task_targets(task, held)[0] == MISSING).all() for task in run.tasks):
        raise ExportError(
            f"export stopped: no row of val or test has a class of the run, so nothing can be "
            f"judged; {'; '.join(foreign)}; call the classes as the run does, or train anew"
        )
    for line in foreign:
        tell(line)


def _next_sequence(path: Path, run: Run) -> int:
    if path.exists():
        try:
            return read_bundle(path, None).manifest.sequence + 1
        except BundleError as error:
            raise ExportError(
                f"{path}: is no bundle that another could follow; write to another file"
            ) from error
    return int(run.created.timestamp())


def _draft(run: Run, name: str, sequence: int, embedding: int) -> Manifest:
    """The manifest with what is known before anything is exported."""
    return Manifest(
        name=name,
        sequence=sequence,
        created=run.created.isoformat(timespec="seconds"),
        input=run.input,
        tasks=tuple(
            TaskSpec(
                name=task.name,
                classes=task.classes,
                ordinal=task.ordinal,
                thresholds=(0.0,) * len(task.classes),
            )
            for task in run.tasks
        ),
        embedding=embedding,
        precision="float32",
        training=training_of(run),
        minimum_runtime=__version__,
    )


def _choose(
    run: Run,
    graph: bytes,
    draft: Manifest,
    corpus: Corpus,
    held: HeldOut,
    precision: Precision,
    recipe: ExportRecipe,
    tell: Tell,
) -> Candidate:
    """Return the network of the precision asked for, if it passes the gate."""
    limits = recipe.limits
    float32 = _judge(run, Attempt(graph, None, "asked for"), "float32", held.float32, held, limits)
    if precision == "float32":
        return float32

    def check(attempt: Attempt) -> Candidate:
        check_fused(count_operators(attempt.model), limits, excluded=attempt.excluded)
        said = said_of(OnnxPredictor(attempt.model, draft), held.corpus.crops)
        candidate = _judge(run, attempt, "int8", said, held, limits)
        check_parity(candidate.parity, limits)
        return candidate

    quantizer = _quantizer(run, graph, draft, corpus, recipe)
    try:
        int8 = first_that_passes(quantizer, check, tell)
    except ExportError as error:
        if precision == "int8":
            raise
        return replace(float32, why=str(error).removeprefix("export stopped: "))
    return int8 if precision == "int8" else _faster_of(int8, float32, run.recipe.size)


def _quantizer(
    run: Run, graph: bytes, draft: Manifest, corpus: Corpus, recipe: ExportRecipe
) -> Quantizer:
    train = corpus.split("train")

    def samples(count: int) -> Image:
        some = calibration_indices(train.targets, train.groups, count, recipe.quantization.seed)
        return np.array(train.crops[some])

    def answer(crops: Image) -> Logits:
        said = said_of(OnnxPredictor(graph, draft), crops)
        return {**said.logits, EMBEDDING: said.embedding}

    return Quantizer(graph, run.tasks, samples, answer, recipe)


def _judge(
    run: Run,
    attempt: Attempt,
    precision: Literal["int8", "float32"],
    said: Said,
    held: HeldOut,
    limits: Limits,
) -> Candidate:
    calibrated, groups = held.calibrated(run), held.corpus.groups
    parity = compare(run.tasks, calibrated, said.logits, held.targets, groups, limits)
    why = "asked for" if attempt.fallback is None else f"by fallback: {attempt.what}"
    return Candidate(
        attempt.model, precision, said, parity, why, attempt.fallback, attempt.excluded
    )


def _run_unrounded(
    run: Run, model: bytes, manifest: Manifest, held: HeldOut, limits: Limits
) -> tuple[Unrounded, Answer | None]:
    """Run an INT8 network in float32 over the held-out crops, and judge it as INT8 was judged."""
    if manifest.precision == "float32":
        return Unrounded(refused="the network is float32 already"), None
    predictor = OnnxPredictor(model, manifest, precision="float32")

    def answer(crops: Image) -> Logits:
        return said_of(predictor, crops).logits

    calibrated, found = held.calibrated(run), answer(held.corpus.crops)
    groups = held.corpus.groups
    unrounded = judge(run.tasks, calibrated, found, held.targets, groups, limits)
    return unrounded, None if unrounded.refused else answer


def _faster_of(int8: Candidate, float32: Candidate, size: int) -> Candidate:
    runs = time_models(
        {"int8": int8.model, "float32": float32.model},
        size,
        threads=(1,),
        batches=(1,),
        seconds=_AUTO_SECONDS,
    ).runs
    median = {timing.precision: timing.median_ms for timing in runs}
    if median["int8"] < median["float32"]:
        return replace(int8, why="within the limits, and faster where it was exported")
    return replace(float32, why="float32 was faster where it was exported")


def _say_nothing(_: str) -> None:
    pass


def _calibrate(
    run: Run, candidate: Candidate, held: HeldOut, draft: Manifest, corpus: Corpus
) -> Calibration:
    """Calibrate the network that ships, on what it says itself."""
    train = corpus.split("train")
    known = train.select(reference_rows(train.groups))
    embedding = said_of(OnnxPredictor(candidate.model, draft), known.crops).embedding
    distance = fit_distance(embedding, label_classes(run.tasks, known))
    is_val = held.corpus.splits == "val"
    said = Said(
        {task: values[is_val] for task, values in candidate.said.logits.items()},
        candidate.said.embedding[is_val],
    )
    return calibrate(run, said, held.targets[is_val], distance)


def _finished(
    candidate: Candidate, calibration: Calibration, manifest: Manifest, limits: Limits
) -> bytes:
    """Return the graph as it ships: with its temperatures, and its rule for the unknown."""
    model = fold_temperatures(candidate.model, calibration.temperatures)
    # Too few held-out pictures promise no limit: a device then refuses a distance nobody asks for.
    if calibration.distance is not None and DISTANCE in manifest.widths():
        model = append_distance(model, calibration.distance)
    model = drop_zero_points(model)
    if candidate.precision == "int8":
        model = keep_clips(model)
        check_fused(count_operators(model), limits, excluded=candidate.excluded)
    return model


def _goldens(
    run: Run, model: bytes, predictor: OnnxPredictor, held: HeldOut, in_float32: Answer | None
) -> Goldens:
    def answer(crops: Image) -> Logits:
        return said_of(predictor, crops).logits

    crops, targets = held.golden_candidates()
    goldens = make_goldens(model, answer, run.tasks, crops, targets, in_float32)
    guard = make_guard(predictor, held.corpus.crops, held.targets, held.corpus.groups)
    return replace(goldens, guard=guard)


def _judged(corpus: Corpus) -> Corpus:
    """The rows that neither training nor calibration saw, or val where there are none."""
    test = corpus.split("test")
    return test if len(test) else corpus.split("val")


def _steps(progress: Progress | None) -> Callable[[], None]:
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, _STEPS)

    return step
