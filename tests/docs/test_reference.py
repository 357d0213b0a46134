"""The reference says what the code has: it is made from it, or held against it."""

import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from tools.reference.pages import named_parts, rewritten, stale_pages
from tools.reference.parts import PARTS
from tools.reference.requests import OPENAPI, openapi_text
from tools.reference.structs import payload_table
from transom.messages import Reason

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PACKAGES = ("transom", "train", "export", "edge_runtime", "fleet", "demo", "tests")
READ = re.compile(
    r"environ(?:ment)?(?:\.get|\.setdefault)?[\[(]\s*\"([A-Z_]+)\"|\"([A-Z_]+)\" in os\.environ"
)


def test_no_page_is_older_than_the_code_that_it_is_made_from() -> None:
    stale = [str(page.relative_to(ROOT)) for page in stale_pages(ROOT, PARTS)]
    assert stale == [], "run: python -m tools.reference"


def test_every_part_that_is_made_from_code_stands_on_one_page() -> None:
    found = [name for page in DOCS.rglob("*.md") for name in named_parts(page.read_text("utf-8"))]
    assert sorted(found) == sorted(PARTS)


def test_a_part_takes_the_place_of_the_one_before_and_leaves_the_rest() -> None:
    text = "above\n<!-- from code: a -->\n\nold\n\n<!-- end -->\nbelow\n"
    now = rewritten(text, {"a": lambda: "new"})
    assert now == text.replace("old", "new")


def test_a_part_that_there_is_not_is_named() -> None:
    with pytest.raises(ValueError, match="no part is named b; there are a"):
        rewritten("<!-- from code: b -->\n\n<!-- end -->", {"a": lambda: ""})


def test_a_key_of_which_the_docstring_says_nothing_is_named() -> None:
    class Silent(msgspec.Struct):
        """A payload.

        Attributes:
            said: Something.
        """

        said: int
        unsaid: int

    with pytest.raises(ValueError, match="Silent: the docstring says nothing of unsaid"):
        payload_table(Silent)


def test_the_variables_that_are_read_are_those_that_are_documented() -> None:
    read = {
        first or second
        for package in PACKAGES
        for file in (ROOT / package).rglob("*.py")
        for first, second in READ.findall(file.read_text("utf-8"))
    } - {"PYTHONPATH"}  # handed on by tests, not read
    text = (DOCS / "environment.md").read_text("utf-8")
    documented = set(re.findall(r"`([A-Z_]{2,})(?:=\w+)?`", text.partition("## Set")[0]))
    set_unless = {"ORT_DISABLE_TELEMETRY", "OMP_WAIT_POLICY"}
    assert documented == read - set_unless
    assert [name for name in set_unless if name not in text] == []


def test_the_reasons_that_are_documented_are_those_that_there_are() -> None:
    text = (DOCS / "messages.md").read_text("utf-8")
    rows = text.partition("## Reasons for `unknown`")[2].partition("\n## ")[0].splitlines()
    named = [word for row in rows if row.startswith("| `") for word in row.split("|")[1].split("`")]
    assert sorted(word for word in named if word.strip(" ,")) == sorted(get_args(Reason))


def test_the_description_of_the_api_is_the_one_that_is_served() -> None:
    assert (ROOT / OPENAPI).read_text("utf-8") == openapi_text(), "run: python -m tools.reference"
