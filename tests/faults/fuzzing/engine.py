"""The process that fuzzes one target: `python -m tests.faults.fuzzing.engine FOLDER TARGET …`.

What follows the target's name is libFuzzer's: its options, and folders of inputs to begin with.
"""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["transom", "edge_runtime", "tomllib"]):
    from tests.faults.fuzzing.targets import targets


def main() -> None:
    """Fuzz until libFuzzer's options say that it is enough, or something is found."""
    program, folder, name, *options = sys.argv
    target = targets(Path(folder))[name]
    atheris.Setup([program, *options], target.try_)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
