import os
import time
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest

from train.cache import prune_cache
from train.corpus import MISSING, load_corpus
from train.crop_cache import cached_crops
from transom.crop import crop_zone
from transom.dataset import Mistake, Row, read_dataset, write_dataset
from transom.errors import DatasetError
from transom.geometry import Zone
from transom.image_file import ImageError, read_image
from transom.tasks import Task, TaskSet


def _load(*folders: Path, **options: object):
    return load_corpus(folders, size=32, margin=0.1, **options)


def test_crops_are_those_of_the_device(tiny_dataset: Path) -> None:
    corpus = _load(tiny_dataset)
    assert len(corpus) == 16
    for crop, row in zip(corpus.crops, corpus.rows, strict=True):
        frame = cv2.imread(str(tiny_dataset / row.image))
        np.testing.assert_array_equal(crop, crop_zone(frame, row.zone, 32, 0.1))


def test_targets_are_class_indices_by_task(tiny_dataset: Path) -> None:
    corpus = _load(tiny_dataset)
    for target, row in zip(corpus.targets, corpus.rows, strict=True):
        assert target.tolist() == [
            task.index(row.labels[task.name]) for task in read_dataset(tiny_dataset).tasks
        ]


def test_rows_of_a_split_are_not_copied(tiny_dataset: Path) -> None:
    corpus = _load(tiny_dataset)
    trained = corpus.split("train")
    assert 0 < len(trained) < len(corpus)
    assert np.shares_memory(trained.crops, corpus.crops)
    assert set(trained.splits.tolist()) == {"train"}


def test_a_selection_keeps_every_column_together(tiny_dataset: Path) -> None:
    corpus = _load(tiny_dataset)
    chosen = np.array([9, 2, 5])
    selected = corpus.select(chosen)
    assert [row.image for row in selected.rows] == [corpus.rows[i].image for i in chosen]
    np.testing.assert_array_equal(selected.crops, np.asarray(corpus.crops)[chosen])
    np.testing.assert_array_equal(selected.targets, corpus.targets[chosen])
    assert selected.groups == tuple(corpus.groups[i] for i in chosen)
    assert selected.digest != corpus.digest


def test_joins_data_sets_by_the_names_of_tasks_and_classes(make_dataset, tmp_path: Path) -> None:
    first, second = make_dataset("first", groups=2), tmp_path / "second"
    (second / "images").mkdir(parents=True)
    cv2.imwrite(str(second / "images/a.png"), np.zeros((20, 20, 3), np.uint8))
    colours = TaskSet([Task(name="kind", classes=("hatch", "door"))])
    write_dataset(
        second,
        name="second",
        tasks=colours,
        rows=[Row(image="images/a.png", labels={"kind": "hatch"})],
    )
    corpus = _load(first, second)
    assert corpus.tasks["kind"].classes == ("door", "window", "hatch")
    row = corpus.origins.index("second")
    assert corpus.targets[row].tolist() == [2, MISSING]
    assert corpus.groups[row] == "second/images/a.png"
    assert corpus.groups[corpus.origins.index("first")].startswith("first/g")


def test_refuses_two_data_sets_of_one_name(make_dataset, tmp_path: Path) -> None:
    folder = make_dataset("twin", groups=2)
    copy = tmp_path / "copy"
    folder.rename(copy)
    with pytest.raises(DatasetError, match="both named 'twin'"):
        _load(make_dataset("twin", groups=2), copy)


def test_one_bad_image_is_left_out_and_named(tiny_dataset: Path) -> None:
    broken, missing = tiny_dataset / "images/0-0.png", tiny_dataset / "images/3-1.png"
    broken.write_bytes(b"no image")
    missing.unlink()
    told: list[Mistake] = []
    corpus = _load(tiny_dataset, report=told.append)
    assert len(corpus) == len(corpus.crops) == 14
    lines = {row.image: row.line for row in read_dataset(tiny_dataset).rows}
    assert sorted(m.line for m in told) == sorted(
        [lines["images/0-0.png"], lines["images/3-1.png"]]
    )
    assert all(m.file == str(tiny_dataset / "labels.csv") for m in told)
    for crop, row in zip(corpus.crops, corpus.rows, strict=True):
        frame = cv2.imread(str(tiny_dataset / row.image))
        np.testing.assert_array_equal(crop, crop_zone(frame, row.zone, 32, 0.1))


def test_a_data_set_without_any_readable_image_is_refused(tiny_dataset: Path) -> None:
    for image in (tiny_dataset / "images").iterdir():
        image.unlink()
    with pytest.raises(DatasetError, match="no row can be used"):
        _load(tiny_dataset)


def test_the_second_time_no_image_is_opened(tiny_dataset: Path, own_cache: Path) -> None:
    first = _load(tiny_dataset)
    opened: list[int] = []
    second = _load(tiny_dataset, progress=lambda done, total: opened.append(done))
    assert opened == []
    assert second.digest == first.digest
    np.testing.assert_array_equal(second.crops, first.crops)
    assert len(list((own_cache / "crops").iterdir())) == 1


def test_a_changed_image_is_decoded_again(tiny_dataset: Path) -> None:
    first = _load(tiny_dataset)
    cv2.imwrite(str(tiny_dataset / "images/0-0.png"), np.zeros((48, 48, 3), np.uint8))
    os.utime(tiny_dataset / "images/0-0.png", ns=(1, 1))
    second = _load(tiny_dataset)
    changed = [row.image for row in second.rows].index("images/0-0.png")
    assert not second.crops[changed].any()
    assert second.digest != first.digest


def test_an_image_that_could_not_be_opened_is_tried_again(
    tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = len(_load(tiny_dataset))
    shut = tiny_dataset / read_dataset(tiny_dataset).rows[0].image
    shut.write_bytes(shut.read_bytes() + b" ")  # not the cached one
    opened = Path.open

    def refuse(path: Path, *args: object, **options: object):
        if path == shut:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        told: list[Mistake] = []
        assert len(_load(tiny_dataset, report=told.append)) < before
        assert "Permission denied" in told[0].what
        assert len(_load(tiny_dataset)) < before
    assert len(_load(tiny_dataset)) == before


def test_a_cache_that_somebody_else_fills_is_read(
    tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _load(tiny_dataset)

    def refuse(path: Path, *args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "utime", refuse)
    assert _load(tiny_dataset).digest == first.digest


def test_a_damaged_cache_entry_is_made_again(tiny_dataset: Path, own_cache: Path) -> None:
    first = np.array(_load(tiny_dataset).crops)
    (pixels,) = own_cache.glob("crops/*/crops.u8")
    os.truncate(pixels, 100)
    np.testing.assert_array_equal(_load(tiny_dataset).crops, first)


def test_a_folder_whose_name_is_no_text_is_refused(make_dataset, tmp_path: Path) -> None:
    folder = make_dataset("movable").rename(tmp_path / os.fsdecode(b"T\xfcren"))
    with pytest.raises(DatasetError, match=r"T\\udcfcren': the names of folders must be UTF-8"):
        _load(folder)


def test_a_path_as_windows_writes_it_is_called_so(tiny_dataset: Path) -> None:
    labels = tiny_dataset / "labels.csv"
    labels.write_text(labels.read_text().replace("images/0-0.png", "images\\0-0.png"))
    told: list[Mistake] = []
    _load(tiny_dataset, report=told.append)
    assert "images\\0-0.png cannot be read" in told[0].what
    assert told[0].what.endswith("; folders are separated by /")


def test_the_digest_does_not_depend_on_where_the_data_set_lies(make_dataset, tmp_path) -> None:
    folder = make_dataset("movable")
    before = _load(folder).digest
    moved = tmp_path / "elsewhere"
    folder.rename(moved)
    assert _load(moved).digest == before


def test_the_digest_changes_with_a_label(tiny_dataset: Path) -> None:
    before = _load(tiny_dataset).digest
    labels = tiny_dataset / "labels.csv"
    labels.write_text(labels.read_text().replace(",window,closed", ",door,closed", 1))
    assert _load(tiny_dataset).digest != before


class _Deadly(type(Path())):
    """A path that ends the process which receives it, as an image that crashes its decoder does."""

    def __reduce__(self):
        return os._exit, (1,)


def test_worker_processes_give_what_the_device_sees(make_dataset, tmp_path: Path) -> None:
    folder = make_dataset(groups=40)  # more images than are decoded without workers
    (folder / "images/7-1.png").write_bytes(b"")
    told: list[Mistake] = []
    done: list[tuple[int, int]] = []
    corpus = _load(folder, report=told.append, progress=lambda *counts: done.append(counts))
    assert len(told) == 1
    assert done[-1] == (80, 80)
    assert len(corpus) == 79
    for crop, row in zip(corpus.crops, corpus.rows, strict=True):
        frame = cv2.imread(str(folder / row.image))
        np.testing.assert_array_equal(crop, crop_zone(frame, row.zone, 32, 0.1))


def test_an_image_that_ends_its_worker_is_left_out_alone(make_dataset, tmp_path: Path) -> None:
    folder = make_dataset(groups=33)
    entries = [(path, Zone.whole()) for path in sorted((folder / "images").iterdir())]
    entries[40] = (_Deadly(entries[40][0]), Zone.whole())
    found = cached_crops(entries, size=16, margin=0.0, cache=tmp_path / "cache")
    assert found.kept.tolist() == [i for i in range(66) if i != 40]
    assert [place for place, _ in found.failures] == [40]
    assert "ends the process" in found.failures[0][1]


class _Slow(type(Path())):
    """A picture that takes long, and that leaves a mark when somebody begins to read it."""

    def read_bytes(self) -> bytes:
        (self.parent.parent / "read" / self.name).touch()
        time.sleep(0.3 if "slow" in self.name else 0.01)
        return super().read_bytes()


def test_ctrl_c_does_not_wait_for_pictures_that_nobody_wants_any_more(
    make_dataset, tmp_path: Path
) -> None:
    folder = make_dataset(groups=35)
    (folder / "read").mkdir()
    pictures = sorted((folder / "images").iterdir())
    for number, path in enumerate(pictures[32:64]):  # the second of three portions
        pictures[32 + number] = path.rename(path.with_name(f"slow-{number}.png"))
    entries = [(_Slow(path), Zone.whole()) for path in pictures]

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        cached_crops(entries, size=16, margin=0.0, cache=tmp_path / "cache", progress=stop)
    read = [path.name for path in (folder / "read").iterdir()]
    assert len(read) >= 6
    assert sum(name.startswith("slow") for name in read) < 10
    assert list((tmp_path / "cache" / "crops").iterdir()) == []


def test_the_entries_unused_for_longest_leave_a_full_cache(tmp_path: Path) -> None:
    for age, name in enumerate(("newest", "middle", "oldest")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "crops.u8").write_bytes(bytes(100))
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    prune_cache(tmp_path, keep=tmp_path / "newest", limit=250)
    assert {entry.name for entry in tmp_path.iterdir()} == {"newest", "middle"}
    prune_cache(tmp_path, keep=tmp_path / "middle", limit=0)
    assert {entry.name for entry in tmp_path.iterdir()} == {"middle"}


def test_a_cache_that_cannot_be_written_says_what_to_do(tiny_dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DatasetError, match="TRANSOM_CACHE"):
        _load(tiny_dataset, cache=tmp_path / "file")


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_an_image_that_is_cut_off_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cut{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    whole = cv2.imencode(suffix, noise)[1].tobytes()
    path.write_bytes(whole)
    assert read_image(path).shape == (64, 64, 3)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match="cut off"):
        read_image(path)


@pytest.mark.parametrize("is_progressive", [0, 1])
def test_a_film_behind_a_phone_s_picture_does_not_make_it_cut_off(
    tmp_path: Path, is_progressive: int
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    options = [cv2.IMWRITE_JPEG_PROGRESSIVE, is_progressive, cv2.IMWRITE_JPEG_RST_INTERVAL, 2]
    whole = cv2.imencode(".jpg", noise, options)[1].tobytes()
    path = tmp_path / "motion.jpg"
    path.write_bytes(whole + b"\x00\x00\x00\x18ftypmp42" + b"\xff\xd9\xff\xda" * 9)
    assert read_image(path).shape == (64, 64, 3)
    # An end that is only that of the preview in its EXIF is none of the picture's.
    preview = b"\xff\xe1\x00\x06\xff\xd8\xff\xd9"
    path.write_bytes(whole[:2] + preview + whole[2 : len(whole) // 2])
    with pytest.raises(ImageError, match="cut off"):
        read_image(path)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty; copy it again"),
        (b"\x00\x00\x00\x18ftypheic" + bytes(99), "is HEIC.*save it as JPEG"),
        (b"hello", "is no image that OpenCV reads"),
    ],
)
def test_what_is_no_picture_is_called_what_it_is(tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "photo.jpg").write_bytes(data)
    with pytest.raises(ImageError, match=said):
        read_image(tmp_path / "photo.jpg")


def test_grey_and_transparent_images_become_three_channels(tmp_path: Path) -> None:
    for name, shape in (("grey.png", (8, 9)), ("alpha.png", (8, 9, 4))):
        cv2.imwrite(str(tmp_path / name), np.full(shape, 77, np.uint8))
        assert read_image(tmp_path / name).shape == (8, 9, 3)


def test_reads_the_real_doors(shared_data: Path) -> None:
    doors = read_dataset(shared_data / "doors")
    entries = [(doors.path(row), row.zone) for row in doors.rows[:40]]
    cache = Path(os.environ["TRANSOM_CACHE"])
    found = cached_crops(entries, size=64, margin=0.1, cache=cache)
    assert found.failures == ()
    assert found.crops.shape == (40, 64, 64, 3)
    assert np.asarray(found.crops).std() > 20


def test_the_whole_image_is_the_zone_where_none_is_given(tmp_path: Path) -> None:
    image = np.random.default_rng(1).integers(0, 255, (32, 32, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    found = cached_crops([(tmp_path / "a.png", Zone.whole())], size=32, margin=0.0, cache=tmp_path)
    np.testing.assert_array_equal(found.crops[0], image)
