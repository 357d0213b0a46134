"""The demo from its first picture to its last alert; read `tell` from top to bottom."""

import json
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.broker import Broker, running_broker
from demo.judge import Alert, Verdict, judge, true_changes
from demo.processes import Subscriber, run_command, running_daemon
from transom.geometry import Zone

GROUPS = 120
PICTURES = 6
EPOCHS = 5
CLIP_FPS = 10
CLIP_SECONDS = 40.0
DEVICE = "demo-pi"
CAMERA = "hall"

_TAIL_S = 2.0  # after the clip's last frame, for the last message to arrive


@dataclass(frozen=True)
class Story:
    """Where the demo works and how it speaks."""

    folder: Path
    seed: int
    say: Callable[[str], None]

    def chapter(self, title: str) -> None:
        """Say what comes next."""
        self.say(f"\n== {title}")

    def run(self, *arguments: str) -> str:
        """Show a command as a user would type it, run it, and return what it printed."""
        shown = [word.replace(f"{self.folder}/", "") for word in arguments]
        self.say(f"$ transom {shlex.join(shown)}")
        return run_command(*arguments)


@dataclass(frozen=True)
class Outcome:
    """What the demo found out.

    Attributes:
        evaluation: Of the INT8 bundle on held-out scenes, as `transom evaluate --json` says it.
        export: What `transom export --json` said.
        verdict: The alerts against the clip.
        alerts: As the subscriber received them.
        broker: The broker used.
        report: The training's report page.
    """

    evaluation: dict[str, Any]
    export: dict[str, Any]
    verdict: Verdict
    alerts: list[Alert]
    broker: Broker
    report: Path

    def as_json(self, seconds: float) -> dict[str, Any]:
        """Return the summary that scripts read; `int8_agreement` is null for a float32 bundle."""
        is_int8 = self.export["precision"] == "int8"
        return {
            "alerts": len(self.alerts),
            "missed": len(self.verdict.missed),
            "false": len(self.verdict.false),
            "state_accuracy": self.evaluation["tasks"]["state"]["accuracy"],
            "int8_agreement": self.export["tasks"]["state"]["agreement"] if is_int8 else None,
            "median_latency_ms": self.verdict.median_latency_ms,
            "seconds": round(seconds, 1),
        }


def tell(story: Story) -> Outcome:
    """Go the whole way and return what came of it."""
    folder = story.folder
    scenes, run, bundle = folder / "scenes", folder / "run", folder / "demo.bundle"
    key = folder / "keys" / "demo.pem"

    story.chapter(f"1/5 Draw {GROUPS} doors and windows, each in {PICTURES} pictures")
    story.run(
        "data", "generate", str(scenes), "--groups", str(GROUPS), "--pictures", str(PICTURES),
        "--seed", str(story.seed), "--plain",
    )  # fmt: skip

    story.chapter(
        "2/5 Train one network for two questions, from the starter on: what is it, is it open?"
    )
    story.run(
        "train", str(scenes), "--out", str(run), "--start", "starter",
        "--epochs", str(EPOCHS), "--seed", str(story.seed),
    )  # fmt: skip

    story.chapter("3/5 Quantise it to INT8, check that nothing was lost, sign it")
    story.run("keys", "new", str(key))
    said = story.run(
        "export", str(run), "--out", str(bundle), "--key", str(key), "--precision", "auto", "--json"
    )
    export = json.loads(said)

    story.chapter("4/5 Judge the INT8 bundle on doors and rooms it has never seen")
    evaluation = json.loads(
        story.run("evaluate", str(bundle), str(scenes), "--split", "test", "--json")
    )

    story.chapter("5/5 Run the daemon on a clip and listen to its alerts")
    verdict, alerts, broker = _watch_a_clip(story, bundle, key.parent)
    return Outcome(evaluation, export, verdict, alerts, broker, run / "report.html")


def _watch_a_clip(story: Story, bundle: Path, keys: Path) -> tuple[Verdict, list[Alert], Broker]:
    from train.scenes import generate_clip  # with the daemon's own process still to start

    folder = story.folder
    clip = folder / "clip.mp4"
    # A seed far from the training scenes' own: a room that nobody has seen.
    truth = generate_clip(clip, seed=10_001 + story.seed, seconds=CLIP_SECONDS, fps=CLIP_FPS)
    with running_broker(folder) as broker:
        config = folder / "transom.toml"
        config.write_text(_configuration(folder, clip, bundle, keys, broker, truth.zones))
        story.say("$ transom watch --config transom.toml &")
        subscriber = Subscriber(["--config", str(config)])
        try:
            story.say("$ transom run --config transom.toml")
            with running_daemon(config, folder / "daemon.log"):
                alerts = _collect(subscriber, story, CLIP_SECONDS)
        finally:
            subscriber.close()
    return judge(true_changes(truth.states, truth.fps), alerts), alerts, broker


def _collect(subscriber: Subscriber, story: Story, seconds: float) -> list[Alert]:
    """Take events until the clip is over; its time starts when the camera comes online."""
    alerts: list[Alert] = []
    started = time.monotonic()
    came_online: float | None = None
    while time.monotonic() < (came_online or started) + seconds + _TAIL_S:
        message = subscriber.receive(0.5)
        if message is None:
            continue
        _, _, *rest = message["topic"].split("/")
        if rest == ["camera", CAMERA, "status"] and message["payload"] == "online":
            came_online = came_online or message["received"]
        elif rest[-1] == "event" and message["payload"]["event_type"] in ("opened", "closed"):
            event = message["payload"]
            clip_time = message["received"] - (came_online or started)
            alert = Alert(
                t_s=clip_time - event["latency_ms"] / 1000.0,
                at=event["at"],
                zone=rest[0],
                **{
                    key: event[key]
                    for key in ("event_type", "state", "previous", "confidence", "latency_ms")
                },
            )
            alerts.append(alert)
            story.say(
                f"  {alert.at[11:19]}  {alert.zone:<8} {alert.event_type:<7} "
                f"({alert.previous} -> {alert.state}, {alert.confidence:.0%} sure)"
            )
    return alerts


def _configuration(
    folder: Path, clip: Path, bundle: Path, keys: Path, broker: Broker, zones: dict[str, Zone]
) -> str:
    lines = [
        f'device = "{DEVICE}"',
        f"state_directory = {json.dumps(str(folder / 'state'))}",
        "",
        "[mqtt]",
        'host = "127.0.0.1"',
        f"port = {broker.port}",
        f'protocol = "{broker.protocol}"',
        "",
        "[models]",
        f"trusted_keys = {json.dumps(str(keys))}",
        f"bundle = {json.dumps(str(bundle))}",
        "",
        "[[cameras]]",
        f'name = "{CAMERA}"',
        f"source = {json.dumps(f'file:{clip}')}",
        f"fps = {CLIP_FPS / 2:g}",
    ]
    for name, zone in zones.items():
        corners = ", ".join(f"[{x:.4f}, {y:.4f}]" for x, y in zone.points)
        lines += [
            "",
            "[[cameras.zones]]",
            f'name = "{name}"',
            f'device_class = "{name}"',
            f"polygon = [{corners}]",
        ]
    return "\n".join(lines) + "\n"
