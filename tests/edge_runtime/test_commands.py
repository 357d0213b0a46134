"""The device's commands as a person types them."""

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest

from edge_runtime import commands
from edge_runtime.log import start_logging
from tests.edge_runtime.cameras import encoded
from transom.cli import main

CONFIG = """
device = "hall-pi"
state_directory = "{state}"
[mqtt]
host = "broker.lan"
username = "transom"
password_file = "mqtt-password"
[models]
trusted_keys = "{keys}"
bundle = "{bundle}"
[[cameras]]
name = "hall"
source = "rtsp://viewer@cam.lan/stream2?token=secret-token"
[[cameras.zones]]
name = "front_door"
polygon = [[0.36, 0.17], [0.64, 0.17], [0.64, 0.93], [0.36, 0.93]]
left_open_after_s = 600
"""


@pytest.fixture
def config_file(tmp_path: Path, tiny_bundle: Any) -> Path:
    path = tmp_path / "transom.toml"
    path.write_text(
        CONFIG.format(state=tmp_path / "state", keys=tiny_bundle.keys, bundle=tiny_bundle.path)
    )
    return path


@pytest.fixture
def clip(tmp_path: Path, scene: Callable[..., Any]) -> Path:
    folder = tmp_path / "clip"
    folder.mkdir()
    for number in range(40):
        picture = scene(40.0 if number < 20 else 217.0, seed=number % 20, height=120)
        cv2.imwrite(str(folder / f"{number:04d}.png"), picture)
    return folder


def test_check_prints_what_it_understood(
    config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(config_file)]) == 0
    out = capsys.readouterr().out
    assert "broker.lan:8883 as transom, TLS" in out
    assert "front_door: door, 21.3% of the frame, left_open after 600 s, then every 300 s" in out
    assert "0.1 false changes per zone and day" in out
    assert "rtsp://cam.lan/stream2" in out
    assert "secret-token" not in out


def test_check_says_what_is_kept_and_learnt(
    config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(config_file)]) == 0
    assert "learns" not in (out := capsys.readouterr().out)
    assert "samples " not in out
    teach = 'correct = true\ncontact = { topic = "zigbee2mqtt/door" }\n[samples]\nmax_count = 20\n'
    config_file.write_text(config_file.read_text().rstrip() + "\n" + teach)
    assert main(["check", str(config_file)]) == 0
    out = capsys.readouterr().out
    assert "samples    at most 20 pictures, 67 MB, in " in out
    assert ", learns from corrections, learns from zigbee2mqtt/door" in out


def test_check_says_after_how_many_rare_pictures_a_state_is_unknown(
    config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rare = config_file.read_text().replace('name = "hall"', 'name = "hall"\nfps = 0.2')
    config_file.write_text(rare)
    assert main(["check", str(config_file)]) == 0
    assert "at the earliest; unknown after 15 s" in capsys.readouterr().out


def test_check_says_that_a_certainty_is_out_of_reach(
    config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = "\n[decision]\nknown_above = 0.99\nsettle_s = 1.0\n"
    config_file.write_text(config_file.read_text().rstrip() + table)
    assert main(["check", str(config_file)]) == 0
    out = capsys.readouterr().out
    assert "no change would ever be told" in out
    assert "known_above is 0.99: lower that" in out


def test_check_prints_every_mistake_and_ends_with_78(
    config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = config_file.read_text().replace('"broker.lan"', "7").replace("left_open_after_s", "left")
    config_file.write_text(text)
    assert main(["check", str(config_file)]) == 78
    output = capsys.readouterr()
    assert "$.mqtt.host" in output.err
    assert "$.cameras[0].zones[0].left" in output.err
    assert output.out == ""


def test_run_refuses_a_configuration_with_a_mistake(
    config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config_file.write_text("device = 3")
    assert main(["run", "--config", str(config_file)]) == 78
    assert "$.device" in capsys.readouterr().err


def test_run_refuses_a_secret_that_is_missing(
    config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--config", str(config_file)]) == 78
    assert "mqtt-password" in capsys.readouterr().err


@pytest.fixture(autouse=True)
def logging_as_before() -> Any:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers, root.level = handlers, level


def test_replay_prints_json_lines_and_a_summary(
    config_file: Path, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", "--config", str(config_file), "--clip", f"hall={clip}", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all(line.keys() == {"t", "topic", "payload", "retain", "qos"} for line in lines[:-1])
    assert {"frames", "wall_s", "cpu_s"} <= lines[-1].keys()
    assert lines[-1]["frames"] == 40
    events = [line["payload"] for line in lines[:-1] if line["topic"].endswith("/event")]
    assert [event["event_type"] for event in events] == ["known", "opened"]


def test_replay_prints_events_for_people(
    config_file: Path, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", "--config", str(config_file), "--clip", f"hall={clip}"]) == 0
    known, opened, summary = capsys.readouterr().out.splitlines()
    assert "front_door" in known
    assert "closed -> open" in opened
    assert summary.startswith("40 frames of 7.8 s")


def test_replay_takes_a_bundle_of_the_workstations_own(
    config_file: Path, clip: Path, tiny_bundle: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    text = config_file.read_text().replace(str(tiny_bundle.keys), "/nowhere")
    config_file.write_text(text)
    arguments = ["replay", "--config", str(config_file), "--clip", f"hall={clip}"]
    assert main(arguments) == 1
    assert main([*arguments, "--bundle", str(tiny_bundle.path)]) == 0
    assert "opened" in capsys.readouterr().out


def test_replay_refuses_a_clip_that_would_be_decoded_into_nonsense(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    how = "-flags +ildct+ilme -c:v libx264 -preset ultrafast"
    clip = encoded(tmp_path / "interlaced.ts", how)
    assert main(["replay", "--config", str(config_file), "--clip", f"hall={clip}"]) == 1
    told = capsys.readouterr()
    assert f"{clip}: its picture is interlaced, which cannot be decoded here" in told.err
    assert "-vf yadif" in told.err
    assert told.out == ""


@pytest.mark.parametrize("clips", [[], ["--clip", "attic=x.mp4"], ["--clip", "hall"]])
def test_replay_wants_a_clip_of_a_known_camera(config_file: Path, clips: list[str]) -> None:
    assert main(["replay", "--config", str(config_file), *clips]) == 2


@pytest.mark.parametrize("command", ["run", "check", "replay"])
def test_help_shows_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    out = capsys.readouterr().out
    assert re.search(rf"Example:\n +transom {command} ", out)


def test_the_other_commands_are_found_by_name() -> None:
    assert commands.watch_command.name == "watch"
    assert commands.doctor_command.name == "doctor"
    with pytest.raises(AttributeError, match="dance_command"):
        commands.dance_command  # noqa: B018


def logged(environment: dict[str, str]) -> list[str]:
    code = (
        "import logging; from edge_runtime.log import start_logging; start_logging();"
        "log = logging.getLogger('edge_runtime.test');"
        "log.debug('quiet'); log.info('hello a=%d', 1); log.warning('two', stack_info=True)"
    )
    environment = {k: v for k, v in os.environ.items() if k != "JOURNAL_STREAM"} | environment
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment
    )
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_logs_to_the_journal_with_levels_and_without_times() -> None:
    lines = logged({"JOURNAL_STREAM": "8:1"})
    assert lines[:2] == ["<6>edge_runtime.test: hello a=1", "<4>edge_runtime.test: two"]
    assert len(lines) > 2
    assert all(line.startswith("<4>") for line in lines[2:])


def test_logs_to_a_terminal_with_times() -> None:
    first = logged({})[0]
    assert first.endswith("INFO    edge_runtime.test: hello a=1")
    assert first[:4].isdecimal()


@pytest.mark.parametrize("stream", [None, "8:1"], ids=["terminal", "journal"])
def test_what_somebody_sends_cannot_look_like_a_line_of_the_log(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, stream: str | None
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    if stream is not None:
        monkeypatch.setenv("JOURNAL_STREAM", stream)
    start_logging()
    logging.getLogger("x").warning("reason=%s", "no\n<0>class\x1b[2J")
    assert capsys.readouterr().err.endswith("x: reason=no\\n<0>class\\x1b[2J\n")
