"""The page's API over a real server on loopback, as a script and as a browser would ask."""

import errno
import json
import logging
import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_runtime.sample import Sample
from edge_runtime.web.address import listen_at
from edge_runtime.web.call import Call, Reply, refusal
from edge_runtime.web.certificate import wait_for_another
from edge_runtime.web.order import HAS_NEW_CERTIFICATE
from edge_runtime.web.process import _end_with
from edge_runtime.web.server import PageServer
from tests.edge_runtime.broker import make_certificates
from tests.edge_runtime.cameras import wait_for
from tests.edge_runtime.conftest import PlayListCamera
from tests.edge_runtime.page import CONFIGURATION, Client, ServedDaemon
from tests.edge_runtime.test_daemon import AJAR, CLOSED, OPEN
from tests.faults.proof import Proof
from transom.atomic import write_file
from transom.bundle import Bundle, read_bundle
from transom.config import PageConfig, load_config
from transom.crop import Image
from transom.errors import PageError
from transom.geometry import Zone

SHOT = Path(__file__).parents[2] / "edge_runtime" / "web" / "site"
POLYGON = [[0.1, 0.1], [0.4, 0.1], [0.4, 0.9], [0.1, 0.9]]


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Any) -> Bundle:
    return read_bundle(tiny_bundle.path, None)


@pytest.fixture(scope="module")
def frames(scene: Callable[..., Image]) -> list[Image]:
    """A door that is shut, then open, then ajar, four seconds each."""
    return [
        scene(brightness, seed=seed, height=120)
        for brightness in (CLOSED, OPEN, AJAR)
        for seed in range(20)
    ]


@pytest.fixture
def serve(
    tmp_path: Path, bundle: Bundle, play_list_camera: Any, frames: list[Image]
) -> Iterator[Callable[..., ServedDaemon]]:
    served: list[ServedDaemon] = []

    def start(configuration: str = CONFIGURATION) -> ServedDaemon:
        served.append(
            ServedDaemon(tmp_path, bundle, play_list_camera, [*frames, *frames], configuration)
        )
        return served[-1]

    yield start
    for one in served:
        one.close()


@pytest.fixture
def served(serve: Callable[..., ServedDaemon]) -> ServedDaemon:
    return serve()


@pytest.fixture(scope="module")
def gate(
    tmp_path_factory: pytest.TempPathFactory, bundle: Bundle, frames: list[Image]
) -> Iterator[ServedDaemon]:
    """A page that its tests do not change."""
    one = ServedDaemon(tmp_path_factory.mktemp("gate"), bundle, PlayListCamera, frames)
    yield one
    one.close()


def sample(*embedding: float, picture: bytes | None = None, p: float = 0.5, **more: Any) -> Sample:
    probabilities = np.array([p, (1 - p) * 0.7, (1 - p) * 0.3], np.float32)
    _, jpeg = cv2.imencode(".jpg", np.full((96, 64, 3), int(255 * p), np.uint8))
    values: dict[str, Any] = {
        "zone": "door",
        "task": "state",
        "why": "unsure",
        "taken_at": "2026-11-28T12:00:00.000Z",
        "shape": Zone.whole(),
        "picture": jpeg.tobytes() if picture is None else picture,
        "model": "a" * 64,
        "embedding": np.array(embedding, np.float32),
        "classes": ("closed", "ajar", "open"),
        "probabilities": probabilities,
    }
    return Sample(**(values | more))


# ---------------------------------------------------------------- who may ask

PRIVATE = [
    ("GET", "/api/session"),
    ("DELETE", "/api/session"),
    ("GET", "/api/status"),
    ("GET", "/api/cameras/hall/picture"),
    ("PUT", "/api/cameras/hall/zones"),
    ("GET", "/api/zones/door/history"),
    ("POST", "/api/zones/door/correct"),
    ("GET", "/api/samples"),
    ("GET", "/api/samples/1/picture"),
    ("POST", "/api/labels"),
    ("POST", "/api/forget"),
    ("GET", "/api/"),
    ("GET", "/api/nothing"),
]


def test_nothing_is_answered_without_the_token(gate: ServedDaemon) -> None:
    stranger = Client(gate.server.port)
    for method, path in PRIVATE:
        found = stranger.ask(method, path, {} if method in ("PUT", "POST") else None)
        assert found.status == 401, path
        assert found.json == {"error": "a token is needed"}
    wrong = Client(gate.server.port, gate.token[:-1] + "~")
    assert wrong.get("/api/status").status == 401
    assert wrong.ask("POST", "/api/session", wrong.token.encode()).status == 401


def test_the_token_is_made_once_and_is_its_owners_only(gate: ServedDaemon) -> None:
    file = gate.config_file.parent / "page-token"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(gate.token) >= 32
    assert gate.client.get("/api/status").status == 200


def test_another_name_for_this_address_is_not_served(gate: ServedDaemon) -> None:
    foreign = ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[::1", "a@b")
    for host in (*foreign, "localhost/x", "localhost?", "localhost#", "a@localhost"):
        assert gate.client.get("/api/status", Host=host).status in (400, 421), host
        assert gate.client.get("/", Host=host).status in (400, 421), host
    for host in ("localhost", "127.0.0.1:1", "[::1]:8380", "LOCALHOST:80"):
        assert gate.client.get("/api/status", Host=host).status == 200, host


def browser(gate: ServedDaemon) -> tuple[Client, dict[str, str]]:
    """Sign in as a browser does; return who asks without a token, and what it sends."""
    client = Client(gate.server.port)
    own = {"Origin": f"http://127.0.0.1:{client.port}"}
    found = client.ask("POST", "/api/session", gate.token.encode(), own)
    assert found.status == 204
    said = found.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(said.split("; "))
    own["Cookie"] = said.partition(";")[0]
    own["X-CSRF-Token"] = client.ask("GET", "/api/session", headers=own).json["csrf"]
    return client, own


def test_a_browser_that_signed_in_may_do_all(gate: ServedDaemon) -> None:
    client, own = browser(gate)
    found = client.ask("POST", "/api/zones/door/correct", {"class": "open"}, own)
    assert found.status == 204
    assert client.ask("DELETE", "/api/session", headers=own).status == 204


@pytest.mark.parametrize(
    "change",
    [
        {"X-CSRF-Token": ""},
        {"X-CSRF-Token": "0" * 64},
        {"Origin": ""},
        {"Origin": "null"},
        {"Origin": "http://evil.example"},
        {"Origin": "https://127.0.0.1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_another_page_cannot_act_in_a_browsers_name(
    gate: ServedDaemon, change: dict[str, str]
) -> None:
    client, own = browser(gate)
    sent = own | change
    if not sent["Origin"]:
        del sent["Origin"]
    assert client.ask("POST", "/api/labels", {"labels": {"1": "open"}}, sent).status == 403


def test_a_link_from_elsewhere_opens_the_page_and_nothing_else_does(gate: ServedDaemon) -> None:
    elsewhere = {"Sec-Fetch-Site": "cross-site"}
    link = elsewhere | {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    stranger, (_, own) = Client(gate.server.port), browser(gate)
    assert stranger.ask("GET", "/", headers=link).status == 200
    assert stranger.ask("GET", "/api/status", headers=link).status == 401
    for mode, kind in (("navigate", "iframe"), ("no-cors", "image"), ("no-cors", "script")):
        sent = elsewhere | {"Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": kind}
        assert stranger.ask("GET", "/js/main.js", headers=sent).status == 403
    form = own | link | {"Origin": "http://evil.example"}
    body = {"labels": {"1": "open"}}
    assert stranger.ask("POST", "/api/labels", body, form).status == 403


def test_a_form_of_another_page_is_not_read(gate: ServedDaemon) -> None:
    client, own = browser(gate)
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        sent = own | {"Content-Type": kind}
        found = client.ask("POST", "/api/labels", b'{"labels": {"1": "open"}}', sent)
        assert found.status == 415


def test_a_cookie_that_was_tampered_with_or_is_old_counts_for_nothing(
    gate: ServedDaemon,
) -> None:
    client, own = browser(gate)
    name, _, value = own["Cookie"].partition("=")
    ends, rest = value.split(".", 1)
    for forged in (f"{int(ends) + 1}.{rest}", f"{value}0", value[:-1], "", "x", "1.2.3", "é"):
        sent = own | {"Cookie": f"{name}={forged}".encode().decode("latin-1")}
        assert client.ask("GET", "/api/status", headers=sent).status == 401, forged
    assert client.ask("GET", "/api/status", headers=own).status == 200


def test_no_other_file_is_served(gate: ServedDaemon, proof: Proof) -> None:
    paths = (
        "/../access.py",
        "/..%2faccess.py",
        "/%2e%2e/%2e%2e/web/access.py",
        "/js/../../access.py",
        "/js/..%5c..%5caccess.py",
        "//etc/passwd",
        "/page-token",
        "/__init__.py",
        "/js/",
        "/api/cameras/..%2f..%2fpage-token/picture",
        "/api/samples/..%2f..%2fpage-token/picture",
    )
    claim = proof(22, "paths that lead out of the page's files, to its token and its code",
                  fast=len(paths), full=len(paths), unit="paths")  # fmt: skip
    for path in paths:
        found = gate.client.get(path)
        assert found.status == 404, path
        assert gate.token.encode() not in found.body
    claim.found("404 each")


def test_every_file_of_the_page_forbids_what_it_does_not_need(gate: ServedDaemon) -> None:
    for path in ("/", "/api/status", "/nothing"):
        headers = gate.client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
    assert gate.client.get("/api/status").headers["cache-control"] == "no-store"


def test_the_page_has_no_script_nor_style_inside_its_html_and_asks_nobody_else() -> None:
    for file in SHOT.rglob("*"):
        if file.suffix in (".html", ".js", ".css"):
            text = file.read_text("utf-8")
            assert "http://" not in text.replace("http://www.w3.org/2000/svg", ""), file
            assert "https://" not in text, file
            assert "innerHTML" not in text, file
        if file.suffix == ".html":
            assert " style=" not in text
            assert "<style" not in text
            assert " onclick" not in text
            assert "<script>" not in text


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/labels", b"{", 422),
        ("/api/labels", {"labels": {}}, 422),
        ("/api/labels", {"labels": {"1": 5}}, 422),
        ("/api/labels", {"labels": {"1": "open"}, "more": 1}, 422),
        ("/api/forget", {"ids": "1"}, 422),
        ("/api/zones/door/correct", {"class": "half"}, 422),
        ("/api/zones/gate/correct", {"class": "open"}, 404),
        ("/api/labels", b" " * (1 << 20) + b"{}", 413),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_reason(
    gate: ServedDaemon, path: str, body: object, status: int
) -> None:
    found = gate.client.post(path, body)
    assert found.status == status
    assert found.json["error"]


# ---------------------------------------------------------------- what there is


def test_the_status_says_what_every_zone_shows_and_how_its_camera_is(
    served: ServedDaemon,
) -> None:
    served.play.turn(4)
    status = served.client.get("/api/status").json
    assert (status["kind"], status["name"]) == ("device", "pi")
    (camera,) = status["cameras"]
    assert (camera["name"], camera["online"], camera["problem"]) == ("hall", True, None)
    assert camera["size"] == [160, 120]
    (zone,) = camera["zones"]
    assert (zone["name"], zone["state"], zone["reason"]) == ("door", "closed", None)
    assert zone["classes"] == ["closed", "ajar", "open"]
    assert np.argmax(zone["now"]["filter"]) == 0
    assert sum(zone["now"]["judged"]) == pytest.approx(1.0, abs=1e-3)


def test_the_picture_is_the_newest_frame(served: ServedDaemon, frames: list[Image]) -> None:
    early = served.client.get("/api/cameras/hall/picture")
    assert early.status == 503
    assert "not given a picture yet" in early.json["error"]
    served.play.turn(6)
    found = served.client.get("/api/cameras/hall/picture")
    assert found.headers["content-type"] == "image/jpeg"
    shown = cv2.imdecode(np.frombuffer(found.body, np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(shown.astype(int) - frames[29]).mean() < 6
    assert served.client.get("/api/cameras/attic/picture").status == 404


def test_the_history_holds_what_was_said_and_when_the_state_changed(
    served: ServedDaemon,
) -> None:
    served.play.turn(8)
    history = served.client.get("/api/zones/door/history").json
    moments = history["moments"]
    ages = [moment["age_s"] for moment in moments]
    assert ages == sorted(ages, reverse=True)
    assert ages[-1] == pytest.approx(0.0, abs=0.01)
    states = [moment["state"] for moment in moments]
    assert list(dict.fromkeys(states)) == ["closed", "open"]
    assert len(moments) < 20  # not every frame
    assert [stretch["state"] for stretch in history["day"]][-2:] == ["closed", "open"]
    assert history["day"][0]["age_s"] >= ages[0]


# ---------------------------------------------------------------- zones


def test_a_drawn_zone_is_written_into_the_file_and_the_daemon_begins_anew(
    served: ServedDaemon,
) -> None:
    zones = [
        {"name": "door", "polygon": POLYGON},
        {"name": "window", "polygon": POLYGON, "device_class": "window"},
    ]
    found = served.client.ask("PUT", "/api/cameras/hall/zones", {"zones": zones})
    assert found.json["saved"] is True
    assert served.reloads == 1
    door, window = load_config(served.config_file).cameras[0].zones
    assert door.polygon == tuple(map(tuple, POLYGON))
    assert door.correct
    assert (window.name, window.device_class) == ("window", "window")
    assert "# the door" in served.config_file.read_text()
    assert "# the hall's camera" in served.config_file.read_text()


@pytest.mark.parametrize(
    ("zones", "what"),
    [
        ([], "length"),
        ([{"name": "door", "polygon": POLYGON[::-1]}], "clockwise"),
        ([{"name": "door", "polygon": [[0, 0], [2, 0], [2, 1], [0, 1]]}], "outside the frame"),
        ([{"name": "Front Door", "polygon": POLYGON}], "regex"),
        ([{"name": "status", "polygon": POLYGON}], "must not be named status"),
        ([{"name": "a", "polygon": POLYGON}, {"name": "a", "polygon": POLYGON}], "twice"),
        ([{"name": "door", "polygon": POLYGON, "snapshot": True}], "unknown field"),
    ],
)
def test_a_zone_that_transom_check_would_refuse_is_refused_and_nothing_is_written(
    served: ServedDaemon, zones: list[Any], what: str
) -> None:
    before = served.config_file.read_bytes()
    found = served.client.ask("PUT", "/api/cameras/hall/zones", {"zones": zones})
    assert found.status == 422
    assert what in found.json["error"]
    assert (served.config_file.read_bytes(), served.reloads) == (before, 0)


def test_zones_that_the_bundle_cannot_judge_are_refused_and_nothing_is_written(
    served: ServedDaemon,
) -> None:
    other = served.config_file.read_text() + 'task = "colour"\n'  # somebody else's, by hand
    served.config_file.write_text(other)
    zones = [{"name": "door", "polygon": POLYGON}]
    found = served.client.ask("PUT", "/api/cameras/hall/zones", {"zones": zones})
    assert found.status == 422
    assert "zone door: task 'colour' is not in bundle" in found.json["error"]
    assert (served.config_file.read_text(), served.reloads) == (other, 0)


def test_zones_go_to_where_a_link_leads(served: ServedDaemon, tmp_path: Path) -> None:
    link = tmp_path / "link.toml"
    link.symlink_to(served.config_file)
    call = Call(what="zones", of="hall", body=json.dumps(
        {"zones": [{"name": "door", "polygon": POLYGON}]}).encode())  # fmt: skip
    assert served.desk_of(link).answer(call).status == 200
    assert link.is_symlink()
    assert load_config(served.config_file).cameras[0].zones[0].polygon[0] == (0.1, 0.1)


def test_a_file_that_cannot_be_written_gives_the_lines_to_paste(
    serve: Callable[..., ServedDaemon],
) -> None:
    served = serve()
    # Nobody, not even root, makes a file beside this one whose name begins like its.
    file = served.config_file.rename(served.config_file.with_name("t" * 250 + ".toml"))
    body = json.dumps({"zones": [{"name": "door", "polygon": POLYGON}]}).encode()
    reply = served.desk_of(file).answer(Call(what="zones", of="hall", body=body))
    found = json.loads(reply.body)
    assert found["saved"] is False
    assert "cannot be written" in found["why"]
    assert "[[cameras.zones]]" in found["toml"]
    assert "0.4, 0.9" in found["toml"]
    assert served.reloads == 0


# ---------------------------------------------------------------- samples and labels


def ids(found: Any) -> list[list[str]]:
    return [[one["id"] for one in cluster["samples"]] for cluster in found["clusters"]]


def test_a_word_that_stands_twice_in_an_address_is_refused_whichever_would_do(
    served: ServedDaemon,
) -> None:
    for query in ("labelled=yes&labelled=no", "labelled=%C2%AB&labelled=", "task=x&task=x"):
        refused = served.client.get(f"/api/samples?{query}")
        assert refused.status == 422, query
        assert "stands there twice" in refused.json["error"]


def test_samples_come_in_clusters_the_most_useful_first(served: ServedDaemon) -> None:
    assert served.store is not None
    sure = served.store.add(sample(1.0, 0.0, 0.0, 0.0, p=0.99))
    doubtful = served.store.add(sample(0.0, 1.0, 0.0, 0.0, p=0.45))
    alike = served.store.add(sample(0.0, 1.0, 0.3, 0.0, p=0.5))
    known = served.store.add(sample(0.0, 0.0, 0.0, 1.0, p=0.4, label="open", labelled_at="t"))
    found = served.client.get("/api/samples").json
    assert ids(found) == [[str(doubtful), str(alike)], [str(sure)], [str(known)]]
    assert found["counts"] == {"samples": 4, "labelled": 1}
    assert found["clusters"][0]["says"] == "closed"


def test_a_damaged_picture_is_set_aside_and_can_be_deleted(served: ServedDaemon) -> None:
    assert served.store is not None
    good, bad = (
        served.store.add(sample(1.0, 0.0, 0.0, 0.0)),
        served.store.add(sample(0.0, 1.0, 0.0, 0.0, picture=b"no picture")),
    )
    found = served.client.get("/api/samples").json
    assert ids(found) == [[str(good)]]
    assert [(one["id"], one["why"]) for one in found["aside"]] == [
        (str(bad), "the picture is damaged")
    ]
    assert served.client.get(f"/api/samples/{bad}/picture").status == 422
    assert served.client.post("/api/forget", {"ids": [str(bad)]}).status == 204
    assert served.client.get("/api/samples").json["aside"] == []


def test_pictures_of_a_zone_that_was_renamed_are_aside_with_their_labels(
    served: ServedDaemon,
) -> None:
    assert served.store is not None
    for row, label in (((1.0, 0.0), "open"), ((0.0, 1.0), None)):
        served.store.add(sample(*row, 0.0, 0.0, zone="gate", label=label))
    found = served.client.get("/api/samples").json
    assert ids(found) == []
    assert sorted(one["why"] for one in found["aside"]) == [
        "there is no zone gate any more",
        "there is no zone gate any more; its label is open",
    ]


def test_labels_can_be_taken_back_by_what_they_answer(served: ServedDaemon) -> None:
    assert served.store is not None
    first = str(served.store.add(sample(1.0, 0.0, 0.0, 0.0)))
    second = str(served.store.add(sample(0.0, 1.0, 0.0, 0.0, label="ajar", labelled_at="t")))
    done = served.client.post(
        "/api/labels", {"labels": {first: "open", second: "open", "99": None}}
    )
    assert done.json["before"] == {first: None, second: "ajar"}
    assert done.json["missing"] == ["99"]
    assert {s.label for s in served.store.samples()} == {"open"}
    assert {s.labelled_by for s in served.store.samples()} == {"page"}
    served.client.post("/api/labels", {"labels": done.json["before"]})
    assert {s.label for s in served.store.samples()} == {None, "ajar"}


def test_labels_that_the_card_does_not_take_are_refused_and_not_passed_over(
    served: ServedDaemon, tmp_path: Path
) -> None:
    assert served.store is not None
    id_ = str(served.store.add(sample(1.0, 0.0, 0.0, 0.0)))
    with closing(sqlite3.connect(tmp_path / "samples.sqlite3", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # as a full card: nobody else may write
        for path, body in (("labels", {"labels": {id_: "open"}}), ("forget", {"ids": [id_]})):
            refused = served.client.post(f"/api/{path}", body)
            assert refused.status == 409
            assert f"picture {id_} cannot be changed" in refused.json["error"]
        other.execute("ROLLBACK")
    assert served.client.post("/api/labels", {"labels": {id_: "open"}}).json["missing"] == []
    assert served.client.post("/api/forget", {"ids": [id_, "99"]}).status == 204


def test_a_label_that_is_no_class_of_a_picture_labels_none(served: ServedDaemon) -> None:
    assert served.store is not None
    first, second = (
        str(served.store.add(sample(*row, 0.0, 0.0))) for row in ((1.0, 0.0), (0.0, 1.0))
    )
    wrong = {first: "open", second: "<script>alert(1)</script>"}
    found = served.client.post("/api/labels", {"labels": wrong})
    assert found.status == 422
    assert "must be one of closed, ajar, open" in found.json["error"]
    assert {s.label for s in served.store.samples()} == {None}


def test_a_label_says_what_it_changed_in_the_answers_to_others(served: ServedDaemon) -> None:
    served.play.turn(12)  # three states, whose pictures the daemon keeps
    found = served.client.get("/api/samples").json
    by_state = {c["says"]: [s["id"] for s in c["samples"]] for c in found["clusters"]}
    assert set(by_state) == {"closed", "ajar", "open"}
    # What looks ajar to the network is this door shut.
    labels = dict.fromkeys(by_state["ajar"][:1], "closed")
    first = served.client.post("/api/labels", {"labels": labels}).json["lessons"][0]
    assert (first["is_used"], first["reason"], first["changes"]) == (False, "few", [])
    labels = dict.fromkeys(by_state["open"][:1], "open")
    lesson = served.client.post("/api/labels", {"labels": labels}).json["lessons"][0]
    assert (lesson["place"], lesson["examples"]) == ("door", {"open": 1, "closed": 1})
    assert (lesson["is_used"], lesson["labelled"]) == (True, 2)
    assert (lesson["agree_before"], lesson["agree_after"]) == (1, 2)
    ajar = by_state["ajar"][0]
    assert [
        (c["before"]["says"], c["after"]["says"]) for c in lesson["changes"] if c["id"] == ajar
    ] == [("ajar", "closed")]
    after = served.client.get("/api/samples").json["clusters"]
    (said,) = (one for cluster in after for one in cluster["samples"] if one["id"] == ajar)
    assert (said["says"], said["bundle"]["says"]) == ("closed", "ajar")


def test_a_correction_goes_the_way_that_it_goes_by_mqtt(served: ServedDaemon) -> None:
    served.play.turn(3)
    assert served.store is not None
    assert served.client.post("/api/zones/door/correct", {"class": "ajar"}).status == 204
    served.play.turn(0.4)
    kept = [s for s in served.store.samples() if s.why == "taught"]
    twins = [s for s in served.store.samples() if s.label is not None]
    (labelled,) = kept or twins
    assert (labelled.label, labelled.labelled_by) == ("ajar", "page")
    assert served.client.post("/api/zones/door/correct", {"class": "forget-all"}).status == 204
    served.play.turn(0.4)
    assert {s.label for s in served.store.samples()} == {None}


def test_a_device_without_samples_shows_cameras_and_says_what_is_missing(
    serve: Callable[..., ServedDaemon],
) -> None:
    bare = CONFIGURATION.replace("correct = true", "")
    start, end = bare.index("[samples]"), bare.index("[[cameras]]")
    served = serve(bare[:start] + bare[end:])
    served.play.turn(1)
    assert served.client.get("/api/status").json["keeps_samples"] is False
    found = served.client.get("/api/samples")
    assert found.status == 409
    assert "[samples]" in found.json["error"]


# ---------------------------------------------------------------- its process


def test_the_process_that_speaks_http_has_no_numpy_and_is_replaced(
    served: ServedDaemon,
) -> None:
    assert served.client.get("/api/status").status == 200
    first = served.server.process_id
    assert first is not None
    maps = Path(f"/proc/{first}/maps").read_text()
    assert "numpy" not in maps
    assert "cv2" not in maps
    assert os.getpriority(os.PRIO_PROCESS, first) >= min(
        os.getpriority(os.PRIO_PROCESS, 0) + 10, 19
    )
    os.kill(first, signal.SIGKILL)
    assert served.client.get("/api/status").status == 200
    assert served.server.process_id != first


def test_a_process_for_which_there_is_no_memory_now_is_started_when_there_is(
    served: ServedDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert served.client.get("/api/status").status == 200
    first = served.server.process_id
    start, failures = subprocess.Popen, [OSError(errno.ENOMEM, "no memory")]

    def start_later(*arguments: Any, **more: Any) -> Any:
        if failures:
            raise failures.pop()
        return start(*arguments, **more)

    monkeypatch.setattr("edge_runtime.web.server.subprocess.Popen", start_later)
    monkeypatch.setattr("edge_runtime.web.server._AGAIN_S", 0.1)
    os.kill(first or 0, signal.SIGKILL)
    assert served.client.get("/api/status").status == 200
    assert failures == []


def test_a_certificate_that_is_replaced_is_shown_by_the_next_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = (make_certificates(tmp_path / name) for name in ("old", "new"))
    files = (str(old.server), str(old.server_key))
    steps: list[Callable[[], object]] = [
        lambda: None,
        lambda: old.server.write_bytes(new.server.read_bytes()),  # without its key yet
        lambda: old.server_key.unlink(),
        lambda: old.server_key.write_bytes(new.server_key.read_bytes()),
    ]
    wait_for_another(files, lambda _seconds: (steps.pop(0)(), None)[1])
    assert steps == []

    ended: list[int] = []
    monkeypatch.setattr("edge_runtime.web.process.os._exit", ended.append)
    monkeypatch.setattr(
        "edge_runtime.web.process.time.sleep",
        lambda _seconds: old.server.write_bytes(new.server.read_bytes()),
    )
    _end_with(files)
    assert ended == [HAS_NEW_CERTIFICATE]


class Refuser:
    """A desk that knows nothing."""

    def answer(self, call: Call) -> Reply:
        return refusal(404, call.of)


@contextmanager
def serving_nothing(server: PageServer) -> Iterator[None]:
    server.start(Refuser())
    try:
        yield
    finally:
        server.close()


def test_a_certificate_that_is_replaced_is_no_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start = subprocess.Popen
    ends = [f"import sys; sys.stdin.readline(); sys.exit({HAS_NEW_CERTIFICATE})"]

    def end_first(command: list[str], **more: Any) -> Any:
        return start([sys.executable, "-c", ends.pop()] if ends else command, **more)

    monkeypatch.setattr("edge_runtime.web.server.subprocess.Popen", end_first)
    server = PageServer(PageConfig(port=0), tmp_path)
    with caplog.at_level(logging.INFO), serving_nothing(server):
        assert Client(server.port).get("/").status == 200
    assert "page's certificate was replaced and the new one is shown" in caplog.text
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


def test_an_address_that_comes_after_the_daemons_start_is_listened_at_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("edge_runtime.web.server._AGAIN_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as another:
        port = another.getsockname()[1]
        server = PageServer(PageConfig(port=port), tmp_path)
        with caplog.at_level(logging.INFO), serving_nothing(server):
            wait_for(lambda: "page is not served, and is tried again" in caplog.text, 10.0)
            assert "page is served" not in caplog.text
            assert server.process_id is None
            another.close()
            wait_for(
                lambda: f"page is served address=http://127.0.0.1:{port}/" in caplog.text, 10.0
            )
            assert Client(port).get("/").status == 200
    assert caplog.text.count("cannot listen at 127.0.0.1") == 1


def test_a_name_that_takes_long_to_be_looked_up_keeps_nobody_from_stopping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, found = threading.Event(), threading.Event()

    def look_up(config: PageConfig) -> socket.socket:
        if not looked.is_set():
            looked.set()
            raise PageError("page cannot listen: no address yet")  # the first, before it is started
        found.wait(20.0)
        return listen_at(config)

    monkeypatch.setattr("edge_runtime.web.server.listen_at", look_up)
    server = PageServer(PageConfig(port=0), tmp_path)
    server.start(Refuser())
    thread = server._thread
    server.stop()
    assert thread is not None
    assert thread.is_alive()
    found.set()
    thread.join(10.0)
    assert not thread.is_alive()
    assert server.process_id is None
    server.close()


def test_a_certificate_without_its_key_is_told_once_and_shown_when_they_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("edge_runtime.web.server._AGAIN_S", 0.05)
    files = make_certificates(tmp_path / "right")
    key = files.server_key.read_bytes()
    files.server_key.write_bytes(files.client_key.read_bytes())
    config = PageConfig(port=0, certificate_file="right/server.pem", key_file="right/key.pem")
    server = PageServer(config, tmp_path, (str(files.server), str(files.server_key)))
    with caplog.at_level(logging.INFO), serving_nothing(server):
        wait_for(lambda: "must be a certificate and its unencrypted key" in caplog.text, 10.0)
        assert str(files.server_key) in caplog.text
        assert server.process_id is None
        write_file(files.server_key, key)  # whole: half of it would be told as another mistake
        wait_for(lambda: "page is served address=https://" in caplog.text, 10.0)
        wait_for(lambda: server.process_id is not None, 10.0)
    assert caplog.text.count("page is not served") == 1


def test_stopping_leaves_no_process_and_nothing_listening(served: ServedDaemon) -> None:
    assert served.client.get("/api/status").status == 200
    process = served.server.process_id
    served.server.close()
    assert not Path(f"/proc/{process}").exists()
    with pytest.raises(ConnectionRefusedError):
        served.client.get("/api/status")
