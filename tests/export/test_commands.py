import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from export.commands import bench_command, export_command, keys_group
from train.run import Run
from transom.bundle import read_bundle
from transom.errors import ConfigurationError
from transom.signing import load_private_key, load_public_key, public_half


def call(command: object, *arguments: object) -> Result:
    return CliRunner().invoke(command, [str(a) for a in arguments])  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def exported(run: Run, key: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "bars.bundle"
    result = call(export_command, run.folder, "--key", key, "--out", path, "--images", 32)
    assert result.exit_code == 0, result.output
    return path


def test_export_takes_the_data_from_the_run_and_the_name_from_the_file(
    exported: Path, key: Path
) -> None:
    bundle = read_bundle(exported, [public_half(load_private_key(key))])
    assert bundle.manifest.name == "bars"
    assert bundle.report["quantization"]["images"] == 32


def test_export_prints_one_json_object_with_the_parity_of_every_task(
    run: Run, pictures: Path, key: Path, tmp_path: Path
) -> None:
    path = tmp_path / "b.bundle"
    options = ["--out", path, "--data", pictures, "--name", "b", "--precision", "float32"]
    result = call(export_command, run.folder, "--key", key, *options, "--json")
    found = json.loads(result.stdout)
    assert found["tasks"]["state"]["agreement"] == 1.0
    assert found["bytes"] == path.stat().st_size
    assert found["digest"] == read_bundle(path, None).digest
    assert found["metrics"]["tasks"].keys() == {"kind", "state"}


def test_export_without_a_key_says_how_to_make_one(run: Run) -> None:
    result = call(export_command, run.folder)
    assert result.exit_code == 2
    assert "transom keys new" in result.output


def test_bench_prints_what_scripts_rely_on(exported: Path) -> None:
    found = json.loads(call(bench_command, exported, "--seconds", 0.1, "--json").stdout)
    assert found.keys() >= {
        "machine",
        "input_size",
        "macs",
        "parameters",
        "bytes",
        "load_ms",
        "rss_mb",
        "runs",
    }
    assert {run["batch"] for run in found["runs"]} == {1, 4, 16}
    keys = {"precision", "threads", "batch", "median_ms", "p95_ms", "of_limit"}
    assert found["runs"][0].keys() == keys
    assert {run["precision"] for run in found["runs"]} == {"int8", "float32"}
    assert found["speedup"] > 0.0


def test_bench_says_how_far_int8_is_from_what_the_cores_can_do(exported: Path) -> None:
    found = json.loads(call(bench_command, exported, "--seconds", 0.1, "--json").stdout)
    if found["peak"] is None:
        assert all(run["of_limit"] is None for run in found["runs"])
        return
    hertz = found["peak"]["ghz"] * 1e9
    for run in found["runs"]:
        if run["precision"] == "float32":
            assert run["of_limit"] is None
            continue
        products = found["macs"] * run["batch"] / (run["median_ms"] / 1e3)
        cores = found["peak"]["macs_per_cycle"] * run["threads"] * hertz
        assert run["of_limit"] == pytest.approx(products / cores)


def test_bench_prints_a_table_for_a_person(exported: Path) -> None:
    output = call(bench_command, exported, "--seconds", 0.1).output
    assert "bars: 32 px" in output
    assert "median ms" in output
    assert "times as fast as float32" in output
    assert "energy" in output


def test_export_takes_its_limits_from_a_file_and_from_the_command(
    run: Run, key: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "export.toml"
    recipe.write_text("fallbacks = []\n[limits]\nagreement = 0.9\n[quantization]\nimages = 24\n")
    options = ["--recipe", recipe, "--set", "limits.drop=0.25", "--key", key, "--json"]
    result = call(export_command, run.folder, *options, "--out", tmp_path / "b.bundle")
    found = json.loads(result.stdout)
    limits = found["limits"]
    assert (limits["agreement"], limits["drop"], limits["confident_agreement"]) == (
        0.9,
        0.25,
        0.995,
    )
    assert found["quantization"]["images"] == 24
    assert found["fallback"] is None


def test_export_names_a_limit_that_there_is_not(run: Run, key: Path) -> None:
    result = call(export_command, run.folder, "--key", key, "--set", "limits.drops=0.1")
    assert isinstance(result.exception, ConfigurationError)
    assert "unknown key `$.limits.drops`, drop is meant?" in str(result.exception)


def test_keys_new_makes_a_pair_and_never_overwrites_it(tmp_path: Path) -> None:
    path = tmp_path / "home.key"
    found = json.loads(call(keys_group, "new", path, "--json").stdout)
    assert found["fingerprint"] == load_public_key(Path(found["public"])).fingerprint
    assert path.stat().st_mode & 0o077 == 0
    before = path.read_bytes()
    assert isinstance(call(keys_group, "new", path).exception, FileExistsError)
    assert path.read_bytes() == before


def test_keys_show_gives_both_halves_the_same_fingerprint(key: Path) -> None:
    halves: Sequence[Path] = (key, key.with_suffix(".pub"))
    found = [json.loads(call(keys_group, "show", half, "--json").stdout) for half in halves]
    assert found[0]["fingerprint"] == found[1]["fingerprint"]
    assert [item["private"] is None for item in found] == [False, True]


def test_keys_show_never_calls_a_private_key_its_public_half(tmp_path: Path) -> None:
    path = tmp_path / "home.pem"
    made = json.loads(call(keys_group, "new", path, "--json").stdout)
    assert json.loads(call(keys_group, "show", path, "--json").stdout) == made
    call(keys_group, "new", tmp_path / "other.pem")
    (tmp_path / "other.pub").replace(tmp_path / "home.pub")
    assert json.loads(call(keys_group, "show", path, "--json").stdout)["public"] is None
    (tmp_path / "home.pub").unlink()
    assert json.loads(call(keys_group, "show", path, "--json").stdout)["public"] is None


@pytest.mark.parametrize("command", [export_command, bench_command, keys_group])
def test_help_has_an_example_on_lines_of_its_own(command: object) -> None:
    lines = [line.strip() for line in call(command, "--help").output.splitlines()]
    assert any(line.startswith("transom ") for line in lines[lines.index("Example:") :])
