"""Train on real doors, windows and other things, export, and judge INT8 on unseen groups.

Prints the accuracy of every task on the `val` groups with its interval, what quantising changed,
and the seconds of each step.

    python benchmarks/doors_and_kinds.py [--data ../shared/data] [--out FOLDER] [-- train options]
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, help="keep the run and the bundle here")
    parser.add_argument("train", nargs="*", help="options for transom train, after --")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        out = arguments.out or Path(temporary)
        out.mkdir(parents=True, exist_ok=True)
        measure(arguments.data, out, arguments.train)


def measure(data: Path, out: Path, train_options: list[str]) -> None:
    doors, kinds = str(data / "doors"), str(data / "kinds")
    run, bundle, key = out / "run", out / "doors.bundle", out / "benchmark.pem"
    seconds = {}
    if not key.exists():
        transom("keys", "new", str(key))
    _, seconds["train"] = transom(
        "train", doors, kinds, "--out", str(run), "--start", "none", *train_options
    )
    export, seconds["export"] = transom(
        "export", str(run), "--out", str(bundle), "--key", str(key), "--json"
    )
    judged = ("--split", "val", "--json")
    int8, seconds["evaluate"] = transom("evaluate", str(bundle), doors, kinds, *judged)
    float32, _ = transom("evaluate", str(run), doors, kinds, *judged)
    print("task     n     INT8 accuracy (95 % interval over groups)   float32   INT8 = float32")
    for name, task in json.loads(int8)["tasks"].items():
        low, high = task["intervals"]["accuracy"]
        print(
            f"{name:<8} {task['n']:<5} {task['accuracy']:.1%} ({low:.1%} to {high:.1%})"
            f"{json.loads(float32)['tasks'][name]['accuracy']:>26.1%}"
            f"{json.loads(export)['tasks'][name]['agreement']:>17.1%}"
        )
        print(f"         balanced {task['balanced_accuracy']:.1%}, confusion {task['confusion']}")
    print("seconds:", ", ".join(f"{step} {s:.0f}" for step, s in seconds.items()))
    print(f"bundle: {bundle.stat().st_size:,} bytes")


def transom(*arguments: str) -> tuple[str, float]:
    """Run a command; return what it printed and the seconds it took."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "transom", *arguments], stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout, time.monotonic() - started


if __name__ == "__main__":
    main()
