import html
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec
from onnx import TensorProto, helper, numpy_helper
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, f1_score

from train.corpus import MISSING, Corpus, load_corpus
from train.evaluate import evaluate, write_predictions
from train.evaluate_commands import evaluate_command, load_predictor
from transom.bundle import write_bundle
from transom.dataset import Row, read_dataset, write_dataset
from transom.errors import BundleError, DatasetError, RunError
from transom.goldens import Goldens
from transom.manifest import InputSpec, Manifest, TaskSpec
from transom.prediction import predict
from transom.tasks import Task, TaskSet


@pytest.fixture
def corpus(tiny_dataset: Path) -> Corpus:
    rows = list(read_dataset(tiny_dataset).rows)
    # Two labels are wrong and one is missing, so that the figures are not all 1.
    rows[0] = replace(rows[0], labels={"kind": "door", "state": "open"})
    rows[3] = replace(rows[3], labels={"kind": "door", "state": "closed"})
    rows[5] = replace(rows[5], labels={"kind": "door"})
    tasks = read_dataset(tiny_dataset).tasks
    write_dataset(tiny_dataset, name="tiny", tasks=tasks, rows=rows)
    return load_corpus([tiny_dataset], size=32, margin=0.0)


def test_figures_are_those_of_scikit_learn(corpus: Corpus, gap_predictor) -> None:
    found = evaluate(gap_predictor, corpus).to_json()["tasks"]["state"]
    labelled = [i for i, row in enumerate(corpus.rows) if "state" in row.labels]
    truth = [corpus.rows[i].labels["state"] for i in labelled]
    logits = gap_predictor(corpus.crops)[0]["state"]
    said = [("open", "closed")[c] for c in logits[labelled].argmax(1)]
    assert found["n"] == 15
    assert found["classes"] == ["open", "closed"]
    assert found["accuracy"] == pytest.approx(accuracy_score(truth, said))
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, said))
    assert found["macro_f1"] == pytest.approx(f1_score(truth, said, average="macro"))
    expected = confusion_matrix(truth, said, labels=["open", "closed"])
    assert found["confusion"] == expected.tolist()
    assert found["accuracy"] < 1
    believed = predict(logits, gap_predictor.specs[0]).classes[labelled]
    assert found["coverage"] == pytest.approx((believed >= 0).mean())


def test_the_keys_are_those_that_scripts_rely_on(corpus: Corpus, gap_predictor) -> None:
    found = json.loads(json.dumps(evaluate(gap_predictor, corpus).to_json()))
    assert {"model", "precision", "n", "tasks", "groups"} <= set(found)
    assert set(found["tasks"]) == {"state", "kind", "mood"}
    assert {
        "classes", "n", "accuracy", "balanced_accuracy", "macro_f1",
        "ece", "confusion", "coverage", "accuracy_covered",
    } <= set(found["tasks"]["state"])  # fmt: skip
    assert (found["model"], found["precision"], found["n"]) == ("gap", "float32", 16)


def test_a_task_without_a_label_is_predicted_and_not_counted(corpus, gap_predictor) -> None:
    evaluation = evaluate(gap_predictor, corpus)
    mood = evaluation.to_json()["tasks"]["mood"]
    assert mood["n"] == 0
    assert mood["accuracy"] is None
    assert mood["confusion"] == [[0, 0], [0, 0]]
    assert len(evaluation.tasks["mood"].prediction.classes) == 16


def test_groups_have_their_own_figures(corpus: Corpus, gap_predictor) -> None:
    groups = evaluate(gap_predictor, corpus).to_json()["groups"]
    assert set(groups) == set(corpus.groups)
    assert sum(group["n"] for group in groups.values()) == 16
    first = groups["tiny/g0"]["tasks"]["state"]
    assert (first["n"], first["accuracy"]) == (2, 0.5)
    assert first["interval"] == pytest.approx((0.0945, 0.9055), abs=1e-3)
    assert groups["tiny/g2"]["tasks"]["state"]["n"] == 1
    assert groups["tiny/g4"]["tasks"]["kind"]["accuracy"] == 0.0


@pytest.fixture
def renamed(tmp_path: Path) -> Path:
    """A data set of which one class is called as no network calls it, and a task as all do."""
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images/a.png"), np.zeros((20, 20, 3), np.uint8))
    states = TaskSet([Task(name="state", classes=("ajar", "open"))])
    rows = [
        Row(image="images/a.png", group=label, labels={"state": label})
        for label in ("ajar", "open")
    ]
    write_dataset(tmp_path, name="other", tasks=states, rows=rows)
    return tmp_path


def test_a_class_that_the_network_does_not_have_is_not_counted(renamed, gap_predictor) -> None:
    task = evaluate(gap_predictor, load_corpus([renamed], size=32, margin=0.0)).tasks["state"]
    assert task.foreign.sum() == 1
    assert task.foreign_classes == {"ajar": 1}
    assert task.n == 1
    assert task.figures["accuracy"] == 1.0
    assert sorted(task.targets.tolist()) == [MISSING, 0]


def test_predictions_have_one_line_a_row(corpus: Corpus, gap_predictor, tmp_path: Path) -> None:
    write_predictions(tmp_path / "said.jsonl", evaluate(gap_predictor, corpus))
    lines = [json.loads(line) for line in (tmp_path / "said.jsonl").read_text().splitlines()]
    assert [line["image"] for line in lines] == [row.image for row in corpus.rows]
    believed = predict(gap_predictor(corpus.crops)[0]["state"], gap_predictor.specs[0])
    for index, (line, row) in enumerate(zip(lines, corpus.rows, strict=True)):
        answer = line["tasks"]["state"]
        assert line["zone"] == row.zone.to_text()
        assert answer["truth"] == row.labels.get("state")
        assert sum(answer["probabilities"].values()) == pytest.approx(1.0, abs=1e-5)
        assert answer["class"] == ("open", "closed", "unknown")[believed.classes[index]]


def test_refuses_crops_of_another_size(tiny_dataset: Path, gap_predictor) -> None:
    with pytest.raises(ValueError, match=r"must be \(N, 32, 32, 3\)"):
        evaluate(gap_predictor, load_corpus([tiny_dataset], size=48, margin=0.0))


def test_refuses_a_split_without_a_row(make_dataset, gap_predictor) -> None:
    corpus = load_corpus([make_dataset(splits=("train", "val"))], size=32, margin=0.0)
    with pytest.raises(DatasetError, match="choose another split"):
        evaluate(gap_predictor, corpus.split("test"))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle whose network says `open` of pictures with a dark right half."""
    size, spec = 32, TaskSpec(name="state", classes=("closed", "open"), thresholds=(0.0, 0.0))
    right = np.zeros((1, 1, size, 1), np.float32)
    right[:, :, 18:28] = 1.0
    constants = {"right": right, "axes": np.array([1, 2], np.int64), "scale": np.float32(0.01),
                 "columns": np.array([[1.0, -1.0]] * 3, np.float32),
                 "bias": np.array([[-0.66, 0.66]], np.float32)}  # fmt: skip
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["float", "right"], ["part"]),
            helper.make_node("ReduceMean", ["part", "axes"], ["embedding"], keepdims=0),
            helper.make_node("MatMul", ["embedding", "columns"], ["sum"]),
            helper.make_node("Mul", ["sum", "scale"], ["scaled"]),
            helper.make_node("Add", ["scaled", "bias"], ["state"]),
        ],
        "right",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", size, size, 3])],
        [
            helper.make_tensor_value_info("state", TensorProto.FLOAT, ["N", 2]),
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", 3]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    crops = np.zeros((1, size, size, 3), np.uint8)
    write_bundle(
        tmp_path / "right.bundle",
        manifest=Manifest(
            name="right", sequence=1, created="2026-01-01T00:00:00Z",
            input=InputSpec(size=size), tasks=(spec,), embedding=3,
            precision="float32", minimum_runtime="0.1.0",
        ),
        model=model.SerializeToString(),
        goldens=Goldens(crops, {"state": np.float32([[-0.66, 0.66]])}, 0.01),
        report={},
        key=ec.generate_private_key(ec.SECP256R1()),
    )  # fmt: skip
    return tmp_path / "right.bundle"


def test_the_command_judges_a_bundle(bundle: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    said, page = tmp_path / "said.jsonl", tmp_path / "page.html"
    arguments = [str(bundle), str(tiny_dataset), "--json", "--predictions", str(said)]
    result = CliRunner().invoke(evaluate_command, [*arguments, "--report", str(page)])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["model"], found["n"]) == ("right", 16)
    assert found["tasks"]["state"]["accuracy"] > 0.9
    assert len(said.read_text().splitlines()) == 16
    assert "right on tiny" in page.read_text()


def test_the_command_shows_a_table_and_the_split_it_was_asked_for(bundle, make_dataset) -> None:
    folder = make_dataset(splits=("train", "val"))
    result = CliRunner().invoke(evaluate_command, [str(bundle), str(folder), "--split", "val"])
    assert result.exit_code == 0, result.output
    assert "right (float32): 8 rows" in result.stdout
    assert "state: 8 labelled rows in 4 groups" in result.stdout
    assert "note:" not in result.stderr
    result = CliRunner().invoke(evaluate_command, [str(bundle), str(folder)])
    assert "8 rows" not in result.stdout
    assert "note: rows of the split `train`" in result.stderr


def test_the_command_says_which_classes_the_network_does_not_have(
    bundle: Path, renamed: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    left_out = (
        "state: 1 row does not count, its class is none of the network's: ajar (1); it has "
        "closed, open"
    )
    result = CliRunner().invoke(
        evaluate_command, [str(bundle), str(renamed), "--report", str(page)]
    )
    assert result.exit_code == 0, result.output
    assert left_out in result.stdout.splitlines()
    assert html.escape(left_out) in page.read_text()
    labels = renamed / "labels.csv"
    labels.write_text(labels.read_text().replace(",open\n", ",ajar\n"))
    result = CliRunner().invoke(evaluate_command, [str(bundle), str(renamed)])
    assert "2 rows do not count, their class is none of the network's: ajar (2)" in result.stdout
    result = CliRunner().invoke(evaluate_command, [str(bundle), str(renamed), "--json"])
    assert json.loads(result.stdout)["tasks"]["state"]["foreign_classes"] == {"ajar": 2}


def test_the_command_judges_data_that_divide_a_group(bundle: Path, make_dataset) -> None:
    folder = make_dataset(splits=("train", "val"))
    labels = folder / "labels.csv"
    labels.write_text(labels.read_text().replace(",train,", ",test,", 1))
    result = CliRunner().invoke(evaluate_command, [str(bundle), str(folder), "--json"])
    assert result.exit_code == 0, result.output


def test_what_is_neither_run_nor_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is that the folder of a run"):
        load_predictor(str(tmp_path))
    with pytest.raises(BundleError, match="cannot be read"):
        load_predictor(str(tmp_path / "none.bundle"))


def test_judging_a_bundle_does_not_load_torch() -> None:
    code = "import sys, train.evaluate_commands; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_help_has_an_example() -> None:
    result = CliRunner().invoke(evaluate_command, ["--help"])
    assert "transom evaluate runs/hall data/hall --split test" in result.output
