"""What a script may import: light, typed, documented, and the same whichever way one looks."""

import ast
import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

import transom

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "api.md").read_text("utf-8")
SCRIPT = re.search(r"```python\n(.*?)```", PAGE, re.S)


def fresh(code: str, **environment: str) -> str:
    command = [sys.executable, "-c", code]
    env = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout


def test_importing_transom_loads_nothing_that_takes_long() -> None:
    loaded = set(fresh("import sys, transom; print(*sys.modules)").split())
    assert loaded & {"numpy", "cv2", "msgspec", "cryptography", "onnxruntime", "asyncio"} == set()


def test_reading_a_bundle_loads_no_runtime_of_networks() -> None:
    loaded = fresh("import sys, transom; transom.load_bundle(); print(*sys.modules)").split()
    assert set(loaded) & {"onnxruntime", "paho", "torch"} == set()


@pytest.mark.parametrize("name", transom.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    assert getattr(transom, name).__name__ == name
    assert f"| `transom.{name}" in PAGE


def test_type_checkers_are_told_the_same_names_as_the_interpreter() -> None:
    tree = ast.parse((ROOT / "transom" / "__init__.py").read_text("utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    told = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert told == transom._HOMES
    assert sorted(told) == transom.__all__


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'transom' has no attribute 'load_bundel'"):
        transom.load_bundel  # type: ignore[attr-defined]  # noqa: B018


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """An interpreter for which Transom is installed from its wheel, beside what it needs."""
    source = tmp_path / "source"
    for name in ("transom", "edge_runtime"):
        shutil.copytree(ROOT / name, source / name)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", tmp_path, source], check=True, capture_output=True)
    venv.create(tmp_path / "venv", symlinks=True)
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([sys.executable, "-m", "zipfile", "-e", wheel, site], check=True)
    beside = [path for path in sys.path if path.endswith("site-packages")]
    (site / "beside.pth").write_text("\n".join(beside))
    return tmp_path / "venv" / "bin" / "python"


def test_scripts_are_type_checked_against_the_installed_package(
    tmp_path: Path, python: Path
) -> None:
    assert SCRIPT is not None
    scripts = {
        "right": SCRIPT[1],
        "moment": SCRIPT[1].replace("number / fps)\n    if", '"now")\n    if'),
        "name": SCRIPT[1].replace("now.name", "now.label"),
    }
    for name, text in scripts.items():
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "mypy.ini").write_text("[mypy]\nstrict = true\n")
    command = [sys.executable, "-m", "mypy", "--python-executable", str(python)]
    files = [f"{name}.py" for name in scripts]
    done = subprocess.run([*command, *files], cwd=tmp_path, capture_output=True, text=True)
    found = [line.partition(" error: ") for line in done.stdout.splitlines() if "error:" in line]
    assert sorted((place.partition(":")[0], why) for place, _, why in found) == [
        ("moment.py", 'Argument 2 to "see" of "Decision" has incompatible type "str"; expected '
         '"float"  [arg-type]'),
        ("name.py", '"State" has no attribute "label"  [attr-defined]'),
    ], done.stdout  # fmt: skip
