"""Readers of what others send refuse whatever they are given, and do nothing else with it."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.fuzzing.runner import fuzz, make_material
from tests.faults.fuzzing.targets import CORPUS, Target
from tests.faults.proof import Proof

BUNDLES = ("bundle", "manifest", "goldens", "report", "signature")
PAYLOADS = ("desired", "ask", "keys", "correct", "contact")
NAMES = (*BUNDLES, "configuration", *PAYLOADS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("fuzzing")
    make_material(made)
    return made


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    return make_material(tmp_path_factory.mktemp("targets"))


def test_these_are_all_targets(there: dict[str, Target]) -> None:
    assert sorted(there) == sorted(NAMES)
    assert {file.parent.name for file in CORPUS.glob("*/*")} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_reader_understands_what_it_is_made_for(there: dict[str, Target], name: str) -> None:
    for seed in there[name].seeds:
        there[name].read(seed)


@pytest.mark.parametrize("name", NAMES)
def test_a_reader_refuses_what_once_was_too_much_for_it_and_what_is_near_to_good(
    there: dict[str, Target], name: str
) -> None:
    for file in sorted((CORPUS / name).glob("*")):
        there[name].try_(file.read_bytes())
    chance = random.Random(name)
    for _ in range(100):
        there[name].try_(mutated(chance.choice(there[name].seeds), chance))


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Change some places: bytes, cuts, repetitions, and words that readers stumble over."""
    words = (b"\0", b"\xff\xfe", b"1e999", b"9" * 5000, b"[" * 5000, b"null", b'"\\ud800"', b"")
    changes: tuple[Callable[[bytes, int, int], bytes], ...] = (
        lambda d, a, b: d[:a] + chance.randbytes(b - a) + d[b:],
        lambda d, a, b: d[:a] + d[b:],
        lambda d, a, b: d[:b] + d[a:],
        lambda d, a, b: d[:a] + chance.choice(words) + d[b:],
    )
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data) + 1)
        data = chance.choice(changes)(data, at, min(at + chance.randint(0, 8), len(data)))
    return data


def test_the_fuzzer_sees_lines_that_it_reaches(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="Atheris has wheels for x86-64 only")
    found = fuzz("keys", folder, tmp_path, "-runs=300")
    assert (found.runs, found.crash) == (300, None)
    assert len(list((tmp_path / "keys").iterdir())) > 1, found.said  # it keeps what reaches more


def fuzzed(names: tuple[str, ...], folder: Path, work: Path, runs: int) -> int:
    """Fuzz targets with a share of the inputs each; return how many there were."""
    each = -(-runs // len(names))
    found = {name: fuzz(name, folder, work, f"-runs={each}") for name in names}
    crashes = {name: one.said for name, one in found.items() if one.crash is not None}
    assert crashes == {}
    return sum(one.runs for one in found.values())


@pytest.mark.full_only
@pytest.mark.parametrize(
    ("promise", "what", "names"),
    [
        (8, "bundles: whole, and manifest, goldens, report behind a right signature", BUNDLES),
        (21, "configurations", ("configuration",)),
        (21, "payloads of commands, keys and contact sensors", PAYLOADS),
    ],
)
def test_coverage_guided_fuzzing_finds_nothing_but_refusals(
    promise: int, what: str, names: tuple[str, ...], folder: Path, tmp_path: Path, proof: Proof
) -> None:
    pytest.importorskip("atheris", reason="Atheris has wheels for x86-64 only")
    claim = proof(promise, f"coverage-guided fuzzing (Atheris) of the readers of {what}",
                  fast=1_000, full=1_000_000, unit="inputs")  # fmt: skip
    ran = fuzzed(names, folder, tmp_path, claim.runs)
    claim.found("no error but refusals", runs=ran)
