"""The page of a data set: labels in its file, and nothing else in it changed."""

import http.client
import json
import os
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.web.call import Call
from edge_runtime.web.dataset import DatasetDesk
from edge_runtime.web.labels_file import named_rows, write_labels
from tests.edge_runtime.test_daemon import DOOR
from transom.bundle import Bundle, read_bundle
from transom.crop import Image
from transom.dataset import Row, read_dataset, write_dataset
from transom.geometry import Zone
from transom.tasks import Task, TaskSet

TASKS = TaskSet(
    [Task(name="kind", classes=("door", "window")), Task(name="state", classes=("closed", "open"))]
)
HEADER = "image,zone,group,split,kind,state,note\n"
ODD = (
    "﻿# no comment, but a row that cannot be read\r\n"
    + HEADER
    + '"a.jpg",, hall ,,door,"","he said ""shut"", twice"\r\n'
    + "missing.jpg,,hall,,door,open,\n"
    + "a.jpg,1 2 3,hall,,door,open,a zone that is none\n"
    + "b.jpg,,hall,,house,closed,no such class\n"
    + "\n"
    + 'b.jpg,,hall,,door,,"two\nlines"\n'
    + "b.jpg,,hall,,door,,"
)


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Any) -> Bundle:
    return read_bundle(tiny_bundle.path, None)


@pytest.fixture
def folder(tmp_path: Path, scene: Callable[..., Image]) -> Path:
    """A data set with rows that can be used and rows that cannot."""
    write_dataset(tmp_path, name="home", tasks=TASKS, rows=[])
    for name, brightness in (("a", 40.0), ("b", 217.0)):
        cv2.imwrite(str(tmp_path / f"{name}.jpg"), scene(brightness, height=120))
    (tmp_path / "labels.csv").write_bytes(ODD.partition("\r\n")[2].encode())
    return tmp_path


def desk_of(folder: Path, bundle: Bundle) -> DatasetDesk:
    desk = DatasetDesk(folder, bundle)
    while desk.look():
        pass
    return desk


def ask(desk: DatasetDesk, what: str, **more: Any) -> tuple[int, Any]:
    body = json.dumps(more.pop("body")).encode() if "body" in more else b""
    reply = desk.answer(Call(what=what, body=body, **more))
    return reply.status, json.loads(reply.body)


def test_a_label_changes_its_cell_and_no_other_byte(folder: Path) -> None:
    before = (folder / "labels.csv").read_bytes().decode()
    names = list(named_rows(read_dataset(folder).rows))
    write_labels(folder, "state", {names[0]: "open", names[2]: "closed"})
    after = (folder / "labels.csv").read_bytes().decode()
    assert after == before.replace(
        '"a.jpg",, hall ,,door,"","he said ""shut"", twice"',
        '"a.jpg",, hall ,,door,open,"he said ""shut"", twice"',
    ).replace('b.jpg,,hall,,door,,"two', 'b.jpg,,hall,,door,closed,"two')
    write_labels(folder, "state", {names[0]: None, names[2]: None})
    assert (folder / "labels.csv").read_bytes().decode() == before.replace('door,""', "door,")


def test_labels_go_to_where_a_link_leads(folder: Path) -> None:
    there = folder / "kept" / "all.csv"
    there.parent.mkdir()
    (folder / "labels.csv").rename(there)
    (folder / "labels.csv").symlink_to(there)
    names = list(named_rows(read_dataset(folder).rows))
    write_labels(folder, "state", {names[0]: "open"})
    assert (folder / "labels.csv").is_symlink()
    assert "hall ,,door,open" in there.read_text()


def test_a_task_without_a_column_gets_one(folder: Path) -> None:
    (folder / "labels.csv").write_text('image,kind\na.jpg,door\nb.jpg,"win\nbroken\nb.jpg,door\n')
    rows = read_dataset(folder).rows
    write_labels(folder, "state", {next(iter(named_rows(rows))): "open"})
    text = (folder / "labels.csv").read_text()
    assert text.startswith("image,kind,state\na.jpg,door,open\n")
    assert '"win\nbroken\nb.jpg,door\n' in text


def test_of_what_is_something_else_no_other_task_is_asked(folder: Path, bundle: Bundle) -> None:
    kinds = Task(name="kind", classes=("door", "window", "other"))
    tasks = TaskSet([kinds, TASKS["state"]])
    labels = ({"kind": "door"}, {"kind": "other"}, {"kind": "other", "state": "open"}, {})
    found = [Row(image="a.jpg", group=f"g{n}", labels=its) for n, its in enumerate(labels)]
    write_dataset(folder, name="home", tasks=tasks, rows=found)
    desk = desk_of(folder, bundle)
    _, states = ask(desk, "samples", query=(("task", "state"),))
    assert states["counts"] == {"samples": 3, "labelled": 1}
    shown = {one["place"] for cluster in states["clusters"] for one in cluster["samples"]}
    assert shown == {"g0", "g2", "g3"}
    _, kinds_found = ask(desk, "samples", query=(("task", "kind"),))
    assert kinds_found["counts"] == {"samples": 4, "labelled": 3}


def test_what_others_wrote_meanwhile_stays(folder: Path, bundle: Bundle) -> None:
    desk = desk_of(folder, bundle)
    name = next(iter(named_rows(read_dataset(folder).rows)))
    path = folder / "labels.csv"
    path.write_text(HEADER + "b.jpg,,new,,door,open,first\n" + "a.jpg,,hall,,door,,\n")
    status, said = ask(desk, "label", body={"task": "state", "labels": {name: "open"}})
    assert (status, said["before"]) == (200, {name: None})
    assert (
        path.read_text() == HEADER + "b.jpg,,new,,door,open,first\n" + "a.jpg,,hall,,door,open,\n"
    )


def test_pictures_that_are_pulled_meanwhile_are_shown_without_a_restart(
    folder: Path, bundle: Bundle
) -> None:
    desk = desk_of(folder, bundle)
    assert ask(desk, "samples")[1]["counts"]["samples"] == 4
    path = folder / "labels.csv"
    text = path.read_bytes()
    path.write_bytes(text + b"\nb.jpg,,new,,door,,\n")
    assert desk.look()
    assert not desk.look()
    found = ask(desk, "samples")[1]
    assert (found["counts"]["samples"], found["waiting"]) == (5, 0)
    assert "new" in found["places"]
    path.write_bytes(b"\xff")  # somebody is in the middle of it
    assert not desk.look()
    assert ask(desk, "samples")[1]["counts"]["samples"] == 5


@pytest.mark.parametrize("damage", [b"\xff\xfe\x00", b"", b"zone,state\n1,open\n"])
def test_a_damaged_file_is_said_and_not_written(
    folder: Path, bundle: Bundle, damage: bytes
) -> None:
    desk = desk_of(folder, bundle)
    name = next(iter(named_rows(read_dataset(folder).rows)))
    (folder / "labels.csv").write_bytes(damage)
    status, said = ask(desk, "label", body={"labels": {name: "open"}})
    assert status == 409
    assert "nothing was written" in said["error"]
    assert (folder / "labels.csv").read_bytes() == damage


def test_rows_that_cannot_be_used_are_set_aside_by_their_lines(
    folder: Path, bundle: Bundle
) -> None:
    _, found = ask(desk_of(folder, bundle), "samples")
    why = [one["why"] for one in found["aside"]]
    assert why[0].endswith("missing.jpg cannot be read: No such file or directory")
    assert any("labels.csv:4: a zone must be 8 numbers" in one for one in why)
    assert any("labels.csv:5" in one for one in why)
    assert found["counts"] == {"samples": 4, "labelled": 1}
    assert (found["task"], found["tasks"]) == ("state", ["kind", "state"])


def chunk_of_png(kind: bytes, data: bytes) -> bytes:
    crc = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


def test_a_picture_that_cannot_be_read_ends_nothing(folder: Path, bundle: Bundle) -> None:
    huge = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    chunks = {b"IHDR": huge, b"IDAT": zlib.compress(bytes(100)), b"IEND": b""}
    png = b"".join(chunk_of_png(kind, data) for kind, data in chunks.items())
    (folder / "a.jpg").write_bytes(b"\x89PNG\r\n\x1a\n" + png)
    desk = desk_of(folder, bundle)
    _, found = ask(desk, "samples")
    assert "cannot be decoded" in found["aside"][0]["why"]
    assert sum(len(cluster["samples"]) for cluster in found["clusters"]) == 2
    assert ask(desk, "sample", of=found["aside"][0]["id"])[0] == 422


def test_labels_of_a_group_teach_the_answers_to_its_other_pictures(
    tmp_path: Path, bundle: Bundle, scene: Callable[..., Image]
) -> None:
    # To the network all of these are open rather than closed.
    for index in range(8):
        picture = scene(150.0 if index % 2 else 217.0, seed=index, height=120)
        cv2.imwrite(str(tmp_path / f"{index}.jpg"), picture)
    rows = [Row(image=f"{index}.jpg", zone=Zone(DOOR), group="hall") for index in range(8)]
    write_dataset(tmp_path, name="home", tasks=TASKS, rows=rows)
    desk = desk_of(tmp_path, bundle)
    names = list(named_rows(read_dataset(tmp_path).rows))
    ask(desk, "label", body={"labels": {names[0]: "open"}})
    _, said = ask(desk, "label", body={"labels": {names[1]: "closed"}})
    (lesson,) = said["lessons"]
    assert (lesson["place"], lesson["is_used"], lesson["judged"]) == ("hall", True, 8)
    assert (lesson["agree_before"], lesson["agree_after"]) == (1, 2)
    assert {change["id"] for change in lesson["changes"]} == set(names[1::2])


def test_a_class_or_task_that_there_is_not_is_refused(folder: Path, bundle: Bundle) -> None:
    desk = desk_of(folder, bundle)
    name = next(iter(named_rows(read_dataset(folder).rows)))
    assert ask(desk, "label", body={"labels": {name: "ajar"}})[0] == 422
    assert ask(desk, "label", body={"labels": {name: "open"}, "task": "mood"})[0] == 422
    assert ask(desk, "picture", of="hall")[0] == 404


@settings(max_examples=25)
@given(
    notes=st.lists(st.text("ab\",'\n ;é", max_size=6), min_size=1, max_size=5),
    which=st.integers(0, 4),
    label=st.sampled_from(["open", "closed", None]),
)
def test_whatever_stands_in_other_cells_is_read_back_the_same(
    tmp_path_factory: pytest.TempPathFactory, notes: list[str], which: int, label: str | None
) -> None:
    folder = tmp_path_factory.mktemp("set")
    rows = [Row(image="a.jpg", extra={"note": note.strip()}) for note in notes]
    write_dataset(folder, name="home", tasks=TASKS, rows=rows)
    names = list(named_rows(read_dataset(folder).rows))
    chosen = names[which % len(names)]
    found = write_labels(folder, "state", {chosen: label})
    assert [row.extra["note"] for row in found.rows] == [note.strip() for note in notes]
    labels = {name: row.labels.get("state") for name, row in named_rows(found.rows).items()}
    assert labels == dict.fromkeys(names) | {chosen: label}


def test_transom_label_prints_a_link_that_opens_the_data_set(folder: Path) -> None:
    command = [sys.executable, "-m", "transom", "label", str(folder), "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        link = urlsplit(process.stdout.readline().strip())
        assert link.hostname == "127.0.0.1"
        connection = http.client.HTTPConnection("127.0.0.1", link.port or 0, timeout=20)
        for token, status in (("", 401), (link.fragment, 200)):
            connection.request("GET", "/api/status", headers={"Authorization": f"Bearer {token}"})
            response = connection.getresponse()
            assert response.status == status
            body = response.read()
        connection.close()
        process.send_signal(signal.SIGINT)
        assert json.loads(body)["name"] == "home"
        assert process.wait(20) in (0, 130)


def test_a_script_that_reads_the_link_reads_nothing_of_a_browser(
    folder: Path, tmp_path: Path
) -> None:
    browser = tmp_path / "browser"
    browser.write_text("#!/bin/sh\necho Opening in existing browser session.\n")
    browser.chmod(0o755)
    environment = os.environ | {"PATH": str(tmp_path), "BROWSER": f"{browser} %s"}
    command = [sys.executable, "-m", "transom", "label", str(folder), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        link = urlsplit(json.loads(process.stdout.readline())["link"])
        connection = http.client.HTTPConnection("127.0.0.1", link.port or 0, timeout=20)
        connection.request("GET", "/api/status")
        assert connection.getresponse().status == 401  # it serves: a browser was opened before
        connection.close()
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == ""


def test_ctrl_c_while_a_browser_is_opened_ends_a_look_in_an_orderly_way(
    folder: Path, tmp_path: Path
) -> None:
    """A thread that is left within the network's runtime aborts the process with signal 6."""
    zones = [Zone.rectangle(0.1, 0.1, 0.5, 0.5 + number / 4000) for number in range(1500)]
    write_dataset(
        folder, name="home", tasks=TASKS, rows=[Row(image="a.jpg", zone=z) for z in zones]
    )
    browser = tmp_path / "browser"
    browser.write_text("#!/bin/sh\n/bin/sleep 1\nkill -INT $PPID\n/bin/sleep 1\n")
    browser.chmod(0o755)
    environment = os.environ | {"PATH": str(tmp_path), "BROWSER": f"{browser} %s"}
    command = [sys.executable, "-m", "transom", "label", str(folder)]
    done = subprocess.run(
        command,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        # A shell's job in the background has it ignored, and all that it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert (done.returncode, done.stderr.strip()) == (130, "stopped")
