import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import safetensors.torch
import torch

from edge_runtime.classifier import Classifier
from export.goldens import LEAST
from export.guard import ROWS
from export.parity import Limits
from export.pipeline import export_run
from export.recipe import ExportRecipe
from train.corpus import MISSING, Corpus
from train.evaluate import evaluate, label_classes
from train.predictor import OnnxPredictor, TorchPredictor
from train.run import Run, read_run
from train.unlike import fit_distance, reference_rows
from transom import __version__
from transom.bundle import Bundle, read_bundle
from transom.errors import ExportError
from transom.prediction import predict, softmax
from transom.signing import load_private_key, public_half
from transom.tasks import TaskSet

ALONE = ExportRecipe(fallbacks=())


@pytest.fixture(scope="session")
def fragile(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run with one embedding dimension far above all others, which no head reads.

    Float32 answers as before. In INT8 the steps of the embedding are then so wide that every
    other dimension is rounded to nothing.
    """
    folder = tmp_path_factory.mktemp("fragile") / "run"
    shutil.copytree(run.folder, folder)
    weights = safetensors.torch.load_file(folder / "weights.safetensors")
    weights["fusion.embed.norm.bias"][0] = 1e5
    for task in run.tasks.names:
        weights[f"heads.{task}_head.weight"][:, 0] = 0.0
    safetensors.torch.save_file(weights, folder / "weights.safetensors")
    return read_run(folder)


def test_a_bundle_says_what_it_is(bundle: Bundle, run: Run) -> None:
    manifest = bundle.manifest
    assert (manifest.name, manifest.sequence, manifest.precision) == ("bars", 7, "int8")
    assert manifest.task_set() == run.tasks
    assert (manifest.input.size, manifest.embedding) == (32, 16)
    assert manifest.minimum_runtime == __version__
    assert manifest.metrics["split"] == "test"
    assert manifest.metrics["tasks"]["state"]["n"] == 48
    assert manifest.training["recipe"] == run.recipe.digest


def test_the_bundle_answers_as_the_run_does(bundle: Bundle, run: Run, corpus: Corpus) -> None:
    crops = np.array(corpus.split("test").crops)
    bundled, embedding, _ = OnnxPredictor(bundle.model, bundle.manifest)(crops)
    trained = TorchPredictor(run)(crops).logits
    assert embedding.shape == (48, 16)
    for task in run.tasks.names:
        agreement = (bundled[task].argmax(1) == trained[task].argmax(1)).mean()
        assert agreement >= 0.95


def test_the_figures_in_the_manifest_are_those_that_evaluation_finds(
    bundle: Bundle, corpus: Corpus
) -> None:
    test = corpus.split("test")
    found = evaluate(OnnxPredictor(bundle.model, bundle.manifest), test).to_json()
    assert bundle.manifest.metrics["tasks"] == json.loads(json.dumps(found["tasks"]))
    assert bundle.manifest.metrics["digest"] == test.digest


def test_the_goldens_are_what_the_bundled_network_answers(bundle: Bundle) -> None:
    logits = OnnxPredictor(bundle.model, bundle.manifest)(bundle.goldens.crops).logits
    assert len(bundle.goldens.crops) >= LEAST
    for task, values in bundle.goldens.logits.items():
        assert np.abs(logits[task] - values).max() <= bundle.goldens.tolerance


def test_the_guard_is_of_held_out_pictures_as_the_bundled_network_sees_them(
    bundle: Bundle, corpus: Corpus
) -> None:
    guard = bundle.goldens.guard
    assert guard is not None
    held = corpus.select(np.flatnonzero(corpus.splits != "train"))
    said = OnnxPredictor(bundle.model, bundle.manifest)(np.array(held.crops))
    apart = np.abs(said.embedding[None] - guard.embedding[:, None]).max(axis=2)
    rows = apart.argmin(axis=1)
    assert apart.min(axis=1).max() < 0.01 * np.abs(said.embedding).max()
    assert len(set(rows.tolist())) == ROWS
    for column, task in enumerate(corpus.tasks.names):
        assert guard.targets[task].tolist() == held.targets[rows, column].tolist()
        assert guard.logits[task] == pytest.approx(said.logits[task][rows], rel=2e-3, abs=0.01)
    assert sum(tensor.nbytes for tensor in guard.tensors().values()) < 10_000


def test_temperatures_are_fitted_on_the_network_that_ships(bundle: Bundle, corpus: Corpus) -> None:
    val = corpus.split("val")
    logits = OnnxPredictor(bundle.model, bundle.manifest)(np.array(val.crops)).logits

    def loss(task: str, temperature: float) -> float:
        column = corpus.tasks.names.index(task)
        truth = val.targets[:, column]
        share = softmax(np.asarray(logits[task] / temperature, np.float32))
        return float(-np.log(share[np.arange(len(truth)), truth]).mean())

    for task, temperature in bundle.report["temperatures"].items():
        at_best = loss(task, 1.0)
        if temperature < 9.9:  # a colder network would be likelier still, were it allowed
            assert at_best <= loss(task, 1.2) + 1e-6
        if temperature > 0.51:
            assert at_best <= loss(task, 1 / 1.2) + 1e-6


def test_int8_is_wholly_fused(bundle: Bundle) -> None:
    assert bundle.report["float_conv"] == 0
    assert bundle.report["quantize_linear"] == 0


def test_the_same_run_and_data_give_the_same_bytes(
    run: Run, corpus: Corpus, key: Path, bundle: Bundle, tmp_path: Path
) -> None:
    again = tmp_path / "again.bundle"
    export_run(run, corpus, again, load_private_key(key), name="bars", sequence=7)
    assert read_bundle(again, None).digest == bundle.digest


def test_int8_that_does_not_pass_leaves_no_bundle(
    fragile: Run, corpus: Corpus, key: Path, tmp_path: Path
) -> None:
    path = tmp_path / "bars.bundle"
    with pytest.raises(ExportError, match=r"INT8 agrees with float32 on .* % of `state`"):
        export_run(fragile, corpus, path, load_private_key(key), name="bars", recipe=ALONE)
    assert not path.exists()


def test_auto_takes_float32_where_int8_does_not_pass_and_says_why(
    fragile: Run, corpus: Corpus, key: Path, tmp_path: Path
) -> None:
    path = tmp_path / "bars.bundle"
    signer = load_private_key(key)
    manifest = export_run(
        fragile, corpus, path, signer, name="bars", precision="auto", recipe=ALONE
    )
    assert manifest.precision == "float32"
    assert "INT8 agrees with float32 on" in read_bundle(path, None).report["why"]


def test_a_gate_that_is_not_passed_leaves_the_old_bundle(
    run: Run, corpus: Corpus, key: Path, bundle_path: Path, tmp_path: Path
) -> None:
    path = tmp_path / "bars.bundle"
    path.write_bytes(bundle_path.read_bytes())
    exact = ExportRecipe(limits=Limits(float_difference=0.0))
    with pytest.raises(ExportError, match="ONNX differs from torch"):
        export_run(run, corpus, path, load_private_key(key), name="bars", recipe=exact)
    assert path.read_bytes() == bundle_path.read_bytes()


def test_a_bundle_at_the_path_is_followed_by_the_next_sequence(
    run: Run, corpus: Corpus, key: Path, bundle_path: Path, tmp_path: Path
) -> None:
    path = tmp_path / "bars.bundle"
    path.write_bytes(bundle_path.read_bytes())
    manifest = export_run(
        run, corpus, path, load_private_key(key), name="bars", precision="float32"
    )
    assert (manifest.sequence, manifest.precision) == (8, "float32")
    assert read_bundle(path, None).report["tasks"]["state"]["agreement"] == 1.0


def test_what_is_no_bundle_is_not_overwritten(
    run: Run, corpus: Corpus, key: Path, tmp_path: Path
) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("dear diary")
    with pytest.raises(ExportError, match=r"letter\.txt: is no bundle .* write to another file"):
        export_run(run, corpus, path, load_private_key(key), name="bars")
    assert path.read_text() == "dear diary"


@pytest.mark.parametrize("split", ["train", "val"])
def test_refuses_data_without_a_split_that_it_needs(
    run: Run, corpus: Corpus, key: Path, tmp_path: Path, split: str
) -> None:
    rest = corpus.select(np.flatnonzero(corpus.splits != split))
    with pytest.raises(ExportError, match=f"no row of split `{split}`"):
        export_run(run, rest, tmp_path / "bars.bundle", load_private_key(key), name="bars")


def _renamed(corpus: Corpus, *names: str) -> Corpus:
    """The corpus with the states called otherwise."""
    tasks = [
        msgspec.structs.replace(task, classes=names) if task.name == "state" else task
        for task in corpus.tasks
    ]
    return dataclasses.replace(corpus, tasks=TaskSet(tasks))


def test_rows_of_a_class_that_was_renamed_since_are_told_of(
    run: Run, corpus: Corpus, key: Path, tmp_path: Path
) -> None:
    renamed = _renamed(corpus, "closed", "half_open", "open")
    told: list[str] = []
    manifest = export_run(
        run,
        renamed,
        tmp_path / "bars.bundle",
        load_private_key(key),
        name="bars",
        precision="float32",
        tell=told.append,
    )
    held = corpus.targets[corpus.splits != "train", corpus.tasks.names.index("state")]
    count = int((held == 1).sum())
    assert told == [
        f"state: {count} rows do not count, their class is none of the network's: half_open "
        f"({count}); it has closed, ajar, open"
    ]
    found = manifest.metrics["tasks"]["state"]
    assert found["foreign_classes"] == {"half_open": found["foreign"]}
    assert found["n"] == 48 - found["foreign"]


def test_refuses_data_without_one_row_of_a_class_of_the_run(
    run: Run, corpus: Corpus, key: Path, tmp_path: Path
) -> None:
    renamed = _renamed(corpus, "zu", "gekippt", "offen")
    states = renamed.targets.copy()
    states[:, corpus.tasks.names.index("kind")] = MISSING
    only = dataclasses.replace(renamed, targets=states)
    with pytest.raises(ExportError, match=r"no row of val or test has a class .*zu \(.*train anew"):
        export_run(run, only, tmp_path / "bars.bundle", load_private_key(key), name="bars")


def test_the_distance_travels_in_the_graph(bundle: Bundle, corpus: Corpus) -> None:
    limits = [spec.unknown.max_distance for spec in bundle.manifest.tasks]
    assert all(limit is not None for limit in limits)
    assert all(spec.unknown.max_energy is None for spec in bundle.manifest.tasks)
    predictor = OnnxPredictor(bundle.model, bundle.manifest)
    train = corpus.split("train")
    rows = train.select(reference_rows(train.groups))
    known = predictor(np.array(rows.crops))
    expected = fit_distance(known.embedding, label_classes(predictor.tasks, rows))
    test = predictor(np.array(corpus.split("test").crops))
    assert test.distance.shape == (48,)
    np.testing.assert_allclose(
        test.distance, expected(test.embedding), rtol=1e-2, atol=1e-2 * np.ptp(test.distance)
    )


def test_a_device_takes_a_bundle_whose_held_out_pictures_promise_no_limit(
    run: Run, corpus: Corpus, tmp_path: Path, key: Path
) -> None:
    held = np.flatnonzero(corpus.splits == "val")
    few = np.sort(np.concatenate([np.flatnonzero(corpus.splits != "val"), held[:12]]))
    path = tmp_path / "few.bundle"
    export_run(run, corpus.select(few), path, load_private_key(key), name="few", recipe=ALONE)
    bundle = read_bundle(path, [public_half(load_private_key(key))])
    assert [spec.unknown.max_distance for spec in bundle.manifest.tasks] == [None, None]
    answer = Classifier(bundle).classify(np.array(corpus.crops[:3]))
    assert {task: len(said.probabilities) for task, said in answer.predictions.items()} == {
        "kind": 3, "state": 3
    }  # fmt: skip


def test_what_training_never_showed_is_unlike_for_the_bundle(
    bundle: Bundle, draw_crops: Callable[..., Any]
) -> None:
    predictor = OnnxPredictor(bundle.model, bundle.manifest)
    noise = np.random.default_rng(0).integers(0, 256, (400, 32, 32, 3), np.uint8)
    # Networks trained on different processors differ: the share of a few crops would be chance.
    seen, strange = (predictor(crops) for crops in (draw_crops(1200, seed=50)[0], noise))
    spec = bundle.manifest.tasks[0]
    rejected = [
        predict(s.logits[spec.name], spec, s.distance).unlike.mean() for s in (seen, strange)
    ]
    assert rejected[0] < 0.1
    assert rejected[1] > 10 * rejected[0]
    assert rejected[1] > 0.7


class _Huge(Run):
    def network(self) -> torch.nn.Linear:
        with torch.device("meta"):
            return torch.nn.Linear(10_000, 10_000)


def test_a_network_too_large_for_any_bundle_is_refused_before_anything_is_exported(
    run: Run, corpus: Corpus, key: Path, tmp_path: Path
) -> None:
    huge = _Huge(run.folder, run.recipe, run.facts, run.results)
    with pytest.raises(ExportError, match=r"export stopped: its weights take .* one student"):
        export_run(huge, corpus, tmp_path / "no.bundle", load_private_key(key), name="no")
