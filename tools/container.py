"""Build the workstation's image from Containerfile and go the way in it; `make container`.

Usage: python -m tools.container [--work build/container] [--build='--volume /etc/pip.conf:…']

buildah builds it as `podman build` does, on a Debian that debootstrap makes here instead of on
the image that the file names, so that no registry of images is asked. In it a house is drawn, a
network is trained, exported and judged, all in a folder of this computer, and the page of labels
is asked for. Exits 1 where anything of it fails. Needs root, and the network for what pip fetches.
"""

import argparse
import json
import shlex
import shutil
import subprocess
import time
from pathlib import Path

from tools import wheel
from tools.install_test import debian

PACKAGES = "ca-certificates,python3,python3-venv"
BASE, IMAGE = "localhost/transom-base", "localhost/transom"
BUILDAH = ("buildah", "--storage-driver", "vfs")
"""Works everywhere: overlays need a file system under them that is no overlay itself."""
STEPS = (
    "--version",
    "data generate home --groups 30 --pictures 4 --size 160 120",
    "train home --out run --epochs 1",
    "keys new home.pem",
    "export run --key home.pem --out home.bundle --precision auto --set fallbacks=[]",
    "evaluate home.bundle home --split test",
)
ASK_PAGE = """
import json, subprocess, urllib.request
command = ["transom", "label", "home", "--no-browser", "--json"]
with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as page:
    try:
        link = json.loads(page.stdout.readline())["link"]
        print("the page of labels:", urllib.request.urlopen(link, timeout=60).status)
    finally:
        page.terminate()
"""


def main() -> None:
    """Make the base, build, go the way."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, default=wheel.ROOT / "build" / "container")
    parser.add_argument("--build", default="", help="More for buildah, where pip needs it.")
    options = parser.parse_args()
    work = options.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    make_base(debian(work, PACKAGES))
    began = time.monotonic()
    with wheel.sources("HEAD") as folder:
        buildah("bud", "--isolation", "chroot", "--network", "host", "--build-arg", f"BASE={BASE}",
                *shlex.split(options.build), "--tag", IMAGE, str(folder))  # fmt: skip
    print(f"built in {time.monotonic() - began:.0f} s", flush=True)
    house = work / "house"
    shutil.rmtree(house, ignore_errors=True)
    house.mkdir()
    go_the_way(house)
    print("all well")


def make_base(root: Path) -> None:
    """Commit a Debian as an image, in place of the one that Containerfile names.

    Args:
        root: Its root.
    """
    container = ask("from", "scratch")
    buildah("copy", "--quiet", container, str(root), "/")
    buildah("commit", "--quiet", "--rm", container, BASE)


def go_the_way(house: Path) -> None:
    """Do in the image what a user does with it.

    Args:
        house: An empty folder; it is the working folder in there, as Containerfile says.
    """
    container = ask("from", IMAGE)
    entry = json.loads(ask("inspect", container))["Docker"]["config"]["Entrypoint"]
    run = ("run", "--isolation", "chroot", "--network", "host", "--volume", f"{house}:/work")
    try:
        for step in STEPS:
            print(f"$ {' '.join(entry)} {step}", flush=True)
            buildah(*run, container, *entry, *shlex.split(step))
        buildah(*run, container, "python3", "-c", ASK_PAGE)
    finally:
        buildah("rm", container)


def buildah(*words: str) -> None:
    """Run buildah.

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    subprocess.run([*BUILDAH, *words], check=True)


def ask(*words: str) -> str:
    """Run buildah; return what it printed."""
    asked = subprocess.run([*BUILDAH, *words], check=True, stdout=subprocess.PIPE, text=True)
    return asked.stdout.strip()


if __name__ == "__main__":
    main()
