"""The site is built strictly from the Markdown, and asks nobody else for anything."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FROM_ELSEWHERE = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']?(?:https?:)?//"""
    r"""|<link\b(?=[^>]*\brel=["']?(?:stylesheet|preload|icon))[^>]*\bhref=["']?(?:https?:)?//"""
    r"""|url\(["']?(?:https?:)?//|@import\s"""
)


def build(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """Build a site as `make docs` does."""
    command = [sys.executable, "-m", "sphinx", "-c", str(source / "docs" / "site"), "-b", "html"]
    command += ["-q", "-n", "-W", "--keep-going", str(source), str(target)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    built = build(ROOT, target)
    assert built.returncode == 0, built.stderr
    return target


def files(site: Path, *endings: str) -> Iterator[Path]:
    return (file for file in sorted(site.rglob("*")) if file.suffix in endings)


def test_every_page_is_built_and_the_first_address_leads_to_the_index(site: Path) -> None:
    pages = [file.relative_to(ROOT) for file in (ROOT / "docs").rglob("*.md")]
    missing = [str(page) for page in pages if not (site / page.with_suffix(".html")).exists()]
    assert missing == []
    assert "docs/index.html" in (site / "index.html").read_text("utf-8")


def test_a_built_page_asks_nobody_else_for_anything(site: Path) -> None:
    found = [
        f"{file.relative_to(site)}: {match.group()}"
        for file in files(site, ".html", ".css")
        for match in FROM_ELSEWHERE.finditer(file.read_text("utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[away](nowhere.md)", "nowhere.md"),
        ("[away](#no-such-heading)", "no-such-heading"),
        ("```nolanguage\nx\n```", "nolanguage"),
    ],
)
def test_the_build_ends_with_what_leads_nowhere(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "site").symlink_to(ROOT / "docs" / "site")
    (tmp_path / "docs" / "index.md").write_text(f"# Index\n\n{text}\n", "utf-8")
    built = build(tmp_path, tmp_path / "out")
    assert built.returncode != 0
    assert said in built.stderr


def test_the_build_ends_with_a_page_that_nothing_leads_to(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "site").symlink_to(ROOT / "docs" / "site")
    (tmp_path / "docs" / "index.md").write_text("# Index\n", "utf-8")
    (tmp_path / "docs" / "lonely.md").write_text("# Lonely\n", "utf-8")
    built = build(tmp_path, tmp_path / "out")
    assert built.returncode != 0
    assert "lonely" in built.stderr
