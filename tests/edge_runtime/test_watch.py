import io
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge_runtime.board import Board
from edge_runtime.link import Received
from edge_runtime.watch import as_alert
from tests.edge_runtime.broker import Broker, make_certificates, wait_until
from tests.edge_runtime.terminal import Terminal
from transom.messages import CameraProblem, ZoneEvent, ZoneState, encode
from transom.terminal import LiveTable

AT = "2026-11-23T12:00:00.000Z"


@contextmanager
def watching(broker: Broker, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """`transom watch`, subscribed when the block begins."""
    command = [sys.executable, "-m", "transom", "watch", "--host", "localhost", "--port"]
    process = subprocess.Popen(
        [*command, str(broker.port), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: "Sending SUBACK to transom-watch" in broker.log(), 20.0)
        yield process
    finally:
        process.kill()
        process.communicate()


def say(broker: Broker, topic: str, payload: bytes, *options: str) -> None:
    command = ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(broker.port), "-q", "1", *options]
    subprocess.run([*command, "-t", topic, "-s"], input=payload, check=True)


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command: Sequence[str] = [sys.executable, "-m", "transom", "watch", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def event(**more: object) -> bytes:
    values = {
        "event_id": "1",
        "event_type": "opened",
        "state": "open",
        "previous": "closed",
        "at": AT,
        "time_synced": True,
        "boot_id": "b",
        "monotonic_ns": 1,
        "confidence": 0.991,
        "latency_ms": 80.0,
    }
    return encode(ZoneEvent(**(values | more)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("topic", "payload", "retain", "expected"),
    [
        ("transom/pi/door/event", event(), False, f"{AT}  pi  door opened (99% sure)"),
        (
            "transom/pi/door/event",
            event(state="ajar"),
            False,
            f"{AT}  pi  door opened (ajar, 99% sure)",
        ),
        (
            "a/b/pi/door/event",
            event(event_type="left_open", open_s=754.0),
            False,
            f"{AT}  pi  door left open for 12 min",
        ),
        (
            "transom/pi/door/event",
            event(event_type="unknown", reason="covered"),
            False,
            f"{AT}  pi  door unknown (covered)",
        ),
        ("transom/pi/status", b"offline", True, f"{AT}  pi  offline"),
        ("transom/pi/camera/hall/status", b"online", True, None),
        (
            "transom/pi/camera/hall/problem",
            encode(CameraProblem(problem=True, reason="frozen")),
            True,
            f"{AT}  pi  camera hall: frozen",
        ),
        (
            "transom/pi/camera/hall/problem",
            encode(CameraProblem(problem=False)),
            False,
            f"{AT}  pi  camera hall: well again",
        ),
        (
            "transom/pi/camera/hall/problem",
            encode(CameraProblem(problem=False)),
            True,
            None,
        ),
        ("transom/pi/camera/hall/problem", b"", False, None),
        ("transom/pi/status", b"", False, None),
        ("transom/pi/door/state", b"{}", True, None),
        ("event", b"", False, f"{AT}  cannot be read: event: Input data was truncated"),
    ],
)
def test_shows_people_what_matters_and_nothing_else(
    topic: str, payload: bytes, retain: bool, expected: str | None
) -> None:
    assert as_alert(Received(topic, payload, retain), AT) == expected


def test_prints_json_lines_and_ends_after_the_count(tmp_path: Path) -> None:
    with (
        Broker(tmp_path / "broker") as broker,
        watching(broker, "--json", "--count", "2") as process,
    ):
        say(broker, "elsewhere", b"not for us")
        say(broker, "transom/pi/door/event", event())
        say(broker, "transom/pi/status", b"online")
        output, _ = process.communicate(timeout=20)
    lines = [json.loads(line) for line in output.splitlines()]
    assert process.returncode == 0
    assert [line["topic"] for line in lines] == ["transom/pi/door/event", "transom/pi/status"]
    assert lines[0]["payload"]["event_type"] == "opened"
    assert lines[1]["payload"] == "online"
    assert all(line["at"].endswith("Z") for line in lines)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ends_cleanly_when_told_to(tmp_path: Path, number: signal.Signals) -> None:
    with Broker(tmp_path / "broker") as broker, watching(broker) as process:
        process.send_signal(number)
        output, errors = process.communicate(timeout=10)
    assert (process.returncode, output, errors) == (0, "", "")


def test_ends_cleanly_when_its_reader_has_seen_enough(tmp_path: Path) -> None:
    with Broker(tmp_path / "broker") as broker, watching(broker, "--json") as process:
        assert process.stdout is not None
        process.stdout.close()
        say(broker, "transom/pi/status", b"online")
        assert process.wait(10) == 0


@pytest.mark.parametrize(("count", "code"), [((), 0), (("--count", "1"), 1)])
def test_ends_when_its_seconds_are_over(tmp_path: Path, count: Sequence[str], code: int) -> None:
    with Broker(tmp_path / "broker") as broker:
        done = run("--host", "localhost", "--port", str(broker.port), "--seconds", "0.3", *count)
    assert (done.returncode, done.stdout) == (code, "")


def test_goes_on_after_the_broker_was_away(tmp_path: Path) -> None:
    with (
        Broker(tmp_path / "broker") as broker,
        watching(broker, "--json", "--count", "1") as process,
    ):
        before = broker.log().count("Sending SUBACK")
        broker.kill()
        broker.start()
        wait_until(lambda: broker.log().count("Sending SUBACK") > before, 20.0)
        say(broker, "transom/pi/status", b"online")
        output, errors = process.communicate(timeout=20)
    assert json.loads(output)["payload"] == "online"
    assert "trying again" in errors


def test_says_why_a_broker_cannot_be_reached(tmp_path: Path) -> None:
    port = str(Broker(tmp_path / "broker").port)
    done = run("--host", "localhost", "--port", port)
    assert done.returncode == 1
    assert "cannot be reached" in done.stderr


def test_says_what_to_do_about_wrong_credentials_and_never_shows_them(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("canary-secret\n")
    with Broker(tmp_path / "broker", users={"me": "right"}) as broker:
        options = ["--username", "me", "--password-file", str(tmp_path / "password")]
        done = run("--host", "localhost", "--port", str(broker.port), *options)
    assert done.returncode == 1
    assert "Not authorized" in done.stderr
    assert "canary-secret" not in done.stdout + done.stderr


def test_takes_broker_and_credentials_from_a_configuration(tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    (tmp_path / "secret").write_text("right\n")
    with Broker(tmp_path / "broker", certificates=made, users={"me": "right"}) as broker:
        (tmp_path / "transom.toml").write_text(
            f"""
            device = "pi"
            [mqtt]
            host = "localhost"
            port = {broker.port}
            tls = true
            ca_file = "authority.pem"
            username = "me"
            password_file = "secret"
            [[cameras]]
            name = "hall"
            source = "usb:0"
            [[cameras.zones]]
            name = "door"
            polygon = [[0.1, 0.1], [0.4, 0.1], [0.4, 0.9], [0.1, 0.9]]
            """
        )
        done = run("--config", str(tmp_path / "transom.toml"), "--seconds", "0.5")
        assert "Sending SUBACK to transom-watch" in broker.log()
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "arguments", [[], ["--config", "x.toml", "--host", "y"], ["--host", "a b"]]
)
def test_wrong_usage_is_2(arguments: Sequence[str]) -> None:
    assert run(*arguments).returncode == 2


def zone_state(state: str, **more: object) -> bytes:
    values = {"state": state, "confidence": 0.99, "since": AT, "model": "tiny", "sequence": 1}
    return encode(ZoneState(**(values | more)))  # type: ignore[arg-type]


def test_a_terminal_shows_every_zone_as_it_is_now_in_place(tmp_path: Path) -> None:
    with Broker(tmp_path / "broker") as broker:
        follow_a_door(broker)


def follow_a_door(broker: Broker) -> None:
    say(broker, "transom/pi/door/state", zone_state("closed"), "-r")
    with Terminal("watch", "--host", "localhost", "--port", str(broker.port)) as terminal:
        terminal.wait_for("pi      door  closed  99%   2026-11-23 12:00:00")
        say(broker, "transom/pi/door/state", zone_state("open"), "-r")
        terminal.wait_for("pi      door  open   99%   2026-11-23 12:00:00")
        say(broker, "transom/pi/door/event", event())
        terminal.wait_for("pi  door opened (99% sure)")
        say(broker, "transom/pi/status", b"offline", "-r")
        terminal.wait_for("device is offline")
        terminal.press_ctrl_c()
        assert terminal.ended() == 0
    assert "\x1b[3A\r" in terminal.shown  # over the three lines before


def test_a_terminal_is_safe_from_what_strangers_publish() -> None:
    board = Board("transom")
    for topic, payload in (
        ("transom/pi/do\x1b[2Jor/state", zone_state("o\x1b[5mpen")),
        ("transom/pi/door/state", b"{"),
        ("transom/pi/camera/ha\x07ll/problem", encode(CameraProblem(problem=True, reason="dark"))),
        ("transom", b"1"),
    ):
        board.take(Received(topic, payload, retain=True), None)

    stream = io.StringIO()
    LiveTable(stream).show(board.lines())
    assert set(re.findall(r"\x1b\[.", stream.getvalue())) == {"\x1b[K", "\x1b[J"}
    assert "\x07" not in stream.getvalue()
    assert "do\\x1b[2Jor  o\\x1b[5mpen" in stream.getvalue()


def test_a_board_forgets_a_zone_that_is_gone_and_is_bounded() -> None:
    board = Board("a/b")
    for number in range(1000):
        topic = f"a/b/pi/z{number}/state"
        board.take(Received(topic, zone_state("open"), retain=True), None)
    assert len(board.lines()) == 502  # 500 zones, the head and an empty line
    board.take(Received("a/b/pi/z0/state", b"", retain=False), None)
    assert not any(" z0 " in line for line in board.lines())
