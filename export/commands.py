"""The commands `transom export`, `transom bench` and `transom keys`."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
import msgspec

from transom.bundle import Bundle, read_bundle
from transom.errors import ExportError, SignatureError
from transom.signing import (
    PublicKey,
    load_private_key,
    load_public_key,
    new_key,
    public_half,
)
from transom.starter import bundle_path

if TYPE_CHECKING:
    from export.benchmark import Benchmark
    from export.pipeline import Precision
    from export.recipe import ExportRecipe
    from train.corpus import Corpus
    from train.run import Run

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("export")
@click.argument("run_folder", metavar="RUN", type=_FOLDER)
@click.option("--out", type=_FILE, help="The bundle to write.  [default: NAME.bundle]")
@click.option("--key", type=_FILE, help="Private key that signs it; see transom keys new.")
@click.option(
    "--precision",
    type=click.Choice(["int8", "float32", "auto"]),
    default="int8",
    show_default=True,
    help="auto: INT8 where it is within the limits and faster on this machine, else float32.",
)
@click.option("--name", help="Name of the bundle.  [default: from --out, else the run's folder]")
@click.option("--sequence", type=click.IntRange(min=0), help="Above that of every earlier bundle.")
@click.option(
    "--images",
    type=click.IntRange(1, 4096),
    help="Training crops that show INT8 the range of each activation.  [default: 256]",
)
@click.option("--recipe", "recipe_file", type=_FILE, help="TOML file; what it omits is default.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="One key of the export's recipe, such as limits.drop=0.002; may be given again.",
)
@click.option(
    "--data",
    "datasets",
    multiple=True,
    type=_FOLDER,
    help="A data set; may be given again.  [default: those the run was trained on]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def export_command(
    run_folder: Path,
    out: Path | None,
    key: Path | None,
    precision: str,
    name: str | None,
    sequence: int | None,
    images: int | None,
    recipe_file: Path | None,
    settings: tuple[str, ...],
    datasets: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Turn a run into a signed bundle for devices.

    The network becomes an ONNX graph that takes pixels, INT8 by default. No bundle is written
    unless the graph equals the trained network and INT8 agrees with float32 on crops that the
    training did not see. Where INT8 does not, fallbacks are tried in order: more calibration,
    the worst layers in float, equalised channels, training on with INT8's rounding.

    \b
    Example:
        transom keys new home.pem
        transom export runs/hall --key home.pem --out hall.bundle
        transom export runs/hall --key home.pem --set limits.drop=0.002 --set 'fallbacks=["qat"]'
    """
    from export.pipeline import export_run  # torch: seconds, not for bench on a device
    from train.commands import read_settings
    from train.progress import progress_bar
    from train.run import read_run

    if key is None:
        raise click.UsageError(
            "a bundle must be signed, and --key is missing; make a key with: "
            "transom keys new home.pem"
        )
    recipe = _recipe(recipe_file, {**read_settings(settings), **_given(images)})
    signer = load_private_key(key)
    run = read_run(run_folder)
    name = name or _slug(run_folder.resolve().name if out is None else out.stem)
    out = out or Path(f"{name}.bundle")
    corpus = _load(run, datasets)
    with progress_bar("exporting") as progress:
        export_run(
            run,
            corpus,
            out,
            signer,
            name=name,
            sequence=sequence,
            precision=cast("Precision", precision),
            recipe=recipe,
            progress=progress,
            tell=lambda sentence: click.echo(sentence, err=True),
        )
    bundle = read_bundle(out, [public_half(signer)])
    if as_json:
        click.echo(msgspec.json.encode(_export_json(out, bundle)).decode())
    else:
        click.echo(_export_text(out, bundle))


@click.command("bench")
@click.argument("bundle", metavar="(BUNDLE|starter)")
@click.option(
    "--seconds",
    type=click.FloatRange(0.1, 3600),
    default=10.0,
    show_default=True,
    help="About how long to go on.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def bench_command(bundle: str, seconds: float, as_json: bool) -> None:
    """Measure latency and memory of a bundle on this machine.

    The network runs in a process of its own, set up as in the daemon. All settings take turns,
    so that a machine that slows down does so for each of them.

    \b
    Example:
        transom bench hall.bundle
        transom bench starter --json
    """
    from export.benchmark import benchmark

    found = benchmark(read_bundle(bundle_path(bundle), None), seconds=seconds)
    click.echo(msgspec.json.encode(found).decode() if as_json else _bench_text(found))


@click.group("keys")
def keys_group() -> None:
    """Make and show the keys that sign bundles.

    The private key stays on the workstation. Its public half goes into the device's folder of
    trusted keys; two may be trusted at once, so that one can be replaced.

    \b
    Example:
        transom keys new home.pem
    """


@keys_group.command("new")
@click.argument("path", type=_FILE)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def keys_new_command(path: Path, as_json: bool) -> None:
    """Make an ECDSA P-256 key: PATH, private, and its public half beside it as .pub.

    A file that is there already is never overwritten.

    \b
    Example:
        transom keys new home.pem
    """
    public = new_key(path)
    if as_json:
        click.echo(msgspec.json.encode(_key_json(public.origin, public.fingerprint, path)).decode())
        return
    click.echo(f"private key  {path}   keep it; who has it can sign bundles")
    click.echo(f"public key   {public.origin}   copy it to the devices' trusted_keys/")
    click.echo(f"fingerprint  {public.fingerprint}")


@keys_group.command("show")
@click.argument("path", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def keys_show_command(path: Path, as_json: bool) -> None:
    """Show the fingerprint of a key, private or public, as errors and signatures name it.

    \b
    Example:
        transom keys show home.pub
    """
    is_private = b"PRIVATE KEY" in path.read_bytes()
    public = public_half(load_private_key(path)) if is_private else load_public_key(path)
    if as_json:
        half = _public_beside(path, public) if is_private else str(path)
        found = _key_json(half, public.fingerprint, path if is_private else None)
        click.echo(msgspec.json.encode(found).decode())
    else:
        click.echo(f"{path}: {'private' if is_private else 'public'}, {public.fingerprint}")


def _public_beside(path: Path, public: PublicKey) -> str | None:
    """Return the file of a private key's public half where `transom keys new` puts it, if any."""
    beside = path.with_suffix(".pub")
    try:
        is_its = load_public_key(beside).fingerprint == public.fingerprint
    except SignatureError:
        return None
    return str(beside) if is_its else None


def _recipe(path: Path | None, values: dict[str, object]) -> "ExportRecipe":
    from export.recipe import ExportRecipe, load_export_recipe
    from train.recipe import set_values

    recipe = load_export_recipe(path) if path else ExportRecipe()
    return set_values(recipe, values, "export recipe")


def _given(images: int | None) -> dict[str, object]:
    return {} if images is None else {"quantization.images": images}


def _load(run: "Run", datasets: tuple[Path, ...]) -> "Corpus":
    from train.corpus_loader import read_corpus

    folders = datasets or run.datasets
    missing = [folder for folder in folders if not folder.is_dir()]
    if missing or not folders:
        raise ExportError(
            f"export stopped: the run's data set {', '.join(map(str, missing)) or '(none named)'} "
            "is not there any more; name the data sets with --data"
        )
    return read_corpus(folders, run.input)


def _slug(text: str) -> str:
    slug = re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")[:64]
    return slug or "transom"


def _export_json(path: Path, bundle: Bundle) -> dict[str, Any]:
    manifest = bundle.manifest
    return {
        "bundle": str(path),
        "name": manifest.name,
        "sequence": manifest.sequence,
        "digest": bundle.digest,
        "bytes": path.stat().st_size,
        **{k: v for k, v in bundle.report.items() if k not in ("evaluation", "operators")},
        "metrics": manifest.metrics,
    }


def _export_text(path: Path, bundle: Bundle) -> str:
    manifest, report = bundle.manifest, bundle.report
    lines = [
        f"{path}: {manifest.name} {manifest.sequence}, {manifest.precision} ({report['why']}), "
        f"{path.stat().st_size / 1e6:.1f} MB",
        f"fallback: {report['fallback'] or 'none needed'}",
        f"{report['cost']['macs'] / 1e6:.0f} million multiply-accumulates, "
        f"{report['cost']['parameters'] / 1e6:.2f} million parameters; left in float: "
        f"{report['float_conv']} convolutions",
        _float32_text(bundle),
        "",
        f"{'task':<12} {'same as float32':>16} {'where sure':>12} {'accuracy lost':>14}"
        "  95 % interval",
    ]
    for name, task in report["tasks"].items():
        low, high = task["drop_interval"]
        lines.append(
            f"{name:<12} {100 * task['agreement']:>14.1f} % "
            f"{100 * task['confident_agreement']:>10.1f} % {100 * task['drop']:>11.1f} pt"
            f"  {100 * low:.1f} to {100 * high:.1f} ({task['n']} crops)"
        )
    lines += ["", f"sha256 {bundle.digest}"]
    return "\n".join(lines)


def _float32_text(bundle: Bundle) -> str:
    """Say whether a device may run the network in float32."""
    if bundle.manifest.precision == "float32":
        return "runs in float32 only"
    if len(bundle.precisions) > 1:
        return "runs in INT8 or float32, whichever a device finds faster"
    refused = bundle.report["float32"]["refused"] or "no golden would tell a wrong answer"
    return f"runs in INT8 only: in float32 {refused}"


def _bench_text(found: "Benchmark") -> str:
    lines = [
        found.machine,
        f"{found.name}: {found.input_size} px, {found.macs / 1e6:.0f} million multiply-accumulates,"
        f" {found.parameters / 1e6:.2f} million parameters, {found.bytes / 1e6:.1f} MB",
        f"load {found.load_ms:.0f} ms, memory {found.rss_mb:.0f} MiB, {_energy_text(found)}",
        "",
        "precision  threads  crops   median ms      p95 ms  of the limit",
    ]
    for run in found.runs:
        limit = "" if run.of_limit is None else f"{100 * run.of_limit:>12.1f} %"
        lines.append(
            f"{run.precision:<9}  {run.threads:>7}  {run.batch:>5}  {run.median_ms:>10.2f}"
            f"  {run.p95_ms:>10.2f}{limit}".rstrip()
        )
    lines += ["", *_bench_notes(found)]
    return "\n".join(lines)


def _energy_text(found: "Benchmark") -> str:
    energy = found.energy
    if energy is None:
        return "energy: the board does not tell"
    return (
        f"energy {energy.mj_per_crop:.2f} mJ a crop ({energy.idle_w:.2f} W idle, "
        f"{energy.busy_w:.2f} W busy, {energy.source})"
    )


def _bench_notes(found: "Benchmark") -> list[str]:
    if found.speedup is not None:
        gain = f"INT8 is {found.speedup:.1f} times as fast as float32 (1 thread, 1 crop)"
    else:
        gain = (
            "float32 was not measured beside INT8: that needs an INT8 bundle, and for one that "
            "runs in INT8 only the package onnx"
        )
    gain += f"\na device like this runs it in {found.precision}: {found.precision_why}"
    if found.peak is None:
        return [gain, "the limit of this processor's cores is not known"]
    peak = found.peak
    return [
        gain,
        f"limit: {peak.core}, {peak.macs_per_cycle} 8-bit products a cycle at {peak.ghz:.2f} GHz: "
        f"{peak.least_ms(found.macs):.2f} ms a crop on one core",
    ]


def _key_json(public: str | None, fingerprint: str, private: Path | None) -> dict[str, str | None]:
    return {
        "private": None if private is None else str(private),
        "public": public,
        "fingerprint": fingerprint,
    }
