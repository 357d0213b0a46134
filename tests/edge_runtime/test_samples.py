import errno
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import cv2
import numpy as np
import pytest

from edge_runtime.picking import TRANSITION_S, Picker
from edge_runtime.sample import Sample, Why, likeness
from edge_runtime.sample_index import Kept, SampleIndex
from edge_runtime.samples import SampleStore
from tests.edge_runtime.test_daemon import CLOSED, OPEN, Play, camera_config, config_of
from transom.bundle import Bundle, read_bundle
from transom.config import SamplesConfig
from transom.crop import crop_zone
from transom.errors import SampleError
from transom.geometry import Zone

KIB = 1024


def sample(*direction: float, zone: str = "door", size: int = 100, **more: Any) -> Sample:
    """A picture whose embedding points somewhere."""
    values: dict[str, Any] = {
        "zone": zone,
        "task": "state",
        "why": "unsure",
        "taken_at": "2026-11-28T12:00:00.000Z",
        "shape": Zone.whole(),
        "picture": bytes(size),
        "model": "a" * 64,
        "embedding": np.array(direction, np.float32),
        "classes": ("closed", "ajar", "open"),
        "probabilities": np.array([0.4, 0.3, 0.3], np.float32),
    }
    return Sample(**(values | more))


def apart(count: int, width: int = 64) -> Iterator[tuple[float, ...]]:
    """Directions of which no two are alike."""
    for index in range(count):
        yield tuple(float(place == index) for place in range(width))


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Callable[..., SampleStore]]:
    opened: list[SampleStore] = []

    def open_(**bounds: Any) -> SampleStore:
        opened.append(SampleStore(tmp_path / "state" / "samples.sqlite3", SamplesConfig(**bounds)))
        return opened[-1]

    yield open_
    for store in opened:
        store.close()


def test_what_is_kept_is_read_back_after_a_restart(open_store: Any) -> None:
    kept = sample(1.0, 2.0, shape=Zone.rectangle(0.1, 0.2, 0.8, 0.9), label="closed",
                  labelled_by="mqtt", labelled_at="2026-11-28T12:00:01.000Z", drawn=1)  # fmt: skip
    store = open_store()
    store.add(kept)
    store.close()
    (found,) = open_store().samples()
    for name in ("zone", "task", "why", "taken_at", "shape", "picture", "model", "classes", "label",
                 "labelled_by", "labelled_at", "copies", "drawn"):  # fmt: skip
        assert getattr(found, name) == getattr(kept, name), name
    assert found.embedding.tolist() == [1.0, 2.0]
    assert found.probabilities.tolist() == kept.probabilities.tolist()


def test_nobody_else_can_read_the_file(open_store: Any, tmp_path: Path) -> None:
    open_store().add(sample(1.0))
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "state").iterdir()}
    assert set(modes.values()) == {0o600}
    assert "samples.sqlite3" in modes


def test_a_file_that_others_could_read_is_closed_to_them(open_store: Any, tmp_path: Path) -> None:
    open_store().close()
    (tmp_path / "state" / "samples.sqlite3").chmod(0o644)
    open_store()
    assert stat.S_IMODE((tmp_path / "state" / "samples.sqlite3").stat().st_mode) == 0o600


def test_a_near_duplicate_is_counted_and_not_kept(open_store: Any) -> None:
    store = open_store()
    first = store.add(sample(1.0, 0.0))
    assert store.add(sample(1.0, 0.1, why="random", drawn=1)) == first
    assert store.add(sample(1.0, 1.0)) != first
    assert store.add(sample(1.0, 0.0, zone="gate")) != first
    assert store.counts().samples == 3
    assert (store.get(first).copies, store.get(first).drawn) == (2, 1)


def test_the_newest_label_is_the_last_that_was_given_whatever_the_clock_said(
    open_store: Any, tmp_path: Path
) -> None:
    store = open_store()
    late = {"labelled_by": "mqtt", "labelled_at": "2036-01-01T00:00:00.000Z"}
    early = {"labelled_by": "mqtt", "labelled_at": "2026-01-01T00:00:00.000Z"}
    first = store.add(sample(1.0, 0.0, 0.0, label="closed", **late))
    second = store.add(sample(0.0, 1.0, 0.0, label="closed", **early))
    third = store.add(sample(0.0, 0.0, 1.0))

    def newest(most: int | None = None) -> list[int]:
        return [one.id for one in store.lessons("door", "state", most)]

    assert newest() == [second, first]
    assert newest(1) == [second]
    store.label(third, "closed", "page", "1970-01-01T00:00:00.000Z")
    assert newest() == [third, second, first]
    store.add(sample(1.0, 0.01, 0.0, label="closed", **early))  # the first once more
    assert newest() == [first, third, second]
    store.close()
    store = open_store()
    assert newest() == [first, third, second]
    store.forget(third)
    store.label(first, None, "", "")
    assert newest() == [second]
    with closing(sqlite3.connect(tmp_path / "state" / "samples.sqlite3")) as file:
        assert {id_ for (id_,) in file.execute("SELECT id FROM labelled")} <= {first, second}


def test_labels_from_before_they_were_numbered_are_older_than_all_others(
    open_store: Any, tmp_path: Path
) -> None:
    store = open_store()
    by = {"labelled_by": "mqtt"}
    old = [
        store.add(sample(*row, label="open", labelled_at=at, **by))
        for row, at in (((1.0, 0.0, 0.0), "2036"), ((0.0, 1.0, 0.0), "2026"))
    ]
    store.close()
    with closing(sqlite3.connect(tmp_path / "state" / "samples.sqlite3")) as file:
        file.execute("DROP TABLE labelled")
    store = open_store()
    new = store.add(sample(0.0, 0.0, 1.0, label="open", labelled_at="1970", **by))
    assert [one.id for one in store.lessons("door", "state")] == [new, *old]


def test_a_label_reaches_the_picture_that_is_kept_already(open_store: Any) -> None:
    store = open_store()
    first = store.add(sample(1.0, 0.0))
    store.add(sample(1.0, 0.05, label="open", labelled_by="mqtt", labelled_at="t1"))
    assert store.get(first).label == "open"
    store.add(sample(1.0, 0.05, label="closed", labelled_by="mqtt", labelled_at="t2"))
    assert [(s.label, s.labelled_at) for s in store.lessons("door", "state")] == [("closed", "t2")]


def test_a_label_that_says_less_does_not_replace_one_that_says_more(open_store: Any) -> None:
    store = open_store()
    store.add(sample(1.0, label="ajar", labelled_by="mqtt", labelled_at="t1"))
    store.add(sample(1.0, label="ajar|open", labelled_by="contact", labelled_at="t2"))
    assert [s.label for s in store.samples()] == ["ajar"]


def test_no_more_pictures_than_the_bound_and_the_oldest_goes(open_store: Any) -> None:
    store = open_store(max_count=10)
    for direction in apart(25):
        store.add(sample(*direction))
    assert sorted(s.id for s in store.samples()) == list(range(16, 26))


def test_no_more_bytes_than_the_bound(open_store: Any, tmp_path: Path) -> None:
    store = open_store(max_bytes=1024 * KIB)
    for direction in apart(40):
        store.add(sample(*direction, size=100 * KIB))
    assert store.counts().samples == 9
    assert store.counts().stored_bytes <= 1024 * KIB
    assert (tmp_path / "state" / "samples.sqlite3").stat().st_size < 1.2 * 1024 * KIB
    assert store.add(sample(*[0.0] * 63, 1.0, size=1025 * KIB)) is None


def test_a_number_is_never_given_twice(open_store: Any) -> None:
    store = open_store()
    first = store.add(sample(1.0, 0.0))
    store.forget(first)
    store.close()
    assert open_store().add(sample(0.0, 1.0)) == first + 1


def test_a_label_writes_no_picture(open_store: Any, tmp_path: Path) -> None:
    store = open_store()
    kept = store.add(sample(1.0, size=500 * KIB))
    log = tmp_path / "state" / "samples.sqlite3-wal"
    store._store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store.label(kept, "open", "page", "t")
    assert log.stat().st_size < 50 * KIB


def test_the_most_redundant_goes_before_the_oldest(open_store: Any) -> None:
    store = open_store(max_count=10)
    for direction in apart(8):
        store.add(sample(*direction))
    older = store.add(sample(*[0.0] * 20, 1.0, 0.0, *[0.0] * 42))
    newer = store.add(sample(*[0.0] * 20, 1.0, 0.3, *[0.0] * 42))
    store.add(sample(*[0.0] * 63, 1.0))
    left = {s.id for s in store.samples()}
    assert older not in left
    assert newer in left
    assert 1 in left


def test_drawn_pictures_are_not_taken_out_for_being_alike(open_store: Any) -> None:
    store = open_store(max_count=10)
    for direction in apart(8):
        store.add(sample(*direction))
    drawn = [
        store.add(sample(*[0.0] * 20, 1.0, tilt, *[0.0] * 42, why="random", drawn=1))
        for tilt in (0.0, 0.3)
    ]
    store.add(sample(*[0.0] * 63, 1.0))
    left = {s.id for s in store.samples()}
    assert set(drawn) <= left
    assert 1 not in left


def test_labelled_pictures_go_last(open_store: Any) -> None:
    store = open_store(max_count=10)
    directions = list(apart(30))
    first = store.add(sample(*directions[0], label="open", labelled_by="mqtt", labelled_at="t"))
    for direction in directions[1:]:
        store.add(sample(*direction))
    assert first in {s.id for s in store.samples()}
    assert store.counts().labelled == 1


def test_bounds_that_were_made_smaller_are_kept_at_the_next_start_the_oldest_goes(
    open_store: Any, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store()
    for number, direction in enumerate(apart(40)):
        store.add(sample(*direction, label="closed" if number < 5 else None))
    store.close()
    with caplog.at_level("INFO"):
        fewer = open_store(max_count=10)
    assert [one.id for one in fewer.samples()] == [40, 39, 38, 37, 36, 5, 4, 3, 2, 1]
    assert fewer.counts().samples == 10
    assert "too many for the bounds and deleted count=30" in caplog.text
    fewer.close()
    caplog.clear()
    store = open_store(max_count=10)
    assert store.counts().samples == 10
    assert "too many" not in caplog.text
    store.close()
    open_store(max_count=3).close()
    with closing(sqlite3.connect(store._path)) as file:
        for table in ("samples", "pictures", "labelled"):  # the last three have a label
            assert file.execute(f"SELECT count(*) FROM {table}").fetchone()[0] == 3


def test_of_many_pictures_the_oldest_thousand_are_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[int] = []

    def count(first: Any, second: Any) -> Any:
        compared.append(len(first) * len(second))
        return likeness(first, second)

    monkeypatch.setattr("edge_runtime.sample_index.likeness", count)
    index = SampleIndex()
    embeddings = np.random.default_rng(0).normal(size=(3000, 32)).astype(np.float32)
    embeddings[700] = embeddings[300]
    embeddings[2000] = embeddings[100]
    index.fill(
        Kept(number + 1, ("door", "hatch")[number % 2], "m", None, 0, 9, embedding)
        for number, embedding in enumerate(embeddings)
    )
    assert index.victim().id == 301
    assert sum(compared) <= 1000 * 1000


def test_what_is_taken_back_is_gone_from_the_file(open_store: Any, tmp_path: Path) -> None:
    store = open_store()
    secret = b"what nobody shall see" * 200
    kept = store.add(sample(1.0, picture=secret))
    store.close()
    path = tmp_path / "state" / "samples.sqlite3"
    assert secret[:100] in path.read_bytes()
    store = open_store()
    assert store.forget(kept)
    store.close()
    assert secret[:100] not in path.read_bytes()


def test_a_label_or_an_answer_for_what_is_gone_is_told(open_store: Any) -> None:
    store = open_store()
    kept = store.add(sample(1.0, 0.0))
    assert store.label(kept, "open", "page", "t")
    assert store.answered(replace(store.get(kept), model="b" * 64))
    assert store.get(kept).model == "b" * 64
    store.forget(kept)
    assert store.get(kept) is None
    assert not store.label(kept, "open", "page", "t")


def damaged(tmp_path: Path, how: str) -> Path:
    path = tmp_path / "samples.sqlite3"
    store = SampleStore(path, SamplesConfig())
    for direction in apart(30):
        store.add(sample(*direction, size=5000))
    store.close()
    whole = path.read_bytes()
    foreign = b"CREATE TABLE samples (id INTEGER)"
    if how == "another schema":
        path.unlink()
        with closing(sqlite3.connect(path)) as other:
            other.execute(foreign.decode())
    else:
        path.write_bytes({
            "no database": b"no database" * 1000,
            "cut": whole[: len(whole) // 2],
            "overwritten": whole[:8192] + bytes(8192) + whole[16384:],
        }[how])  # fmt: skip
    return path


@pytest.mark.parametrize("how", ["no database", "cut", "overwritten", "another schema"])
def test_a_damaged_file_is_set_aside_and_does_not_stop_the_daemon(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = damaged(tmp_path, how)
    store = SampleStore(path, SamplesConfig())
    assert len(list(store.samples())) < 30  # what is damaged may be met here only
    assert store.add(sample(*[0.0] * 40, 1.0, *[0.0] * 23)) == 1
    assert store.counts().samples == 1
    store.close()
    assert path.with_name("samples.sqlite3.damaged").exists()
    assert "damaged and is new" in caplog.text


def test_a_store_that_could_not_be_begun_anew_at_once_is_begun_later(
    open_store: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store()
    assert store.add(sample(1.0, 0.0)) == 1
    damage = sqlite3.DatabaseError("malformed")
    damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT

    def full(_path: Path) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    with monkeypatch.context() as card:
        card.setattr("edge_runtime.samples._open", full)
        store._meet(damage)
        assert store.add(sample(0.0, 1.0)) is None
    assert store.add(sample(0.0, 1.0)) == 1
    assert store.counts().samples == 1
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]


def test_a_damaged_file_that_could_not_be_moved_at_once_is_moved_later(
    open_store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store()
    assert store.add(sample(1.0, 0.0)) == 1
    damage = sqlite3.DatabaseError("malformed")
    damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT

    def held(path: Path) -> Path:
        raise PermissionError(errno.EACCES, "not now", str(path))

    with monkeypatch.context() as card:
        card.setattr("edge_runtime.samples.set_aside", held)
        store._meet(damage)
        for file in (tmp_path / "state").glob("samples.sqlite3*"):
            file.write_bytes(b"no database" * 500)
        assert store.add(sample(0.0, 1.0)) is None  # and nothing comes out of it
    assert store.add(sample(0.0, 1.0)) == 1
    assert store.counts().samples == 1


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("shape", "0 0 1 0 1 1 0 q"),
        ("why", "taughu"),
        ("probabilities", b"\x00\x01\x02"),
    ],
)
def test_a_picture_whose_words_are_damaged_goes_and_the_others_stay(
    tmp_path: Path, column: str, value: object, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "samples.sqlite3"
    store = SampleStore(path, SamplesConfig())
    for direction in apart(3):
        store.add(replace(sample(*direction), label="open", labelled_at="t"))
    store.close()
    with closing(sqlite3.connect(path)) as card, card:
        card.execute(f"UPDATE samples SET {column} = ? WHERE id = 2", (value,))
    store = SampleStore(path, SamplesConfig())
    assert [found.id for found in store.lessons("door", "state")] == [3, 1]
    assert [found.id for found in store.outlines(9)] == [3, 1]
    assert store.counts().samples == 2
    assert caplog.text.count("kept picture is damaged and is deleted id=2") == 1
    store.close()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(SampleError, match=r"samples\.sqlite3: cannot be opened: .*writable"):
        SampleStore(tmp_path / "state" / "samples.sqlite3", SamplesConfig())


def test_a_store_that_cannot_be_written_is_one_warning_and_no_error(
    open_store: Any, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store()
    store._store.execute("PRAGMA query_only = ON")
    assert store.add(sample(1.0)) is None
    assert store.add(sample(1.0)) is None
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    store._store.execute("PRAGMA query_only = OFF")
    assert store.add(sample(1.0)) == 1


# ---------------------------------------------------------------- which looks


def whys(picker: Picker, looks: list[dict[str, Any]], step_s: float = 0.2) -> list[Why | None]:
    plain = {"top": 0, "is_unlike": False, "is_believed": True, "has_changed": False}
    return [picker.why_keep(i * step_s, **(plain | look)) for i, look in enumerate(looks)]


def test_doubt_a_change_and_the_unlike_are_kept_each_at_its_pace() -> None:
    picker = Picker(SamplesConfig(every_s=1.0, random_per_day=0.0), Random(0))
    doubt, change, odd = {"is_believed": False}, {"has_changed": True}, {"is_unlike": True}
    assert whys(picker, [doubt, doubt, change, odd, doubt, doubt, {}, {}]) == [
        "unsure", None, "transition", "unlike", None, "unsure", None, "transition",
    ]  # fmt: skip


def test_the_closing_after_an_opening_is_kept_too() -> None:
    picker = Picker(SamplesConfig(every_s=300.0, random_per_day=0.0), Random(0))
    opening, closing = ({"has_changed": True, "top": top} for top in (2, 0))
    looks = [opening, *[{"top": 2}] * 5, closing, *[{}] * 5, opening]
    found = whys(picker, looks, step_s=2.0)
    assert [i for i, why in enumerate(found) if why is not None] == [0, 6]


def test_looks_soon_after_a_change_count_to_it() -> None:
    picker = Picker(SamplesConfig(every_s=1.0, random_per_day=0.0), Random(0))
    found = whys(picker, [{"has_changed": True}, *[{}] * 9], step_s=0.9)
    kept_s = [0.9 * i for i, why in enumerate(found) if why == "transition"]
    assert kept_s == [0.0, 1.8]
    assert max(kept_s) <= TRANSITION_S


def test_the_random_share_is_the_one_asked_for_whatever_is_seen() -> None:
    picker = Picker(SamplesConfig(every_s=3600.0, random_per_day=100.0), Random(1))
    day = whys(picker, [{"is_believed": False}] * 86400, step_s=10.0)
    drawn = [i for i, why in enumerate(day) if why == "random"]
    assert 900 < len(drawn) < 1100  # ten days
    gaps = np.diff(drawn)
    assert np.std(gaps) == pytest.approx(np.mean(gaps), rel=0.2)  # a Poisson process


def test_no_share_is_drawn_where_none_is_asked_for() -> None:
    picker = Picker(SamplesConfig(random_per_day=0.0), Random(1))
    assert set(whys(picker, [{}] * 1000, step_s=1000.0)) == {None}


# ---------------------------------------------------------------- in the daemon


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Any) -> Bundle:
    return read_bundle(tiny_bundle.path, None)


def door(scene: Any, brightness: float, seconds: float) -> list[Any]:
    frames = [scene(brightness, seed=i, height=240) for i in range(10)]
    return [frames[i % 10] for i in range(round(seconds * 5))]


def test_the_daemon_keeps_nothing_unless_it_is_configured(
    bundle: Bundle, scene: Any, play_list_camera: Any, open_store: Any
) -> None:
    play = Play(bundle, config_of(), play_list_camera, door(scene, OPEN, 4), samples=open_store())
    play.turn(4)
    assert play.events()
    assert open_store().counts().samples == 0


def test_the_daemon_keeps_the_look_that_changed_a_state(
    bundle: Bundle, scene: Any, play_list_camera: Any, open_store: Any
) -> None:
    store = open_store()
    config = config_of(samples=SamplesConfig(random_per_day=0.0))
    frames = door(scene, CLOSED, 4) + door(scene, OPEN, 4)
    play = Play(bundle, config, play_list_camera, frames, samples=store)
    play.turn(8)
    transitions = [s for s in store.samples() if s.why == "transition"]
    assert [s.classes[s.probabilities.argmax()] for s in transitions] == ["open", "closed"]
    told = [event["at"] for event in play.payloads("door/event")]
    assert [s.taken_at for s in transitions] == told[::-1]
    assert {s.model for s in transitions} == {bundle.digest}


def test_the_network_sees_in_a_kept_picture_what_it_saw_in_the_frame(
    bundle: Bundle, scene: Any, play_list_camera: Any, open_store: Any
) -> None:
    store = open_store()
    config = config_of(camera_config(), samples=SamplesConfig(random_per_day=0.0))
    frames = door(scene, OPEN, 4)
    play = Play(bundle, config, play_list_camera, frames, samples=store)
    play.turn(4)
    (kept,) = (s for s in store.samples() if s.why == "transition")
    picture = cv2.imdecode(np.frombuffer(kept.picture, np.uint8), cv2.IMREAD_COLOR)
    size, margin = bundle.manifest.input.size, bundle.manifest.input.margin
    again = crop_zone(picture, kept.shape, size, margin).astype(float)
    zone = config.cameras[0].zones[0].zone
    crops = [crop_zone(frame, zone, size, margin).astype(float) for frame in frames[:10]]
    assert min(np.abs(again - crop).mean() for crop in crops) < 3.0
    assert picture.shape[0] < frames[0].shape[0] * 1.01
    assert picture.shape[1] < frames[0].shape[1] * 0.6


def test_the_daemon_says_how_many_pictures_wait(
    bundle: Bundle, scene: Any, play_list_camera: Any, open_store: Any
) -> None:
    config = config_of(samples=SamplesConfig(random_per_day=0.0))
    play = Play(bundle, config, play_list_camera, door(scene, OPEN, 32), samples=open_store())
    play.turn(32)
    figures = play.payloads("diagnostics")[-1]
    assert (figures["samples"], figures["labelled_samples"]) == (1, 0)
    assert figures["sample_bytes"] > 4096
