"""Ask pip-audit whether anything that is locked has a known weakness; `make audit`.

pip-audit is content where it can look nothing up. Here that is a failure, and said.
"""

import json
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "requirements"


def main() -> int:
    """Audit both locks; return 1 where something is weak, or was not looked up."""
    return max(audit(path) for path in sorted(FOLDER.glob("*.txt")))


def audit(lock: Path) -> int:
    """Audit a lock, and say what was found."""
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--no-deps", "--format", "json",
               "--progress-spinner", "off", "--requirement", str(lock)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    if not done.stdout.startswith("{"):
        print(f"{lock.name}: pip-audit gave no answer; it needs a network: {last(done.stderr)}")
        return 1
    packages = json.loads(done.stdout)["dependencies"]
    skipped = [package for package in packages if "skip_reason" in package]
    weak = [(package, found) for package in packages for found in package.get("vulns", [])]
    for package, found in weak:
        fixed = ", ".join(found["fix_versions"]) or "none yet"
        print(f"{lock.name}: {package['name']} {package['version']}: {found['id']}; fixed: {fixed}")
    looked = len(packages) - len(skipped)
    print(f"{lock.name}: {looked} of {len(packages)} packages looked up, {len(weak)} weaknesses")
    if skipped:
        print(f"{lock.name}: NOT AUDITED: {len(skipped)} packages; the database of weaknesses "
              "cannot be reached from here, so this says nothing about them")  # fmt: skip
    return 1 if weak or skipped else 0


def last(text: str) -> str:
    """Return the last line of what a program said."""
    return text.strip().rpartition("\n")[2][:300] or "no word"


if __name__ == "__main__":
    sys.exit(main())
