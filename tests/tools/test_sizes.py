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
    said = capsys.readouterr().out
    assert "| `demo/` | " in said
    assert "demo/broker.py: running_broker" in said
