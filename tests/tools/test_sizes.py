"""The tool that says how large the code is."""

import pytest

from tools.sizes import Part, functions, longest, main

SOURCE = '''
def short():
    return 1


class Thing:
    async def told(self):
        """Say it.

        At length.
        """
        first = 1
        return first
'''


def test_a_docstring_is_no_line_of_its_function() -> None:
    assert list(functions(SOURCE, "a.py")) == [Part("a.py: short", 2), Part("a.py: told", 3)]


def test_the_longest_come_first() -> None:
    assert longest([Part("b", 2), Part("c", 9), Part("a", 2)]) == [
        "    9  c",
        "    2  a",
        "    2  b",
    ]


def test_says_it_of_a_package(capsys: pytest.CaptureFixture[str]) -> None:
    main(["demo"])
    table, _, longest_ones = capsys.readouterr().out.partition("Longest modules:\n")
    assert "| `demo/` | " in table
    named = [line.split(maxsplit=1) for line in longest_ones.splitlines() if "  demo/" in line]
    assert len({name for _, name in named if ".py: " not in name}) > 1
    assert all(int(lines) > 1 for lines, name in named if ".py: " in name)
    assert any(".py: " in name for _, name in named)
