"""The licence of everything that is locked, as docs/licences.md shows it; `make lock` writes it.

Licences are taken from what is installed here, so it runs in the environment of the tests.
"""

import re
from importlib.metadata import PackageMetadata, files, metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "licences.md"

ALLOWED = frozenset({
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause",
    "BSL-1.0", "CC0-1.0", "CNRI-Python", "HPND", "ISC", "MIT", "MIT-0", "MIT-CMU", "MPL-2.0",
    "PSF-2.0", "Python-2.0", "Unlicense", "Zlib",
})  # fmt: skip
"""Licences under which Apache-2.0 software may use a library without becoming anything else."""

_CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
}
_WORDS = {
    "apache": "Apache-2.0",
    "apache 2": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache license version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "apache software license 2.0": "Apache-2.0",
    "bsd": "BSD-3-Clause",
    "3-clause bsd license": "BSD-3-Clause",
    "bsd 3-clause": "BSD-3-Clause",
    "bsd 3-clause license": "BSD-3-Clause",
    "bsd-3-clause license": "BSD-3-Clause",
    "mit license": "MIT",
    "psf": "PSF-2.0",
}

_HEAD = """# Licences of what is installed

Everything that [requirements/](../requirements/device.txt) locks, and under what it may be used;
all of it may stand beside Transom's Apache-2.0. A test fails for a package that is not here, or
whose licence is none of those that `tools/licences.py` allows. Written by `make lock`.

OpenCV's wheel carries FFmpeg, which is LGPL-2.1: a library of its own inside the wheel that can be
replaced. PyTorch is not locked, because its build is the user's choice: BSD-3-Clause.

| package | licence | device | workstation |
|---|---|---|---|
"""


def locked(name: str) -> list[str]:
    """Return the packages of a lock."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text("utf-8")
    return re.findall(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==", text, re.M)


def licence_of(package: str) -> str:
    """Return an SPDX expression, or what a package says instead.

    Raises:
        PackageNotFoundError: It is not installed.
    """
    told = metadata(package)
    expression = told.get("License-Expression")
    if expression:
        return str(expression)
    by_words = _by_words(str(told.get("License") or ""))
    is_known = by_words in _WORDS.values()
    return _by_classifiers(told) or (by_words if is_known else "") or _by_file(package) or by_words


def _by_classifiers(told: PackageMetadata) -> str:
    names = [line.rpartition(" :: ")[2] for line in told.get_all("Classifier") or []]
    return " OR ".join(dict.fromkeys(_CLASSIFIERS[name] for name in names if name in _CLASSIFIERS))


def _by_words(said: str) -> str:
    first = next((line.strip() for line in said.splitlines() if line.strip()), "")
    return _WORDS.get(first.lower(), first[:80])


def _by_file(package: str) -> str:
    """Return what the first line of a package's licence says; empty where it is not known."""
    for file in files(package) or []:
        if file.name.upper().startswith(("LICENSE", "LICENCE")):
            found = _by_words(file.read_text("utf-8"))
            return found if found in _WORDS.values() else ""
    return ""


def is_allowed(expression: str) -> bool:
    """Return whether an expression asks for allowed licences only, or leaves the choice of one.

    Where it does both, a person must look: all of its licences must be allowed.
    """
    names = [name.strip(" ()") for name in re.split(r" (?:AND|OR) ", expression)]
    enough = all if " AND " in expression else any
    return enough(name in ALLOWED for name in names)


def page() -> str:
    """Return the page.

    Raises:
        PackageNotFoundError: Something that is locked is not installed here.
    """
    device, workstation = locked("device"), locked("workstation")
    rows = [
        f"| {name} | {licence_of(name)} | {'x' if name in device else ''} | "
        f"{'x' if name in workstation else ''} |"
        for name in sorted({*device, *workstation}, key=str.lower)
    ]
    return _HEAD + "\n".join(rows) + "\n"


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), "utf-8")


if __name__ == "__main__":
    main()
