"""The demo's last words, for someone who sees Transom for the first time."""

from typing import Any

from demo.story import Outcome


def describe(outcome: Outcome, seconds: float) -> str:
    """Return the summary, a dozen lines of text."""
    verdict = outcome.verdict
    lines = ["", "== What came of it", "What the subscriber received:"]
    lines += [
        f"  {alert.at[11:19]}  {alert.zone:<8} {alert.event_type:<7} "
        f"({alert.previous} -> {alert.state})"
        for alert in outcome.alerts
    ] or ["  nothing"]
    changes = len(verdict.found) + len(verdict.missed)
    lines += [
        f"The clip shows {changes} changes: {len(verdict.found)} announced, "
        f"{len(verdict.missed)} missed; {len(verdict.false)} false alerts.",
        "",
        "Right on pictures of doors, windows and rooms never seen in training "
        f"({outcome.export['precision'].upper()}):",
        *(f"  {_accuracy(name, task)}" for name, task in outcome.evaluation["tasks"].items()),
    ]
    if outcome.export["precision"] == "int8":
        lines.append("INT8 against float32, same pictures:")
        lines += [f"  {_agreement(name, task)}" for name, task in outcome.export["tasks"].items()]
    else:
        lines.append(f"The bundle is not INT8 this time: {outcome.export['why']}.")
    if verdict.median_latency_ms is not None:
        lines.append(
            "From the frame that decided an alert to its message: "
            f"{verdict.median_latency_ms:.0f} ms (median)."
        )
    if outcome.broker.protocol != "5":
        lines.append(
            f"The broker was {outcome.broker.name}, which speaks MQTT {outcome.broker.protocol}; "
            "install mosquitto to see MQTT 5."
        )
    lines += ["", f"The report page: {outcome.report}", f"All of it took {seconds:.0f} s."]
    return "\n".join(lines)


def _accuracy(name: str, task: dict[str, Any]) -> str:
    text = f"{name:<8} {task['accuracy']:.1%} of {task['n']} zones"
    interval = task["intervals"]["accuracy"]
    if interval:
        text += f" (95 % interval {interval[0]:.1%} to {interval[1]:.1%})"
    return f"{text}: {', '.join(task['classes'])}"


def _agreement(name: str, task: dict[str, Any]) -> str:
    return f"{name:<8} same answer on {task['agreement']:.1%}"
