"""Put a trained run into the package: as the starter bundle, and as the start of trainings.

Usage: python tools/ship_starter.py RUN
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import safetensors.torch
import torch

from export.figures import with_hardest_groups
from train.run import METRICS, RECIPE, read_run
from train.unlike import NAME as DISTANCE
from transom.atomic import write_file

ROOT = Path(__file__).resolve().parent.parent
MAX_BYTES = 3_000_000


def main(folder: Path) -> None:
    """Export, sign with a key that is thrown away, and copy what is shipped."""
    ship_bundle(folder)
    ship_run(folder, ROOT / "train" / "starter")


def ship_bundle(folder: Path) -> None:
    """Write `transom/starter.bundle` and the public key that it is trusted by."""
    with tempfile.TemporaryDirectory() as temporary:
        key, bundle = Path(temporary) / "starter.pem", Path(temporary) / "starter.bundle"
        transom("keys", "new", str(key))
        transom("export", str(folder), "--out", str(bundle), "--key", str(key), "--name", "starter")
        size = bundle.stat().st_size
        if size > MAX_BYTES:
            raise SystemExit(f"{bundle}: has {size:,} bytes, {MAX_BYTES:,} is the most")
        shutil.copy(bundle, ROOT / "transom" / "starter.bundle")
        shutil.copy(key.with_suffix(".pub"), ROOT / "transom" / "starter.pub")


def ship_run(folder: Path, target: Path) -> None:
    """Write the run's weights in half precision: a start needs no more, and half the bytes."""
    run = read_run(folder)
    target.mkdir(exist_ok=True)
    tensors = {
        name: tensor.half().contiguous() if tensor.dtype == torch.float32 else tensor
        for name, tensor in run.network().state_dict().items()
    }
    write_file(target / "weights.safetensors", safetensors.torch.save(tensors))
    shutil.copy(folder / DISTANCE, target / DISTANCE)
    for name in (RECIPE, METRICS):
        # Where the training's data lay is no business of who installs the package.
        text = (folder / name).read_text("utf-8")
        for dataset in run.datasets:
            text = text.replace(str(dataset), dataset.name)
        for number, teacher in enumerate(run.facts.teachers, 1):
            text = text.replace(f'"{teacher}"', f'"{number}-{Path(teacher).name}"')
        text = text.replace(f'start = "{run.recipe.start}"', 'start = ""')
        write_file(target / name, (_shorter(text) if name == METRICS else text).encode())


def _shorter(metrics: str) -> str:
    """Keep the hardest groups only: a table of all is a quarter of a megabyte."""
    found = json.loads(metrics)
    for split, evaluation in found["evaluations"].items():
        found["evaluations"][split] = with_hardest_groups(evaluation)
    return json.dumps(found, indent=2) + "\n"


def transom(*arguments: str) -> None:
    """Run a command of this environment."""
    subprocess.run([sys.executable, "-m", "transom", *arguments], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
