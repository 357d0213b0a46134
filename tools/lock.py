"""Lock what a device and a workstation install, with digests, and list it as CycloneDX.

PyTorch is not in the lock of a workstation, nor what only it needs: which of its builds (CPU, CUDA)
is the user's choice, and is installed first. `make lock` runs this with the tools it needs.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "requirements"

EXTRAS = {
    "device": ("web",),
    "workstation": ("train", "tune", "fleet", "web", "methods", "demo"),
}
CHOSEN_BY_THE_USER = ("torch", "torchvision")

_HEAD = """# What a {name} installs, with the digests of all files of these releases.
# Made by `make lock`; install it with:{before}
#   pip install --require-hashes --no-deps -r requirements/{name}.txt
#   pip install --no-deps .
"""
_BEFORE = "\n#   pip install torch     (the build that fits your machine)"
_COMPILE = ("-m", "uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11",
            "--generate-hashes", "--no-header")  # fmt: skip


def main() -> None:
    """Write requirements/NAME.txt and requirements/NAME.cdx.json for both."""
    FOLDER.mkdir(exist_ok=True)
    for name, extras in EXTRAS.items():
        print(f"{name}: locking")
        path = FOLDER / f"{name}.txt"
        path.write_text(locked(name, compiled(extras)))
        listed(path, FOLDER / f"{name}.cdx.json")


def compiled(extras: tuple[str, ...]) -> str:
    """Return what uv says of the extras: for Linux, every architecture, Python 3.11 and later."""
    more = [word for extra in extras for word in ("--extra", extra)]
    command = [
        sys.executable,
        *_COMPILE,
        *more,
        "--constraint",
        "constraints.txt",
        "pyproject.toml",
    ]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def locked(name: str, text: str) -> str:
    """Return the lock file, without what the user chooses and what comes only with that."""
    blocks = [
        (block_name(block), block) for block in re.split(r"^(?=\S)", text, flags=re.M) if block
    ]
    wanted_by: dict[str, set[str]] = {}
    for package, block in blocks:
        wanted_by.setdefault(package, set()).update(
            re.findall(r"^    # +(?:via )?(\S+)", block, re.M)
        )
    out = set(CHOSEN_BY_THE_USER)
    while more := {one for one in wanted_by.keys() - out if wanted_by[one] - {"via"} <= out}:
        out |= more
    kept = "".join(block for package, block in blocks if package not in out)
    kept = re.sub(r"^    # .*\n", "", kept, flags=re.M)
    kept = re.sub(r" ; sys_platform == 'linux'| and sys_platform == 'linux'", "", kept)
    is_without = bool(out & wanted_by.keys())
    return _HEAD.format(name=name, before=_BEFORE if is_without else "") + kept


def block_name(block: str) -> str:
    """Return which package a block of lines is about."""
    return block.partition("==")[0].strip()


def listed(lock: Path, path: Path) -> None:
    """Write what a lock holds as a CycloneDX list."""
    command = [sys.executable, "-m", "cyclonedx_py", "requirements", "--output-reproducible",
               "--output-format", "JSON", str(lock)]  # fmt: skip
    said = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    tree = json.loads(said)
    for component in tree["components"]:
        component.pop("description", None)  # the line of the lock once more
        component.pop("externalReferences", None)  # where its files lie; their digests are locked
    tree.get("metadata", {}).pop("tools", None)
    path.write_text(json.dumps(tree, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
