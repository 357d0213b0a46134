"""`transom deploy`, `rollback` and `fleet` against real devices at a real broker."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from paho.mqtt import publish

from edge_runtime.clock import Clock, iso
from fleet.rollout import Plan, Rollout
from tests.edge_runtime.broker import Broker, wait_until
from tests.edge_runtime.terminal import Terminal
from tests.edge_runtime.updating import (
    TOPICS,
    Offer,
    TinyBundle,
    rewrite,
    wait_for_step,
    wish_for,
)
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


class Meanwhile:
    """Does something in a thread of its own for as long as a block lasts, and waits for it."""

    def __init__(self, do: Callable[[], None]) -> None:
        self._thread = threading.Thread(target=do)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._thread.join()


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


def test_a_device_that_is_offline_finds_the_bundle_though_it_was_deployed_to_others_since(
    tmp_path: Path, broker: Broker, household: Household, tiny_bundle: TinyBundle, say: Any
) -> None:
    broker.publish("transom/late-pi/status", "offline", retain=True)
    household.add("hall-pi")
    wait_until(lambda: online(say, 1), 20.0)
    new = rewrite(tiny_bundle, tmp_path / "new.bundle", sequence=2)
    assert say("deploy", new, "--all")[1]["counts"] == {"done": 1, "away": 1}
    assert say("deploy", new, "hall-pi")[1]["counts"] == {"done": 1}
    household.add("late-pi")
    wait_until(lambda: household.serves() == {"hall-pi": 2, "late-pi": 2}, 30.0)
    wait_until(lambda: online(say, 2), 20.0)
    assert say("deploy", new, "hall-pi")[0] == 0
    assert retained(broker, "transom/depot/#") == []  # everybody has it


def test_a_deployment_that_fails_leaves_what_somebody_else_has_asked_for_meanwhile(
    tmp_path: Path, broker: Broker, tiny_bundle: TinyBundle, say: Any
) -> None:
    broker.publish("transom/hall-pi/status", "online", retain=True)
    other = wish_for(rewrite(tiny_bundle, tmp_path / "other.bundle", sequence=3))
    with broker.subscriber(TOPICS.model_desired) as heard:

        def ask_for_another() -> None:
            heard.wait_for(TOPICS.model_desired)
            Offer(broker).wish(other)

        with Meanwhile(ask_for_another):
            code, told = say("deploy", tiny_bundle.path, "hall-pi", "--answer-s", "2")
        assert (code, told["counts"]) == (1, {"failed": 1})
        left = json.loads(heard.copies()[-1].payload)
    assert left["request"] == other.request
    assert retained(broker, TOPICS.model_desired) == [TOPICS.model_desired]


def test_a_bundle_that_fails_is_taken_back_from_those_that_an_earlier_deployment_has_asked(
    broker: Broker, tiny_bundle: TinyBundle, say: Any
) -> None:
    digest = read_bundle(tiny_bundle.path, None).digest
    courses = Rollout({"attic-pi": True, "hall-pi": True}, digest, Plan()).courses
    canary, other = sorted(courses, key=lambda name: courses[name].wave)
    asked = msgspec.json.encode(wish_for(tiny_bundle.path)).decode()
    broker.publish(f"transom/{other}/model/desired", asked, retain=True)
    for device in courses:
        broker.publish(f"transom/{device}/status", "online", retain=True)
    report = {"request": "a", "step": "rolled_back", "name": "tiny", "sequence": 1, "at": ""}
    with broker.subscriber(f"transom/{canary}/model/desired") as heard:

        def fail() -> None:
            heard.wait_for(f"transom/{canary}/model/desired")
            broker.publish(
                f"transom/{canary}/model/report", json.dumps(report | {"digest": digest})
            )

        with Meanwhile(fail):
            code, told = say("deploy", tiny_bundle.path, "--all")
    assert (code, told["counts"]) == (1, {"failed": 1, "planned": 1})
    assert retained(broker, f"transom/{other}/model/desired") == []
    assert retained(broker, "transom/depot/#") == []


def test_says_in_words_which_device_did_not_answer_and_what_to_look_at(
    broker: Broker, tiny_bundle: TinyBundle, capsys: pytest.CaptureFixture[str]
) -> None:
    broker.publish("transom/mute-pi/status", "online", retain=True)
    where = ["--host", "localhost", "--port", str(broker.port), "--no-tls"]
    assert main(["deploy", str(tiny_bundle.path), "mute-pi", "--answer-s", "0.5", *where]) == 1
    told = capsys.readouterr().out
    assert "mute-pi: failed: no answer within 0.5 s; is [updates] in its configuration?" in told


def test_what_devices_say_reaches_no_terminal_as_it_stands(
    broker: Broker, tiny_bundle: TinyBundle, capsys: pytest.CaptureFixture[str]
) -> None:
    broker.publish("transom/hall-pi/status", "online", retain=True)
    where = ["--host", "localhost", "--port", str(broker.port), "--no-tls"]
    digest = read_bundle(tiny_bundle.path, None).digest
    report = {"request": "a", "step": "refused", "name": "tiny", "sequence": 1, "digest": digest}
    report |= {"at": "", "reason": "no\x1b[2J\nhall-pi: committed"}
    with broker.subscriber(TOPICS.model_desired) as heard:

        def refuse() -> None:
            heard.wait_for(TOPICS.model_desired)
            broker.publish(TOPICS.model_report, json.dumps(report))

        with Meanwhile(refuse):
            assert main(["deploy", str(tiny_bundle.path), "hall-pi", *where]) == 1
    assert "hall-pi: refused: no\\x1b[2J\\nhall-pi: committed\n" in capsys.readouterr().out


def test_what_lies_there_since_a_day_that_there_is_not_is_taken_away(
    broker: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    since = "2026-13-01T00:00:00.000Z"
    entry = DepotEntry(name="ti\x1b[2Jny", sequence=2, chunks=1, since=since)
    Offer(broker).send(Message(entry_topic("transom", "ab" * 32), encode(entry), retain=True))
    where = ["--host", "localhost", "--port", str(broker.port), "--no-tls"]
    assert main(["fleet", "tidy", *where]) == 0
    assert capsys.readouterr().out == "ti\\x1b[2Jny 2: 1 chunks taken away\n"
    assert retained(broker, "transom/depot/#") == []


def test_a_bundle_on_probation_is_left_at_once_and_who_deploys_it_hears_of_it(
    tmp_path: Path, broker: Broker, household: Household, tiny_bundle: TinyBundle, say: Any
) -> None:
    household.add("hall-pi", healthy_s=3600.0)
    wait_until(lambda: online(say, 1), 20.0)
    new = rewrite(tiny_bundle, tmp_path / "new.bundle", sequence=2)
    command = [sys.executable, "-m", "transom", "deploy", str(new), "hall-pi", "--json", "--no-tls"]
    command += ["--host", "localhost", "--port", str(broker.port)]
    with broker.subscriber("transom/hall-pi/#") as heard:
        deploying = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        wait_for_step(heard, "started")
        wait_until(lambda: say("fleet")[1][0]["installed"] == "2", 20.0)
        code, told = say("rollback", "hall-pi")
        assert (code, told[0]["outcome"]) == (0, "done")
        heard_of, _ = deploying.communicate(timeout=60.0)
    device = json.loads(heard_of)["devices"]["hall-pi"]
    assert (device["step"], device["reason"]) == ("rolled_back", "asked to go back")
    wait_until(lambda: household.serves() == {"hall-pi": 1}, 20.0)
    asked = [copy.payload for copy in heard.copies(TOPICS.model_desired) if copy.payload]
    ledger = household.devices["hall-pi"].handover.ledger
    assert ledger.answered == json.loads(asked[-1])["request"]  # it is not asked once more


def test_a_way_back_that_nobody_answers_is_not_gone_weeks_later(broker: Broker, say: Any) -> None:
    for device, served in (("mute-pi", "1"), ("odd-pi", "9" * 5000)):
        state = {"installed_version": served, "latest_version": "1", "title": "tiny"}
        broker.publish(f"transom/{device}/model/state", json.dumps(state), retain=True)
        broker.publish(f"transom/{device}/status", "online", retain=True)
    code, told = say("rollback", "--all", "--answer-s", "0.5")
    assert code == 1
    assert "no answer within 0.5 s" in told[0]["reason"]
    assert told[1]["reason"] == "has never told which bundle it serves"
    assert retained(broker, "transom/+/model/desired") == []


def test_a_way_back_that_somebody_else_replaces_leaves_what_they_ask_for(
    tmp_path: Path, broker: Broker, tiny_bundle: TinyBundle, say: Any
) -> None:
    state = {"installed_version": "1", "latest_version": "1", "title": "tiny"}
    broker.publish(TOPICS.model_state, json.dumps(state), retain=True)
    broker.publish(TOPICS.status, "online", retain=True)
    report = {"step": "withdrawn", "name": "tiny", "sequence": 1, "digest": "", "at": ""}
    with broker.subscriber(TOPICS.model_desired) as heard:

        def ask_for_another() -> None:
            asked = json.loads(heard.wait_for(TOPICS.model_desired).payload)
            Offer(broker).wish(wish_for(tiny_bundle.path))
            answer = report | {"request": asked["request"]}
            broker.publish(TOPICS.model_report, json.dumps(answer))

        with Meanwhile(ask_for_another):
            assert say("rollback", "hall-pi")[1][0]["outcome"] == "failed"
    assert retained(broker, TOPICS.model_desired) == [TOPICS.model_desired]


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


@pytest.mark.parametrize("option", ["--json", "--host=localhost", "--config=x.toml", "--once"])
def test_an_option_before_the_command_of_the_fleet_is_not_passed_over(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fleet", option, "tidy", "--host", "localhost"]) == 2
    assert "options come after the command: transom fleet tidy …" in capsys.readouterr().err


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
