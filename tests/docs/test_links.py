"""Every link of the documentation leads somewhere, and one that does not is named."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools.links import ROOT, Link, anchors, is_external, links, what_is_wrong


def test_every_link_of_the_documentation_leads_somewhere() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.links"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    said = re.search(r"(\d+) links within, (\d+) of them to a heading, 0 lead nowhere", done.stdout)
    assert said is not None, done.stdout
    assert int(said[1]) > int(said[2]) > 0


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("there.md", ""),
        ("there.md#the-end", ""),
        ("there.md#the-end-1", ""),
        ("#here", ""),
        ("nowhere.md", "there is no such file"),
        ("there.md#the-beginning", "there is no such heading"),
        ("there.md#in-code", "there is no such heading"),
        ("#there", "there is no such heading"),
        ("../../out.md", "leads out of the repository"),
    ],
)
def test_a_link_that_leads_nowhere_is_named(tmp_path: Path, target: str, why: str) -> None:
    root = tmp_path / "root"
    (root / "docs").mkdir(parents=True)
    (tmp_path / "out.md").write_text("# Out\n")
    (root / "docs" / "here.md").write_text("# Here\n")
    (root / "docs" / "there.md").write_text("# The end\n## The end\n```sh\n# in code\n```\n")
    said = what_is_wrong(Link("docs/here.md", 3, target), root)
    assert said == (f"docs/here.md:3: {target}: {why}" if why else "")


@pytest.mark.parametrize(
    ("text", "targets"),
    [
        ("a [b](c.md) d", ["c.md"]),
        ("![b](c.jpg)", ["c.jpg"]),
        ("[![b](c.svg)](d.md)", ["c.svg", "d.md"]),
        ('[b](c.md "a title")', ["c.md"]),
        ("`[b](c.md)`", []),
        ("```text\n[b](c.md)\n```\n[d](e.md)", ["e.md"]),
        ("[b]: c.md", ["c.md"]),
        ('<img src="c.svg">', ["c.svg"]),
        ("<https://a.example>", ["https://a.example"]),
    ],
)
def test_links_are_read_as_a_reader_sees_them(text: str, targets: list[str]) -> None:
    assert [link.target for link in links(text, "x.md")] == targets


def test_a_link_knows_its_line_behind_code() -> None:
    (link,) = links("```\nx\ny\n```\n[a](b.md)\n", "x.md")
    assert link.line == 5


def test_headings_are_named_as_github_does() -> None:
    assert anchors("## 3. What to look at (5 minutes)\n") == {"3-what-to-look-at-5-minutes"}


def test_an_address_is_no_path() -> None:
    assert is_external("mailto:a@b.example")
    assert not is_external("docs/a.md")
