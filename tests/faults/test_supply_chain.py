"""What is installed: locked with digests, listed, licensed, and built to the same bytes."""

import hashlib
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.faults.proof import Proof
from tools import wheel
from tools.licences import PAGE, is_allowed, licence_of, locked, page
from tools.lock import CHOSEN_BY_THE_USER, EXTRAS

ROOT = Path(__file__).resolve().parents[2]
LOCKS = tuple(EXTRAS)
_LINE = re.compile(r"(?P<name>[a-z0-9-]+)==(?P<version>[0-9a-z.]+)(?: ; [^\\]+)? \\")
_DIGEST = re.compile(r"    --hash=sha256:[0-9a-f]{64}(?: \\)?")
ARCHITECTURES = ("x86_64", "aarch64")


def lines(lock: str) -> list[str]:
    text = (ROOT / "requirements" / f"{lock}.txt").read_text("utf-8")
    return [line for line in text.splitlines() if not line.startswith("#")]


def versions(lock: str) -> dict[str, set[str]]:
    """Return the versions that a lock names, by package: another for another Python."""
    found: dict[str, set[str]] = {}
    for line in lines(lock):
        match = _LINE.fullmatch(line)
        if match:
            found.setdefault(match["name"], set()).add(match["version"])
    return found


def wanted(extras: tuple[str, ...]) -> list[Requirement]:
    """Return what pyproject.toml asks for, its own extras taken apart."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    asked = [Requirement(line) for line in project["dependencies"]]
    for extra in extras:
        asked += [Requirement(line) for line in project["optional-dependencies"][extra]]
    return [one for one in asked if one.name != "transom"]


def test_everything_is_locked_to_one_version_with_digests_and_no_place_to_fetch_it_from(
    proof: Proof,
) -> None:
    claim = proof(23, "every line of both locks", fast=2, full=2, unit="locks")
    for lock in LOCKS:
        names, last = set(), ""
        for line in lines(lock):
            match = _LINE.fullmatch(line)
            assert match or _DIGEST.fullmatch(line), line
            assert match is None or last == "" or _DIGEST.fullmatch(last), f"no digest: {last}"
            names |= {match["name"]} if match else set()
            last = line
        assert _DIGEST.fullmatch(last)
        for one in wanted(EXTRAS[lock]):
            name = canonicalize_name(one.name)
            if name in CHOSEN_BY_THE_USER:
                assert name not in names
                continue
            found = versions(lock)[name]
            assert all(one.specifier.contains(v, prereleases=True) for v in found), (one, found)
    workstation = versions("workstation")
    other = [name for name, found in versions("device").items() if workstation[name] != found]
    assert other == [], "a device and a workstation must agree"
    claim.found("{packages} packages, each with the digests of its files",
                packages=len(versions("workstation")))  # fmt: skip


@pytest.mark.parametrize("lock", LOCKS)
def test_the_list_of_parts_is_the_lock(lock: str, proof: Proof) -> None:
    claim = proof(23, f"the list of parts of a {lock} (CycloneDX), against its lock", unit="lists")
    tree = json.loads((ROOT / "requirements" / f"{lock}.cdx.json").read_text("utf-8"))
    assert tree["bomFormat"] == "CycloneDX"
    listed: dict[str, set[str]] = {}
    for component in tree["components"]:
        listed.setdefault(component["name"], set()).add(component["version"])
        assert component["purl"].startswith(f"pkg:pypi/{component['name']}@")
    assert listed == versions(lock)
    claim.found("{packages} packages, the same in both", packages=len(listed))


def test_every_licence_is_known_and_allowed_and_on_the_page(proof: Proof) -> None:
    claim = proof(23, "the licence of every package that is locked", unit="looks")
    packages = {*locked("device"), *locked("workstation")}
    assert [name for name in packages if not is_allowed(licence_of(name))] == []
    assert PAGE.read_text("utf-8") == page(), "make lock"
    claim.found("{packages} licences, all compatible with Apache-2.0", packages=len(packages))


@pytest.mark.parametrize(
    ("expression", "is_good"),
    [
        ("MIT", True),
        ("MPL-2.0 AND MIT", True),
        ("GPL-3.0-only", False),
        ("GPL-3.0-only OR MIT", True),
        ("MIT AND AGPL-3.0-only", False),
        ("GPL-3.0-only AND (AGPL-3.0-only OR MIT)", False),
        ("MIT AND (0BSD OR ISC)", True),
        ("not said", False),
        ("", False),
    ],
)
def test_a_licence_that_is_not_listed_is_not_allowed(expression: str, is_good: bool) -> None:
    assert is_allowed(expression) is is_good


def test_the_same_commit_gives_the_same_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proof: Proof
) -> None:
    claim = proof(23, "the wheel built twice, with other umask, hash seed, time zone and folder",
                  fast=2, full=2, unit="wheels")  # fmt: skip
    digests = []
    for number, (mask, zone) in enumerate(((0o022, "UTC"), (0o077, "Asia/Tokyo"))):
        out = tmp_path / str(number)
        out.mkdir()
        monkeypatch.setenv("TZ", zone)
        monkeypatch.setenv("PYTHONHASHSEED", str(1 + number))
        before = os.umask(mask)
        try:
            built = wheel.build(out)
        finally:
            os.umask(before)
        digests.append(hashlib.sha256(built.read_bytes()).hexdigest())
    assert digests[0] == digests[1]
    claim.found("the same bytes")


@pytest.mark.full_only
def test_what_is_locked_can_be_installed_on_both_architectures(
    tmp_path: Path, proof: Proof
) -> None:
    """Needs a network, so only `make faults` asks: pip resolves and checks every digest."""
    wanted = [(lock, name) for lock in LOCKS for name in ARCHITECTURES]
    claim = proof(23, "`pip install --require-hashes`, dry, of both locks, x86-64 and aarch64",
                  fast=0, full=len(wanted), unit="installations")  # fmt: skip
    for lock, name in wanted[: claim.runs]:
        platforms = [f"manylinux_2_28_{name}", f"manylinux_2_17_{name}", f"manylinux2014_{name}"]
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--no-deps",
                   "--require-hashes", "--only-binary=:all:", "--target", str(tmp_path),
                   *(word for one in platforms for word in ("--platform", one)),
                   "--requirement", str(ROOT / "requirements" / f"{lock}.txt")]  # fmt: skip
        subprocess.run(command, check=True)
    claim.found("all files there, all digests right")
