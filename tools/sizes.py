"""How large the code is: lines by package, its longest modules and its longest functions.

Usage: python -m tools.sizes [PACKAGE...]

A function's lines are counted from its `def` to its last statement, without its docstring.
"""

import ast
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    "transom", "train", "export", "edge_runtime", "fleet", "demo", "tools", "benchmarks", "tests"
)  # fmt: skip
LONG = 60
SHOWN = 12


@dataclass(frozen=True)
class Part:
    """A function or a module.

    Attributes:
        name: Where it is.
        lines: How many it has.
    """

    name: str
    lines: int


def functions(source: str, file: str) -> Iterator[Part]:
    """Yield the functions of a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
            docstring = node.body[0] if body is not node.body else None
            lines = _span(node) - (_span(docstring) if docstring is not None else 0)
            yield Part(f"{file}: {node.name}", lines)


def _span(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def row_of(package: str, modules: Sequence[Part], found: Sequence[Part]) -> str:
    """Return a package's row of the table."""
    lines = [part.lines for part in found]
    tenths = quantiles(lines, n=10) if len(lines) > 1 else [0.0] * 9
    long = 100.0 * sum(count > LONG for count in lines) / max(len(lines), 1)
    return (
        f"| `{package}/` | {len(modules)} | {sum(part.lines for part in modules):,} | "
        f"{median(part.lines for part in modules):.0f} | {median(lines or [0]):.0f} | "
        f"{tenths[-1]:.0f} | {long:.1f} % |"
    )


def longest(parts: Iterable[Part]) -> list[str]:
    """Return lines that name the longest of some parts, the longest first."""
    ordered = sorted(parts, key=lambda part: (-part.lines, part.name))
    return [f"{part.lines:5}  {part.name}" for part in ordered[:SHOWN]]


def main(packages: Sequence[str]) -> None:
    """Print the table and the longest of it."""
    modules: list[Part] = []
    found: list[Part] = []
    print("| package | modules | lines | a module | a function | nine of ten below | over 60 |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for package in packages:
        sources = {
            str(path.relative_to(ROOT)): path.read_text("utf-8")
            for path in sorted((ROOT / package).rglob("*.py"))
        }
        here = [Part(file, text.count("\n")) for file, text in sources.items()]
        its = [part for file, text in sources.items() for part in functions(text, file)]
        print(row_of(package, here, its))
        modules += here
        found += its
    print("\nLongest modules:", *longest(modules), sep="\n")
    print("\nLongest functions:", *longest(found), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:] or PACKAGES)
