import gzip
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from train.data_commands import data_group
from train.importers import class_name, import_cifar10, import_folders, import_idx, import_yolo
from transom.dataset import read_dataset
from transom.errors import DatasetError


def _picture(path: Path, grey: int = 100, size: tuple[int, int] = (20, 40)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((*size, 3), grey, np.uint8))


def test_imports_a_folder_for_each_class(tmp_path: Path) -> None:
    source = tmp_path / "photos"
    _picture(source / "Closed/a.jpg")
    _picture(source / "Half open/deep/b.PNG")
    (source / "Closed/notes.txt").write_text("not a picture")
    dataset = import_folders(source, tmp_path / "out", task="state")
    assert dataset.name == "out"
    assert dataset.tasks["state"].classes == ("closed", "half_open")
    assert [(row.image, row.labels["state"], row.split) for row in dataset.rows] == [
        ("images/Closed/a.jpg", "closed", ""),
        ("images/Half open/deep/b.PNG", "half_open", ""),
    ]
    for row in dataset.rows:
        assert (
            dataset.path(row).read_bytes()
            == (source / row.image.removeprefix("images/")).read_bytes()
        )


def test_imports_a_folder_for_each_split(tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        _picture(tmp_path / f"photos/{split}/open/{split}.jpg")
        _picture(tmp_path / f"photos/{split}/shut/{split}.jpg")
    dataset = import_folders(tmp_path / "photos", tmp_path / "out")
    assert dataset.tasks["state"].classes == ("open", "shut")
    assert sorted({row.split for row in dataset.rows}) == ["test", "train", "val"]


def test_what_no_person_put_among_the_pictures_is_not_imported(tmp_path: Path) -> None:
    source = tmp_path / "photos"
    for name in ("open", "shut"):
        _picture(source / f"train/{name}/a.JFIF.jpg")
        (source / f"train/{name}/._a.JFIF.jpg").write_bytes(b"\0\5\x16\7")
        _picture(source / f"train/{name}/@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg")
    _picture(source / ".thumbnails/a.jpg")
    _picture(source / "__MACOSX/train/open/a.jpg")
    dataset = import_folders(source, tmp_path / "out")
    assert dataset.tasks["state"].classes == ("open", "shut")
    assert sorted((row.image, row.split) for row in dataset.rows) == [
        ("images/train/open/a.JFIF.jpg", "train"),
        ("images/train/shut/a.JFIF.jpg", "train"),
    ]
    assert dataset.mistakes == ()


def test_pictures_of_a_kind_that_is_not_imported_are_named(tmp_path: Path) -> None:
    source = tmp_path / "photos"
    for name in ("open", "shut"):
        _picture(source / f"{name}/a.jpg")
        (source / f"{name}/b.jfif").write_bytes((source / f"{name}/a.jpg").read_bytes())
    (source / "open/IMG_1.HEIC").write_bytes(b"....ftypheic")
    dataset = import_folders(source, tmp_path / "out")
    assert len(dataset.rows) == 4
    assert [Path(mistake.file).name for mistake in dataset.mistakes] == ["IMG_1.HEIC"]
    assert "save it as JPEG" in dataset.mistakes[0].what


def test_where_there_are_pictures_of_other_kinds_only_they_are_named(tmp_path: Path) -> None:
    for number in range(2):
        file = tmp_path / f"photos/open/IMG_{number}.HEIC"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"....ftypheic")
    with pytest.raises(DatasetError, match=r"; 2 are of other kinds, as .*IMG_0.HEIC: save them"):
        import_folders(tmp_path / "photos", tmp_path / "out")


def test_an_import_that_fails_leaves_nothing(tmp_path: Path) -> None:
    _picture(tmp_path / "photos/only/a.jpg")
    with pytest.raises(DatasetError, match="at least 2 classes"):
        import_folders(tmp_path / "photos", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_an_import_never_overwrites(tmp_path: Path) -> None:
    for name in ("a", "b"):
        _picture(tmp_path / f"photos/{name}/x.jpg")
    (tmp_path / "out").mkdir()
    with pytest.raises(DatasetError, match="exists already"):
        import_folders(tmp_path / "photos", tmp_path / "out")


def _yolo(tmp_path: Path, labels: str, yaml: str = "names: ['Closed door', open]\n") -> Path:
    source = tmp_path / "yolo"
    _picture(source / "train/images/a.jpg")
    (source / "train/labels").mkdir(parents=True)
    (source / "train/labels/a.txt").write_text(labels)
    (source / "data.yaml").write_text(yaml)
    return source


def test_imports_yolo_boxes_and_polygons(tmp_path: Path) -> None:
    source = _yolo(tmp_path, "0 0.5 0.5 0.2 0.4\n\n1 0.1 0.2 0.9 0.2 0.9 0.8 0.1 0.7\n")
    dataset = import_yolo(source, tmp_path / "out")
    assert dataset.tasks["state"].classes == ("closed_door", "open")
    box, polygon = dataset.rows
    assert (box.labels["state"], box.split) == ("closed_door", "train")
    assert box.zone.to_text() == "0.4000 0.3000 0.6000 0.3000 0.6000 0.7000 0.4000 0.7000"
    assert polygon.zone.to_text() == "0.1000 0.2000 0.9000 0.2000 0.9000 0.8000 0.1000 0.8000"


@pytest.mark.parametrize(
    "yaml",
    [
        "nc: 2\nnames:\n- Closed door\n- open\npath: x\n",
        "names:\n  0: Closed door\n  1: open # the leaf\n",
        'names: ["Closed door",\n  "open"]\n',
    ],
)
def test_reads_class_names_however_they_are_written(tmp_path: Path, yaml: str) -> None:
    dataset = import_yolo(_yolo(tmp_path, "1 0.5 0.5 0.2 0.4\n", yaml), tmp_path / "out")
    assert dataset.tasks["state"].classes == ("closed_door", "open")
    assert dataset.rows[0].labels["state"] == "open"


def test_yolo_files_as_editors_of_windows_write_them_are_read(tmp_path: Path) -> None:
    source = _yolo(tmp_path, "\ufeff0 0.5 0.5 0.5 0.5\r\n", "\ufeffnames: [shut, open]\r\n")
    dataset = import_yolo(source, tmp_path / "out")
    assert [row.labels["state"] for row in dataset.rows] == ["shut"]
    (source / "train").rename(source / "Train")
    again = import_yolo(source, tmp_path / "again")
    assert [row.split for row in again.rows] == ["train"]


def test_a_yolo_box_past_the_edge_is_cut_and_one_without_area_left_out(tmp_path: Path) -> None:
    source = _yolo(tmp_path, "0 0.05 0.5 0.2 0.4\n1 0.5 0.5 0 0.4\n")
    dataset = import_yolo(source, tmp_path / "out")
    assert dataset.rows[0].zone.points[0] == (0.0, 0.3)
    (left_out,) = dataset.mistakes
    assert left_out.line == 2
    assert "left out" in left_out.what


@pytest.mark.parametrize("line", ["0 0.5 0.5 0.2", "door 0.5 0.5 0.2 0.4", "7 0.5 0.5 0.2 0.4"])
def test_a_yolo_line_that_is_no_box_is_named(tmp_path: Path, line: str) -> None:
    with pytest.raises(DatasetError, match=r"a.txt:2: "):
        import_yolo(_yolo(tmp_path, f"0 0.5 0.5 0.2 0.4\n{line}\n"), tmp_path / "out")


def test_imports_the_real_mnist(shared_data: Path, tmp_path: Path) -> None:
    dataset = import_idx(shared_data / "mnist", tmp_path / "mnist", limit=150)
    assert len(dataset.rows) == 300
    assert dataset.tasks["digit"].classes == tuple(f"class_{i}" for i in range(10))
    with gzip.open(shared_data / "mnist/train-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read()[8:], np.uint8)[:150]
    with gzip.open(shared_data / "mnist/train-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)[:150]
    assert Counter(row.split for row in dataset.rows) == {"train": 135, "val": 15, "test": 150}
    trained = [row for row in dataset.rows if row.split != "test"]
    first = next(row for row in trained if row.labels["digit"] == f"class_{labels[0]}")
    np.testing.assert_array_equal(
        cv2.imread(str(dataset.path(first)), cv2.IMREAD_GRAYSCALE), images[0]
    )
    counts = [sum(r.labels["digit"] == f"class_{i}" for r in trained) for i in range(10)]
    assert counts == np.bincount(labels, minlength=10).tolist()


def test_an_idx_file_need_not_be_compressed(shared_data: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    for kind in ("images-idx3", "labels-idx1"):
        packed = (shared_data / f"mnist/t10k-{kind}-ubyte.gz").read_bytes()
        (plain / f"t10k-{kind}-ubyte").write_bytes(gzip.decompress(packed))
    dataset = import_idx(plain, tmp_path / "out", limit=60)
    assert len(dataset.rows) == 60
    assert {row.split for row in dataset.rows} == {"test"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (bytes.fromhex("00000803") + b"\0\0", "ends within its header of 16 bytes"),
        (gzip.compress(bytes(2000), mtime=0)[:10] + b"\xff" * 40, "cannot be read"),
    ],
)
def test_a_damaged_idx_file_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(content)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(content)
    with pytest.raises(DatasetError, match=said):
        import_idx(tmp_path, tmp_path / "out")


def test_an_idx_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "mnist"
    source.mkdir()
    (source / "train-images-idx3-ubyte").write_bytes(b"rubbish that is long enough")
    (source / "train-labels-idx1-ubyte").write_bytes(b"rubbish that is long enough")
    with pytest.raises(DatasetError, match=r"train-images-idx3-ubyte: must begin with 0x00000803"):
        import_idx(source, tmp_path / "out")


def test_imports_the_real_cifar10(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "cifar-10-batches-bin"
    dataset = import_cifar10(source, tmp_path / "cifar", limit=40)
    assert len(dataset.rows) == 80
    assert dataset.tasks["object"].classes[:2] == ("airplane", "automobile")
    record = np.frombuffer((source / "data_batch_1.bin").read_bytes()[:3073], np.uint8)
    label = dataset.tasks["object"].classes[record[0]]
    first = next(r for r in dataset.rows if r.split == "train" and r.labels["object"] == label)
    found = cv2.cvtColor(cv2.imread(str(dataset.path(first))), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(found, record[1:].reshape(3, 32, 32).transpose(1, 2, 0))


def test_a_cifar10_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "cifar"
    source.mkdir()
    (source / "batches.meta.txt").write_text("cat\ndog\n")
    (source / "data_batch_1.bin").write_bytes(bytes(5000))
    with pytest.raises(DatasetError, match="whole records of 3073 bytes, has 5000"):
        import_cifar10(source, tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Semi-Open", "semi_open"),
        ("7", "class_7"),
        ("  Tür offen ", "t_r_offen"),
        ("A" * 50, "a" * 32),
    ],
)
def test_any_text_becomes_a_class_name(text: str, name: str) -> None:
    assert class_name(text) == name


def test_text_without_a_letter_is_no_class_name() -> None:
    with pytest.raises(DatasetError, match="must have a letter"):
        class_name("…")


def test_the_commands_import_split_and_say_what_they_did(tmp_path: Path) -> None:
    for name in ("open", "shut"):
        for index in range(6):
            _picture(tmp_path / f"photos/{name}/{index}.jpg", 20 * index)
    out = tmp_path / "out"
    result = CliRunner().invoke(
        data_group, ["import", "folders", str(tmp_path / "photos"), str(out)]
    )
    assert result.exit_code == 0, result.output
    assert "12 rows; state: open, shut" in result.stdout
    result = CliRunner().invoke(data_group, ["split", str(out), "--test", "nan"])
    assert result.exit_code == 2
    result = CliRunner().invoke(data_group, ["split", str(out), "--test", "0.3"])
    assert result.exit_code == 0, result.output
    splits = [row.split for row in read_dataset(out).rows]
    assert set(splits) == {"train", "val", "test"}
    assert f"{'train':<5} {splits.count('train'):>7} rows" in result.stdout


def test_the_command_draws_scenes_and_never_overwrites(tmp_path: Path) -> None:
    out = tmp_path / "scenes"
    arguments = ["generate", str(out), "--groups", "2", "--pictures", "2", "--size", "160", "120"]
    result = CliRunner().invoke(data_group, [*arguments, "--workers", "1"])
    assert result.exit_code == 0, result.output
    dataset = read_dataset(out)
    assert len(dataset.rows) >= 4
    assert cv2.imread(str(dataset.path(dataset.rows[0]))).shape == (120, 160, 3)
    result = CliRunner().invoke(data_group, arguments)
    assert isinstance(result.exception, DatasetError)
    assert "exists already" in str(result.exception)


@pytest.mark.parametrize(
    "command",
    [["check"], ["split"], ["import"], ["import", "folders"], ["import", "yolo"],
     ["import", "mnist"], ["import", "cifar10"], ["generate"]],
)  # fmt: skip
def test_every_help_has_an_example(command: list[str]) -> None:
    result = CliRunner().invoke(data_group, [*command, "--help"])
    assert result.exit_code == 0
    assert f"transom data {' '.join(command)} " in result.output
