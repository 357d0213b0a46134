"""`transom deploy`, `rollback` and `fleet` against real devices at a real broker."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paho.mqtt import publish

from edge_runtime.clock import Clock, iso
from fleet.rollout import Plan, Rollout
from tests.edge_runtime.broker import Broker, wait_until
from tests.edge_runtime.terminal import Terminal
from tests.edge_runtime.updating import Offer, TinyBundle, rewrite, wait_for_step, wish_for
from tests.fleet.conftest import Household
from transom.bundle import read_bundle
from transom.cli import main
from transom.messages import Message, encode
from transom.updates import DepotEntry, entry_topic


@pytest.fixture
def say(broker: Broker, capsys: pytest.CaptureFixture[str]) -> Any:
    """Type a command of the fleet; return its exit code and its JSON."""

    def say(command: str, *arguments: object) -> tuple[int, Any]:
        where = ["--host", "localhost", "--port", str(broker.port), "--no-tls", "--json"]
        code = main([command, *map(str, arguments), *where])
        output = capsys.readouterr()
        assert output.err == "", output.err
        return code, json.loads(output.out)

    return say


def retained(broker: Broker, topic: str) -> list[str]:
    """Return the topics that the broker retains something under."""
    with broker.subscriber(topic) as subscriber, broker.subscriber() as other:
        del other  # its SUBACK came after everything retained for the first
        return [copy.topic for copy in subscriber.copies() if copy.retain]


def online(say: Any, count: int) -> bool:
    members = say("fleet")[1]
    return sum(member["online"] and member["installed"] is not None for member in members) == count


def test_a_bundle_reaches_every_device_and_leaves_nothing_at_the_broker(
    tmp_path: Path, broker: Broker, household: Household, tiny_bundle: TinyBundle, say: Any
) -> None:
    household.add("attic-pi", "hall-pi", "yard-pi")
    wait_until(lambda: online(say, 3), 20.0)
    new = rewrite(tiny_bundle, tmp_path / "new.bundle", sequence=2, padding=200_000)
    code, told = say("deploy", new, "--all", "--stages", "50,100")

    assert code == 0
    assert told["counts"] == {"done": 3}
    assert sorted(device["wave"] for device in told["devices"].values()) == [0, 1, 2]
    assert household.serves() == {"attic-pi": 2, "hall-pi": 2, "yard-pi": 2}
    assert retained(broker, "transom/depot/#") == []

    members = say("fleet")[1]
    assert {(m["device"], m["installed"], m["online"]) for m in members} == {
        ("attic-pi", "2", True),
        ("hall-pi", "2", True),
        ("yard-pi", "2", True),
    }


def test_a_bundle_that_fails_stops_at_the_canary_and_everybody_keeps_what_works(
    tmp_path: Path, broker: Broker, household: Household, tiny_bundle: TinyBundle, say: Any
) -> None:
    household.add("attic-pi", "hall-pi", "yard-pi")
    wait_until(lambda: online(say, 3), 20.0)
    goldens = read_bundle(tiny_bundle.path, None).goldens
    wrong = {name: value + np.float32(1.0) for name, value in goldens.logits.items()}
    parts = {"goldens": replace(goldens, logits=wrong)}
    new = rewrite(tiny_bundle, tmp_path / "new.bundle", sequence=2, parts=parts)
    code, told = say("deploy", new, "--all")

    assert code == 1
    assert told["aborted"] is True
    assert told["counts"] == {"failed": 1, "planned": 2}
    (failed,) = [d for d in told["devices"].values() if d["standing"] == "failed"]
    assert "golden" in failed["reason"]
    assert household.serves() == {"attic-pi": 1, "hall-pi": 1, "yard-pi": 1}
    assert retained(broker, "transom/depot/#") == []


def test_the_same_command_goes_on_where_a_workstation_went_away(
    tmp_path: Path, household: Household, tiny_bundle: TinyBundle, say: Any
) -> None:
    household.add("attic-pi", "hall-pi")
    wait_until(lambda: online(say, 2), 20.0)
    new = rewrite(tiny_bundle, tmp_path / "new.bundle", sequence=2)
    assert say("deploy", new, "hall-pi")[0] == 0  # as far as the first workstation came
    code, told = say("deploy", new, "--all")
    assert code == 0
    assert told["counts"] == {"done": 2}
    assert household.serves() == {"attic-pi": 2, "hall-pi": 2}


def test_a_workstation_that_is_killed_in_the_middle_leaves_nothing_to_do_twice(
    tmp_path: Path, broker: Broker, household: Household, tiny_bundle: TinyBundle, say: Any
) -> None:
    names = ("attic-pi", "hall-pi", "yard-pi")
    household.add(*names, shadow_decisions=1000, shadow_s=3.0)  # the canary outlasts the kill
    wait_until(lambda: online(say, 3), 20.0)
    new = rewrite(tiny_bundle, tmp_path / "new.bundle", sequence=2, padding=200_000)
    command = [sys.executable, "-m", "transom", "deploy", str(new), "--all", "--json", "--no-tls"]
    command += ["--host", "localhost", "--port", str(broker.port)]
    with broker.subscriber("transom/+/model/report") as heard:

        def who(step: str) -> list[str]:
            told = [(copy.topic.split("/")[1], json.loads(copy.payload)) for copy in heard.copies()]
            return [device for device, report in told if report["step"] == step]

        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        canary = wait_until(lambda: who("tried"), 30.0)[0]
        process.kill()
        process.wait()
        assert who("accepted") == [canary]
        code, told = say("deploy", new, "--all")
        assert sorted(who("verified")) == sorted(names)  # nobody fetched it twice
    assert code == 0
    assert told["counts"] == {"done": 3}
    assert told["devices"][canary]["wave"] == 0
    assert household.serves() == dict.fromkeys(names, 2)
    assert retained(broker, "transom/depot/#") == []


def test_a_device_that_refuses_in_a_later_wave_ends_it_and_everybody_serves_what_works(
    tmp_path: Path, household: Household, tiny_bundle: TinyBundle, say: Any
) -> None:
    new = rewrite(tiny_bundle, tmp_path / "new.bundle", sequence=2, padding=200_000)
    names = [f"pi-{number}" for number in range(5)]
    plan = Plan(canaries=1, stages=(40.0, 100.0))
    courses = Rollout(dict.fromkeys(names, True), read_bundle(new, None).digest, plan).courses
    canary, second, *others = sorted(names, key=lambda name: courses[name].wave)
    household.add(canary, *others)
    household.add(second, max_bytes=100_000)
    wait_until(lambda: online(say, 5), 30.0)
    code, told = say("deploy", new, "--all", "--canaries", "1", "--stages", "40,100")

    assert code == 1
    assert told["aborted"] is True
    assert told["counts"] == {"done": 1, "failed": 1, "planned": 3}
    assert "100,000 is the most" in told["devices"][second]["reason"]
    assert household.serves() == {canary: 2, second: 1, **dict.fromkeys(others, 1)}


def test_a_broker_that_restarts_in_the_middle_does_not_end_a_rollout(
    tmp_path: Path, broker: Broker, household: Household, tiny_bundle: TinyBundle, say: Any
) -> None:
    household.add("hall-pi", shadow_decisions=1000, shadow_s=3.0)  # the shadow outlasts the restart
    wait_until(lambda: online(say, 1), 20.0)
    new = rewrite(tiny_bundle, tmp_path / "new.bundle", sequence=2)
    command = [sys.executable, "-m", "transom", "deploy", str(new), "hall-pi", "--json", "--no-tls"]
    command += ["--host", "localhost", "--port", str(broker.port)]
    with broker.subscriber("transom/hall-pi/#") as heard:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        wait_for_step(heard, "tried")
        broker.stop()
    broker.start()
    told, _ = process.communicate(timeout=60.0)
    assert process.returncode == 0
    assert json.loads(told)["counts"] == {"done": 1}
    assert household.serves() == {"hall-pi": 2}


def test_a_device_without_consent_does_not_answer_and_the_message_says_so(
    tmp_path: Path, broker: Broker, tiny_bundle: TinyBundle, say: Any
) -> None:
    publish.single(
        "transom/mute-pi/status", b"online", 1, True, hostname="localhost", port=broker.port
    )
    code, told = say("deploy", tiny_bundle.path, "mute-pi", "--answer-s", "0.5")
    assert code == 1
    assert "is [updates] in its configuration?" in told["devices"]["mute-pi"]["reason"]
    assert retained(broker, "transom/mute-pi/model/#") == []


def test_a_device_that_is_offline_finds_the_bundle_when_it_is_back(
    tmp_path: Path, broker: Broker, household: Household, tiny_bundle: TinyBundle, say: Any
) -> None:
    publish.single(
        "transom/late-pi/status", b"offline", 1, True, hostname="localhost", port=broker.port
    )
    new = rewrite(tiny_bundle, tmp_path / "new.bundle", sequence=2)
    code, told = say("deploy", new, "--all")
    assert code == 0
    assert told["counts"] == {"away": 1}
    household.add("late-pi")
    wait_until(lambda: household.serves() == {"late-pi": 2}, 30.0)


def test_sends_devices_back_and_says_where_there_is_no_way_back(
    tmp_path: Path, household: Household, tiny_bundle: TinyBundle, say: Any
) -> None:
    household.add("attic-pi", "hall-pi")
    wait_until(lambda: online(say, 2), 20.0)
    new = rewrite(tiny_bundle, tmp_path / "new.bundle", sequence=2)
    assert say("deploy", new, "hall-pi")[0] == 0
    code, told = say("rollback", "--all")
    outcomes = {way["device"]: way["outcome"] for way in told}
    assert outcomes == {"attic-pi": "failed", "hall-pi": "done"}
    assert code == 1
    wait_until(lambda: household.serves() == {"attic-pi": 1, "hall-pi": 1}, 20.0)


def test_an_unknown_device_is_named_with_those_that_are_known(
    broker: Broker,
    household: Household,
    tiny_bundle: TinyBundle,
    say: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    household.add("hall-pi")
    wait_until(lambda: online(say, 1), 20.0)
    where = ["--host", "localhost", "--port", str(broker.port), "--no-tls"]
    assert main(["deploy", str(tiny_bundle.path), "hal-pi", *where]) == 1
    assert "no device is called hal-pi; the broker knows hall-pi" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["--all", "hall-pi"]])
def test_wants_either_devices_or_all(arguments: list[str], tiny_bundle: TinyBundle) -> None:
    assert main(["deploy", str(tiny_bundle.path), "--host", "localhost", *arguments]) == 2


def test_the_table_is_for_people(
    broker: Broker, household: Household, say: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    household.add("hall-pi")
    wait_until(lambda: online(say, 1), 20.0)
    assert main(["fleet", "--host", "localhost", "--port", str(broker.port), "--no-tls"]) == 0
    head, line = capsys.readouterr().out.splitlines()
    assert head.split() == ["device", "runs", "update"]
    assert line.split() == ["hall-pi", "online", "tiny", "1"]


def test_a_terminal_follows_what_becomes_of_the_devices_and_is_safe_from_their_names(
    broker: Broker,
) -> None:
    state = {"installed_version": "1", "latest_version": "1", "title": "ti\x1b[2Jny"}
    broker.publish("transom/hall-pi/model/state", json.dumps(state), retain=True)
    broker.publish("transom/hall-pi/status", "online", retain=True)
    arguments = ("fleet", "--host", "localhost", "--port", str(broker.port), "--no-tls")
    with Terminal(*arguments) as terminal:
        terminal.wait_for("hall-pi  online  ti\\x1b[2Jny 1")
        broker.publish("transom/hall-pi/status", "offline", retain=True)
        terminal.wait_for("hall-pi  offline  ti")
        terminal.press_ctrl_c()
        assert terminal.ended() == 0
    assert "\x1b[2J" not in terminal.shown
    with Terminal(*arguments, "--once") as terminal:
        terminal.wait_for("hall-pi  offline  ti\\x1b[2Jny 1")
        assert terminal.ended() == 0


def test_the_table_says_that_no_device_is_known(
    broker: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fleet", "--host", "localhost", "--port", str(broker.port), "--no-tls"]) == 0
    assert "the broker knows no device" in capsys.readouterr().out


def test_a_broker_that_is_not_there_is_said_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fleet", "--host", "localhost", "--port", "1", "--no-tls"]) == 1
    assert "localhost:1 cannot be reached" in capsys.readouterr().err


def test_what_interrupted_deployments_left_at_the_broker_goes_and_what_is_wished_for_stays(
    tmp_path: Path, broker: Broker, tiny_bundle: TinyBundle, say: Any
) -> None:
    left = {
        name: rewrite(tiny_bundle, tmp_path / f"{name}.bundle", sequence=sequence, padding=70_000)
        for sequence, name in enumerate(("stale", "young", "wished"), start=2)
    }
    offer = Offer(broker)
    digests = {name: read_bundle(path, None).digest for name, path in left.items()}
    for name, path in left.items():
        chunks = offer.chunks(path)
        since = "2026-01-01T00:00:00.000Z" if name != "young" else iso(Clock().wall())
        entry = DepotEntry(name=name, sequence=2, chunks=len(chunks), since=since)
        topic = entry_topic("transom", digests[name])
        half = chunks if name == "wished" else chunks[:1]  # killed in the middle
        offer.send(Message(topic, encode(entry), retain=True), *half)
    offer.wish(wish_for(left["wished"]))
    publish.single(
        "transom/late-pi/status", b"offline", 1, True, hostname="localhost", port=broker.port
    )
    assert say("deploy", tiny_bundle.path, "late-pi")[0] == 0
    there = {topic.split("/")[2] for topic in retained(broker, "transom/depot/#")}
    own = read_bundle(tiny_bundle.path, None).digest
    assert there == {digests["young"], digests["wished"], own}
    gone = say("fleet", "tidy", "--older-h", "0")[1]
    assert [entry["name"] for entry in gone] == ["young"]
