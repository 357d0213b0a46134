"""`transom pull` from real stores of samples, over a real broker."""

import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from paho.mqtt import publish

from edge_runtime.clock import Clock
from edge_runtime.mqtt import Publisher
from edge_runtime.outbox import Outbox
from edge_runtime.sample import Sample
from edge_runtime.samples import SampleStore
from edge_runtime.sharing import Sharing
from edge_runtime.web.labels_file import named_rows, write_labels
from fleet.pulled import PULLED, PulledDataset, check_picture, hold_out_days
from tests.edge_runtime.broker import Broker, wait_until
from tests.edge_runtime.test_samples import sample
from tests.edge_runtime.updating import TOPICS, TinyBundle
from transom.bundle import read_bundle
from transom.chunks import CHUNK_BYTES
from transom.cli import main
from transom.config import CameraConfig, Config, OutboxConfig, SamplesConfig, ZoneConfig
from transom.dataset import Row, read_dataset, write_dataset
from transom.errors import DatasetError
from transom.geometry import Zone
from transom.messages import Topics
from transom.sharing import SamplesOffer, SharedSample, SharedTask
from transom.tasks import Task, TaskSet

STATE = Task(name="state", classes=("closed", "open"))
ZONE = ZoneConfig(name="door", polygon=((0.3, 0.1), (0.6, 0.1), (0.6, 0.9), (0.3, 0.9)))


def picture(number: int, side: int = 48) -> bytes:
    """A JPEG that is no other's; of noise, so that it is as large as its side says."""
    noise = np.random.default_rng(number).integers(0, 255, (side, side, 3), np.uint8)
    return bytes(cv2.imencode(".jpg", noise, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes())


def seen(number: int, *, day: int = 1, side: int = 48, **more: Any) -> Sample:
    embedding = np.eye(64)[number % 64]
    values: dict[str, Any] = {
        "picture": picture(number, side),
        "taken_at": f"2026-11-{day:02}T12:00:{number % 60:02}.000Z",
        "classes": ("closed", "open"),
        "probabilities": np.array([0.7, 0.3], np.float32),
        "shape": Zone.rectangle(0.2, 0.2, 0.8, 0.8),
    }
    return sample(*embedding.tolist(), **values | more)


class SharingDevice:
    """What of a daemon answers to `transom pull`, between entering and leaving."""

    def __init__(self, folder: Path, broker: Broker, tiny: TinyBundle, name: str) -> None:
        terms = SamplesConfig(pull=True, max_count=1000)
        self._config = Config(
            device=name,
            mqtt=broker.config(),
            samples=terms,
            cameras=(CameraConfig(name="hall", source="file:x.mp4", zones=(ZONE,)),),
        )
        self._folder, self._bundle = folder / name, read_bundle(tiny.path, None)
        self._folder.mkdir(parents=True, exist_ok=True)
        self.store = SampleStore(self._folder / "samples.sqlite3", terms)

    @contextmanager
    def running(self) -> Iterator[None]:
        topics = Topics("transom", self._config.device)
        with ExitStack() as stack:
            outbox = Outbox(self._folder / "outbox.sqlite3", OutboxConfig())
            stack.callback(outbox.close)
            stack.callback(self.store.close)
            link = Publisher(self._config.mqtt, topics, outbox, secret=None, clock=Clock())
            link.start()
            stack.callback(link.stop, 2.0)
            with Sharing(self._config, topics, link, self.store, self._bundle):
                wait_until(lambda: link.is_connected and not link.waiting)
                yield


@pytest.fixture
def device(tmp_path: Path, broker: Broker, tiny_bundle: TinyBundle) -> Iterator[SharingDevice]:
    device = SharingDevice(tmp_path / "devices", broker, tiny_bundle, TOPICS.device)
    with device.running():
        yield device


def arguments(broker: Broker, folder: Path, *more: object) -> list[str]:
    where = ["--host", "localhost", "--port", str(broker.port), "--no-tls", "--json"]
    return ["pull", str(folder), *map(str, more), *where]


@pytest.fixture
def pull(broker: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Pull into a data set; return the exit code and what was told."""

    def pull(*more: object) -> tuple[int, Any]:
        code = main(arguments(broker, tmp_path / "home", *(more or (TOPICS.device,))))
        output = capsys.readouterr()
        assert output.err == "", output.err
        return code, json.loads(output.out)

    return pull


def rows(folder: Path) -> list[Row]:
    dataset = read_dataset(folder)
    assert dataset.mistakes == ()
    return list(dataset.rows)


def test_pictures_and_labels_of_a_device_become_a_data_set(
    tmp_path: Path, device: SharingDevice, pull: Any
) -> None:
    large = seen(1, side=400, label="open", labelled_by="mqtt",
                 labelled_at="2026-11-01T12:00:02.000Z")  # fmt: skip
    assert len(large.picture) > 2 * CHUNK_BYTES
    device.store.add(large)
    device.store.add(seen(2, day=2))
    code, told = pull()
    assert code == 0
    assert told["devices"]["hall-pi"] | {"reason": ""} == {
        "device": "hall-pi", "standing": "done", "new": 2, "known": 0, "removed": 0, "labels": 1,
        "aside": [], "reason": "",
    }  # fmt: skip
    first, second = rows(tmp_path / "home")
    assert (first.group, second.group) == ("hall-pi/hall/door/2026-11-01",
                                           "hall-pi/hall/door/2026-11-02")  # fmt: skip
    assert (first.split, second.split) == ("train", "val")
    assert (dict(first.labels), dict(second.labels)) == ({"state": "open"}, {})
    assert first.zone == Zone.rectangle(0.2, 0.2, 0.8, 0.8)
    assert (tmp_path / "home" / first.image).read_bytes() == large.picture
    assert (second.extra["said"], second.extra["confidence"]) == ("closed", "0.7000")
    serving = json.loads((tmp_path / "home" / "serving.json").read_text())
    assert serving["hall-pi"]["model"] == "tiny"


def test_the_second_time_brings_what_is_new_and_other_labels(
    tmp_path: Path, device: SharingDevice, pull: Any
) -> None:
    id_ = device.store.add(seen(1, label="open", labelled_by="mqtt",
                                labelled_at="2026-11-01T12:00:02.000Z"))  # fmt: skip
    assert id_ is not None
    assert pull()[1]["labelled"] == 1
    device.store.label(id_, None, "", "")  # taken back
    device.store.add(seen(2))
    told = pull()[1]["devices"]["hall-pi"]
    assert (told["new"], told["known"]) == (1, 1)
    assert [dict(row.labels) for row in rows(tmp_path / "home")] == [{}, {}]


def test_a_label_of_the_workstation_stands_until_the_device_is_corrected_later(
    tmp_path: Path, device: SharingDevice, pull: Any
) -> None:
    id_ = device.store.add(seen(1))
    assert id_ is not None
    pull()
    dataset = read_dataset(tmp_path / "home")
    edited = [replace(row, labels={"state": "open"}) for row in dataset.rows]
    write_dataset(tmp_path / "home", name=dataset.name, tasks=dataset.tasks, rows=edited)
    pull()
    assert [dict(row.labels) for row in rows(tmp_path / "home")] == [{"state": "open"}]
    device.store.label(id_, "closed", "mqtt", "2026-11-28T12:00:00.000Z")
    pull()
    assert [dict(row.labels) for row in rows(tmp_path / "home")] == [{"state": "closed"}]


def test_a_correction_counts_though_the_clock_of_the_device_was_set_back(
    tmp_path: Path, device: SharingDevice, pull: Any
) -> None:
    id_ = device.store.add(seen(1, label="closed", labelled_by="mqtt",
                                labelled_at="2036-01-01T12:00:00.000Z"))  # fmt: skip
    assert id_ is not None
    pull()
    (name,) = named_rows(rows(tmp_path / "home"))
    write_labels(tmp_path / "home", "state", {name: "open"})
    pull()
    assert [dict(row.labels) for row in rows(tmp_path / "home")] == [{"state": "open"}]
    device.store.label(id_, "closed", "mqtt", "2026-11-28T12:00:00.000Z")
    pull()
    assert [dict(row.labels) for row in rows(tmp_path / "home")] == [{"state": "closed"}]
    write_labels(tmp_path / "home", "state", {name: "open"})
    device.store.label(id_, None, "", "")  # taken back there, and written here
    pull()
    assert [dict(row.labels) for row in rows(tmp_path / "home")] == [{"state": "open"}]


def test_what_somebody_has_added_to_a_row_stays(
    tmp_path: Path, device: SharingDevice, pull: Any
) -> None:
    device.store.add(seen(1, label="open", labelled_by="mqtt",
                          labelled_at="2026-11-01T12:00:02.000Z"))  # fmt: skip
    pull()
    (row,) = rows(tmp_path / "home")
    more = {"labels": {**row.labels, "kind": "door"}, "group": "hall", "split": "test",
            "extra": {**row.extra, "note": "a cat in it"}}  # fmt: skip
    tasks = TaskSet([*read_dataset(tmp_path / "home").tasks,
                     Task(name="kind", classes=("door", "window"))])  # fmt: skip
    write_dataset(tmp_path / "home", name="home", tasks=tasks, rows=[replace(row, **more)])
    pull()
    (after,) = rows(tmp_path / "home")
    assert {name: getattr(after, name) for name in more} == more


def test_labels_that_are_written_while_it_pulls_stay(tmp_path: Path) -> None:
    folder = tmp_path / "home"
    classes = ("closed", "open")
    offer = SamplesOffer(samples=2, labelled=0, model="m", sequence=1, digest="0" * 64,
                         tasks={"state": SharedTask(classes=classes, ordinal=False)})  # fmt: skip
    pulled = PulledDataset(folder)
    pulled.meet("pi", offer)
    for number in (1, 2):
        data = picture(number)
        pulled.take("pi", shared(number, data), data)
        pulled.save()
        names = list(named_rows(read_dataset(folder).rows))
        write_labels(folder, "state", {names[-1]: classes[number - 1]})
    pulled.meet("pi", offer)
    pulled.save()
    assert [row.labels["state"] for row in rows(folder)] == ["closed", "open"]


def test_labels_that_are_written_in_the_moment_in_which_it_saves_stay(tmp_path: Path) -> None:
    folder = tmp_path / "home"
    tasks = {"state": SharedTask(classes=("closed", "open"), ordinal=False)}
    offer = SamplesOffer(samples=2, labelled=0, model="m", sequence=1, digest="0" * 64, tasks=tasks)
    pulled = PulledDataset(folder)
    pulled.meet("pi", offer)
    data = picture(1)
    for number in range(60):
        digest = f"{number:064x}"
        sample = msgspec.structs.replace(shared(number % 60, data), sha256=digest)
        pulled.take("pi", sample, data)
    pulled.save()
    names = list(named_rows(read_dataset(folder).rows))

    def label(some: list[str]) -> None:
        for name in some:
            write_labels(folder, "state", {name: "open"})

    with ThreadPoolExecutor() as people:
        labelling = [people.submit(label, names[part::2]) for part in range(2)]
        while not all(one.done() for one in labelling):
            pulled.meet("pi", offer)
            pulled.save()
    for one in labelling:
        one.result()
    assert {row.labels.get("state") for row in rows(folder)} == {"open"}


def test_what_another_pull_is_writing_is_left_to_it(tmp_path: Path) -> None:
    folder = tmp_path / "home"
    write_dataset(folder, name="home", tasks=TaskSet([STATE]), rows=[])
    day = folder / "pi" / "hall" / "door" / "2026-11-01"
    day.mkdir(parents=True)
    (day / ".a.jpg.12345678").write_bytes(b"of a kill")
    pulled = PulledDataset(folder)
    (day / ".b.jpg.12345678").write_bytes(b"of another pull")
    pulled.clear_unfinished()
    assert [path.name for path in day.iterdir()] == [".b.jpg.12345678"]


def test_what_somebody_takes_out_of_the_data_set_stays_out(
    tmp_path: Path, device: SharingDevice, pull: Any
) -> None:
    folder = tmp_path / "home"
    for number in (1, 2, 3):
        device.store.add(seen(number))
    assert pull()[1]["samples"] == 3
    lines = (folder / "labels.csv").read_text().splitlines(keepends=True)
    (folder / "labels.csv").write_text("".join([*lines[:2], *lines[3:]]))
    (folder / rows(folder)[0].image).unlink()  # a picture that was lost is another thing
    _, told = pull()
    outcome = told["devices"]["hall-pi"]
    assert (outcome["removed"], outcome["known"], outcome["new"]) == (1, 2, 0)
    assert told["samples"] == 2
    assert (folder / rows(folder)[0].image).exists()

    (folder / PULLED).unlink()
    assert pull()[1]["samples"] == 3


def test_what_is_taken_out_while_it_pulls_stays_out(tmp_path: Path) -> None:
    folder = tmp_path / "home"
    tasks = {"state": SharedTask(classes=("closed", "open"), ordinal=False)}
    offer = SamplesOffer(samples=2, labelled=0, model="m", sequence=1, digest="0" * 64, tasks=tasks)
    pulled = PulledDataset(folder)
    pulled.meet("pi", offer)
    first, second = (shared(number, picture(number)) for number in (1, 2))
    pulled.take("pi", first, picture(1))
    pulled.save()
    header = (folder / "labels.csv").read_text().splitlines(keepends=True)[0]
    (folder / "labels.csv").write_text(header)
    pulled.take("pi", second, picture(2))
    pulled.save()
    assert [row.extra["sha256"] for row in rows(folder)] == [second.sha256]
    assert pulled.was_removed("pi", first)
    assert PulledDataset(folder).was_removed("pi", first)


def shared(number: int, data: bytes) -> SharedSample:
    return SharedSample(
        id=number, camera="hall", zone="door", task="state", why="unsure",
        taken_at=f"2026-11-01T12:00:{number:02}.000Z", shape="", model="0" * 64,
        classes=("closed", "open"), probabilities=(0.5, 0.5), copies=1, drawn=0,
        sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data),
    )  # fmt: skip


def test_a_record_of_what_serves_that_is_damaged_is_said(tmp_path: Path) -> None:
    tasks = TaskSet([STATE])
    write_dataset(tmp_path, name="home", tasks=tasks, rows=[])
    (tmp_path / "serving.json").write_text("{")
    with pytest.raises(DatasetError, match=r"serving\.json: is not JSON.* delete it"):
        PulledDataset(tmp_path)


def test_a_label_that_leaves_classes_open_labels_nothing(
    tmp_path: Path, device: SharingDevice, pull: Any
) -> None:
    device.store.add(seen(1, label="closed|open", labelled_by="contact",
                          labelled_at="2026-11-01T12:00:02.000Z"))  # fmt: skip
    pull()
    (row,) = rows(tmp_path / "home")
    assert (dict(row.labels), row.extra["label"]) == ({}, "closed|open")


def test_a_killed_pull_goes_on_with_what_is_missing(
    tmp_path: Path, broker: Broker, device: SharingDevice, pull: Any
) -> None:
    for number in range(64):
        device.store.add(seen(number, side=200))
    command = [sys.executable, "-m", "transom", *arguments(broker, tmp_path / "home", "hall-pi")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    wait_until(lambda: len(list((tmp_path / "home").rglob("*.jpg"))) > 5, 30.0)
    process.send_signal(signal.SIGKILL)
    process.wait()
    there = len(list((tmp_path / "home").glob("*/*/*/*/[!.]*.jpg")))
    assert there < 64
    with broker.subscriber("transom/hall-pi/samples/ask") as asked:
        code, told = pull()
        assert code == 0
        assert told["samples"] == 64

        def pictures() -> int:
            return sum("picture" in payload for payload in asked.payloads())

        wait_until(lambda: pictures() == 64 - there)
    assert not list((tmp_path / "home").rglob(".*.jpg.*"))


def test_a_device_without_consent_is_refused_with_what_to_do(
    tmp_path: Path, broker: Broker, pull: Any
) -> None:
    publish.single("transom/mute-pi/status", b"online", 1, True, hostname="localhost",
                   port=broker.port)  # fmt: skip
    code, told = pull("mute-pi", "--answer-s", "0.5")
    assert code == 1
    assert told["devices"]["mute-pi"]["standing"] == "refused"
    assert "set pull = true in [samples]" in told["devices"]["mute-pi"]["reason"]
    assert not (tmp_path / "home").exists()


def test_of_all_devices_those_that_are_away_are_named(
    broker: Broker, device: SharingDevice, pull: Any
) -> None:
    publish.single("transom/late-pi/status", b"offline", 1, True, hostname="localhost",
                   port=broker.port)  # fmt: skip
    device.store.add(seen(1))
    code, told = pull("--all")
    assert code == 0
    standings = {name: found["standing"] for name, found in told["devices"].items()}
    assert standings == {"hall-pi": "done", "late-pi": "away"}


def test_nobody_is_called_as_a_folder_outside_of_the_data_set(
    tmp_path: Path, broker: Broker, tiny_bundle: TinyBundle, pull: Any
) -> None:
    intruder = SharingDevice(tmp_path / "devices" / "here", broker, tiny_bundle, "..")
    intruder.store.add(seen(1))
    with intruder.running():
        publish.single("transom/../status", b"online", 1, True, hostname="localhost",
                       port=broker.port)  # fmt: skip
        code = main(arguments(broker, tmp_path / "home", "--all"))
    assert code == 1
    assert not list(tmp_path.rglob("*.jpg"))


def test_what_is_damaged_or_too_large_is_put_aside_by_name_and_the_rest_comes(
    tmp_path: Path, device: SharingDevice, pull: Any
) -> None:
    device.store.add(seen(1, picture=b"\xff\xd8 no picture"))
    device.store.add(seen(2, picture=picture(2) + bytes(3 << 20)))
    device.store.add(seen(3))
    told = pull()[1]["devices"]["hall-pi"]
    assert told["new"] == 1
    damaged, large = sorted(told["aside"])
    assert damaged.startswith("sample 1 of door: is no JPEG; kept as ")
    assert large.startswith("sample 2 of door: has 3,")
    kept = list((tmp_path / "home" / "aside").iterdir())
    assert [path.read_bytes() for path in kept] == [b"\xff\xd8 no picture"]
    assert len(rows(tmp_path / "home")) == 1


def test_a_device_that_tells_of_more_than_may_be_is_not_followed(
    tmp_path: Path, device: SharingDevice, pull: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        device.store.add(seen(number))
    monkeypatch.setattr("fleet.pull.MOST_SAMPLES", 2)
    code, told = pull()
    assert code == 1
    assert "tells of more than 2 samples" in told["devices"]["hall-pi"]["reason"]
    assert not list((tmp_path / "home" / "images").glob("**/*.jpg"))


def test_a_picture_is_measured_before_it_is_decoded() -> None:
    small = bytearray(picture(1))
    place = small.index(b"\xff\xc0")
    small[place + 5 : place + 9] = (60000).to_bytes(2, "big") * 2
    with pytest.raises(ValueError, match="60000 x 60000 pixels"):
        check_picture(bytes(small))


def test_refuses_a_folder_that_holds_something_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    assert main(["pull", str(tmp_path / "home"), "--all", "--host", "localhost"]) == 1
    assert "neither empty nor a data set" in capsys.readouterr().err


def row(day: int, split: str = "", device: str = "a", hour: int = 0) -> Row:
    extra = {"device": device, "taken_at": f"2026-11-{day:02}T{hour:02}:00:00.000Z"}
    return Row(image=f"{device}{day}.jpg", split=split, extra=extra)


def test_every_fourth_day_is_held_out_and_stays_so() -> None:
    splits = [found.split for found in hold_out_days([row(day) for day in range(1, 9)])]
    assert splits == ["train", "val", "train", "train", "train", "val", "train", "train"]
    more = [row(day, split) for day, split in enumerate(splits, 1)] + [row(9), row(10), row(11)]
    assert [found.split for found in hold_out_days(more)][8:] == ["train", "val", "train"]
    assert [found.split for found in hold_out_days([row(1, device="b")])] == [""]


def test_one_row_that_somebody_moves_does_not_take_the_rest_of_its_day_along() -> None:
    day = [row(1, "train", hour=hour) for hour in range(3)] + [row(1, "test", hour=4)]
    held_out = row(2, "val")
    splits = [found.split for found in hold_out_days([*day, held_out, row(1, hour=5), row(2)])]
    assert splits == ["train", "train", "train", "test", "val", "train", "val"]


def test_a_data_set_that_does_not_say_when_a_picture_was_taken_was_not_pulled(
    tmp_path: Path,
) -> None:
    extra = {"device": "pi", "zone_name": "door", "sha256": "0" * 64}
    (tmp_path / "a.jpg").write_bytes(picture(1))
    tasks = TaskSet([STATE])
    write_dataset(tmp_path, name="home", tasks=tasks, rows=[Row(image="a.jpg", extra=extra)])
    with pytest.raises(DatasetError, match="has no column 'taken_at'"):
        PulledDataset(tmp_path)
