"""The command line (DESIGN 5). Everything heavy is imported inside the command that needs it."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from .errors import ConfigError, LeakGaugeError

app = typer.Typer(
    help="Trains models under a privacy promise, attacks them, and certifies how much they leak.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
store_app = typer.Typer(help="Look into a run's store of models and signals.", no_args_is_help=True)
app.add_typer(store_app, name="store")

AuditFile = Annotated[Path, typer.Argument(help="The audit file (TOML or YAML), or the name of a suite.")]
OutFolder = Annotated[Path | None, typer.Option("--out", help="Where results go; default runs/<name>.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one key, such as attack.0.shadows=8.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


def main() -> None:
    """Run the command line; every error of ours becomes one line and exit code 2."""
    try:
        app()
    except LeakGaugeError as error:
        print(f"leakgauge: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("leakgauge: interrupted; run the same command again to resume", file=sys.stderr)
        raise SystemExit(130) from None


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from .. import __version__

        typer.echo(f"leakgauge {__version__}")
        raise typer.Exit


@app.command()
def run(
    audit: AuditFile,
    out: OutFolder = None,
    overrides: Overrides = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda:N.")] = "auto",
    executor: Annotated[str, typer.Option(help="Where models train: local or ray (RAY_ADDRESS).")] = "local",
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Run the whole audit and write the report. Running it again resumes."""
    from .conduct import conduct

    command = shlex.join(["leakgauge", *sys.argv[1:]])
    code = conduct(
        suite_path(audit), out, overrides or [], device=device, quiet=quiet, command=command, executor=executor
    )
    raise typer.Exit(code)


@app.command()
def plan(
    audits: Annotated[list[Path], typer.Argument(help="Audit files (TOML or YAML), or names of suites.")],
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Validate and price an audit, and print the ceiling of each bound. Trains nothing."""
    from .config import load_config
    from .existing import settle_existing
    from .plan import plan_json
    from .setting import settle
    from .show import print_plan

    documents = []
    for audit in audits:
        config = load_config(suite_path(audit), overrides or [])
        documents.append(plan_json(settle_existing(config).setting if config.target else settle(config)))
    if as_json:
        print_json(documents if len(documents) > 1 else documents[0])
    else:
        for document in documents:
            print_plan(document)


@app.command()
def score(
    scores: Annotated[Path, typer.Argument(help="csv, parquet or npz with columns score, inside [record, group].")],
    epsilon: Annotated[float | None, typer.Option(help="The claimed epsilon; needs --delta.")] = None,
    delta: Annotated[float | None, typer.Option(help="The claimed delta, or the one to bound epsilon at.")] = None,
    design: Annotated[str, typer.Option(help="How membership was decided: coin, runs or unknown.")] = "unknown",
    guesses: Annotated[int | None, typer.Option(help="Guesses to judge, fixed before looking (design coin).")] = None,
    threshold: Annotated[float | None, typer.Option(help="Threshold fixed before looking (design runs).")] = None,
    unit: Annotated[str, typer.Option(help="record, user or client.")] = "record",
    adjacency: Annotated[str, typer.Option(help="add-remove, replace-one or zero-out.")] = "add-remove",
    confidence: Annotated[float, typer.Option(help="Confidence of the reported bound.")] = 0.95,
    as_json: AsJson = False,
) -> None:
    """Audit membership scores from anywhere. Without a design: metrics and no bound."""
    from .scores import audit_scores, claim_from_options, read_scores
    from .show import print_score
    from .types import Adjacency, Unit, Verdict

    kind, neighbours = choice(Unit, unit, "--unit"), choice(Adjacency, adjacency, "--adjacency")
    if design not in {"coin", "runs", "unknown"}:
        raise ConfigError(f"--design {design!r} is unknown; choose from coin, runs, unknown")
    claim = claim_from_options(epsilon, delta, kind, neighbours)
    table = read_scores(scores)
    result = audit_scores(
        table.scores,
        table.inside,
        design=design,  # type: ignore[arg-type]
        claim=claim,
        delta=1e-5 if delta is None else delta,
        guesses=guesses,
        threshold=threshold,
        unit=kind,
        adjacency=neighbours,
        confidence=confidence,
        violation_confidence=max(0.999, confidence),
        records=table.records,
        groups=table.groups,
    )
    if as_json:
        print_json(result.to_json())
    else:
        print_score(result)
    raise typer.Exit(1 if result.judgement.verdict is Verdict.VIOLATED else 0)


@app.command()
def attack(
    name: Annotated[str, typer.Argument(help="The attack; `leakgauge list attacks`.")],
    signals: Annotated[Path, typer.Option("--signals", help="npz with probs, labels, inside [, population_*].")],
    out: Annotated[Path | None, typer.Option("--out", help="Write record, score, inside as parquet.")] = None,
    overrides: Overrides = None,
    seed: Annotated[int, typer.Option(help="Seed of attacks that draw random numbers.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Run an attack on signals from anywhere: model 0 is the target, the others are shadows."""
    from .attack_file import attack_file

    document = attack_file(name, signals, out, overrides or [], seed=seed)
    if as_json:
        print_json(document)
    else:
        from .show import print_metrics

        print_metrics(document["metrics"])


@app.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def bound(
    context: typer.Context,
    method: Annotated[str, typer.Argument(help="The bound; `leakgauge list bounds`, `leakgauge show NAME`.")],
    delta: Annotated[float, typer.Option(help="Delta at which epsilon is bounded.")] = 0.0,
    confidence: Annotated[float, typer.Option(help="One-sided confidence of the bound.")] = 0.95,
    as_json: AsJson = False,
) -> None:
    """One lower bound on epsilon from counts, such as `bound one-run --canaries 1000 --guesses 100 --correct 90`."""
    from .bounds import certify_named
    from .show import print_bound

    result = certify_named(method, count_options(context.args), delta=delta, confidence=confidence)
    if as_json:
        print_json(result.to_json())
    else:
        print_bound(result)


@app.command()
def account(
    mechanism: Annotated[str, typer.Argument(help="The mechanism: dp-sgd.")],
    noise_multiplier: Annotated[float, typer.Option(help="Noise standard deviation over the clipping norm.")],
    sample_rate: Annotated[float, typer.Option(help="Probability that a record is in a step's batch.")],
    steps: Annotated[int, typer.Option(help="Number of noisy steps.")],
    delta: Annotated[float, typer.Option(help="Delta at which epsilon is computed.")],
    adjacency: Annotated[str, typer.Option(help="add-remove or replace-one.")] = "add-remove",
    as_json: AsJson = False,
) -> None:
    """Theoretical epsilon of DP-SGD by every accountant."""
    from .accounting import account_dp_sgd
    from .show import print_accounts
    from .types import Adjacency

    if mechanism != "dp-sgd":
        raise ConfigError(f"account: unknown mechanism {mechanism!r}; known: dp-sgd")
    accounts = account_dp_sgd(
        noise_multiplier=noise_multiplier,
        sample_rate=sample_rate,
        steps=steps,
        delta=delta,
        adjacency=choice(Adjacency, adjacency, "--adjacency"),
    )
    if as_json:
        print_json(accounts.to_json())
    else:
        print_accounts(accounts.to_json())


@app.command()
def compare(
    baseline: Annotated[Path, typer.Argument(help="The baseline file, meant to be committed.")],
    runs: Annotated[list[Path], typer.Argument(help="The run's audit.json or folder; with --update five or more.")],
    update: Annotated[bool, typer.Option("--update", help="Write the baseline from these runs instead.")] = False,
    confidence: Annotated[
        float, typer.Option(help="A run of the same code passes with at least this probability.")
    ] = 0.99,
    statistic: Annotated[
        str | None, typer.Option(help="With --update: what decides, such as auc, guesses or tpr@0.01.")
    ] = None,
    commit: Annotated[str | None, typer.Option(help="With --update: the commit to note; default from the CI.")] = None,
    github: Annotated[bool, typer.Option("--github", help="Also annotations, and the job's step summary.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare a run with a baseline of several seeds; fails (exit 1) only where the intervals separate."""
    from .comparison.command import compare_command, update_command

    if update:
        raise typer.Exit(update_command(baseline, runs, statistic=statistic, commit=commit))
    raise typer.Exit(compare_command(baseline, runs, confidence=confidence, as_json=as_json, github=github))


@app.command()
def baseline(
    audit: AuditFile,
    out: Annotated[Path, typer.Option("--out", help="The baseline file to write.")],
    seeds: Annotated[int, typer.Option(help="How many seeds to run; at least 5, more see smaller changes.")] = 10,
    runs: Annotated[Path | None, typer.Option("--runs", help="Where runs go; default runs/<name>-baseline.")] = None,
    overrides: Overrides = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda:N.")] = "auto",
    statistic: Annotated[str | None, typer.Option(help="What decides, such as auc, guesses or tpr@0.01.")] = None,
    commit: Annotated[str | None, typer.Option(help="The commit to note; default from the CI.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Run an audit with several seeds and write their baseline. Running it again resumes."""
    from .comparison.command import update_command
    from .comparison.seeds import run_seeds

    made = run_seeds(suite_path(audit), seeds, runs, overrides or [], device=device_name(device), quiet=quiet)
    raise typer.Exit(update_command(out, made, statistic=statistic, commit=commit))


@app.command()
def selftest(
    trials: Annotated[int, typer.Option(help="Simulated audits a cell.")] = 2000,
    thorough: Annotated[bool, typer.Option("--thorough", help="At least 100000 trials at the judging level.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the simulations.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Measure every bound's false-claim rate and power on mechanisms of known epsilon."""
    from .seeds import Seeds
    from .selftest import run_selftest
    from .show import print_selftest

    report = run_selftest(trials=trials, seeds=Seeds(seed).at("selftest"), thorough=thorough)
    if as_json:
        print_json(report.to_json())
    else:
        print_selftest(report)
    raise typer.Exit(0 if report.passed else 1)


@app.command()
def bench(
    suite: Annotated[str, typer.Argument(help="A suite; `leakgauge list suites`.")],
    out: Annotated[Path | None, typer.Option("--out", help="Where results go; default runs/bench-<suite>.")] = None,
) -> None:
    """Run a benchmark suite by name."""
    from .registry import SUITES

    if suite in toml_suites():
        run(Path(suite), out=out)
    code = SUITES.load(suite)(out or Path("runs") / f"bench-{suite}")
    raise typer.Exit(int(code or 0))


@app.command()
def report(
    runs: Annotated[
        list[Path] | None, typer.Argument(help="A run's folder or audit.json; several give one comparison page.")
    ] = None,
    formats: Annotated[
        str, typer.Option("--format", help="Comma-separated: html, md, junit, sarif, github, model-card.")
    ] = "html,md",
    reveal: Annotated[
        bool, typer.Option("--reveal", help="Show masked content; stamps the file as personal data.")
    ] = False,
    language: Annotated[str, typer.Option(help="Language of html and md: en or zh.")] = "en",
    out: Annotated[Path | None, typer.Option("--out", help="A folder; for a comparison a file.")] = None,
    trend: Annotated[Path | None, typer.Option("--trend", help="A folder of baselines: adds their trend.")] = None,
    attest: Annotated[
        Path | None, typer.Option("--attest", metavar="WHO.toml", help="Who vouches: writes attestation.json.")
    ] = None,
    sign: Annotated[
        Path | None, typer.Option("--sign", metavar="KEY.pem", help="Ed25519 key: signs audit.json and attestation.")
    ] = None,
    track: Annotated[str | None, typer.Option("--track", help="Also send the figures to mlflow or trackio.")] = None,
) -> None:
    """Render the report again from stored results, or compare several runs on one page."""
    from .report_command import ReportRequest, report_runs

    if not runs and trend is None:
        raise ConfigError("report: name a run's folder, or --trend FOLDER")
    wanted = tuple(f.strip() for f in formats.split(","))
    request = ReportRequest(runs or [], wanted, reveal, language, out, trend, attest, sign, track)
    written = report_runs(request)
    for path in written:
        typer.echo(str(path))
    if "github" in wanted and runs and len(runs) == 1:
        from .comparison.github import show_in_job

        show_in_job(runs[0], next(p for p in written if p.name == "summary.md"), language=language)


@app.command()
def verify(
    run_: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, or its audit.json.")],
    key: Annotated[Path | None, typer.Option("--key", metavar="PUBLIC.pem", help="The signer's public key.")] = None,
) -> None:
    """Check digests, attestation and signatures of a run; exit code 1 when anything does not match."""
    from .report_command import verify_lines

    lines, good = verify_lines(run_, key)
    for line in lines:
        typer.echo(line)
    raise typer.Exit(0 if good else 1)


@app.command("list")
def list_names(
    kind: Annotated[str, typer.Argument(help="trainers, attacks, bounds, datasets, suites or rules.")],
    as_json: AsJson = False,
) -> None:
    """Names that configurations and commands understand."""
    names = known_names(kind)
    if as_json:
        print_json(names)
    else:
        for name in names:
            typer.echo(name)


@app.command()
def show(name: Annotated[str, typer.Argument(help="A trainer, attack, bound, dataset, suite or rule.")]) -> None:
    """What a name does and which parameters it takes."""
    from .show import describe_name

    typer.echo(describe_name(name))


@app.command()
def env(as_json: AsJson = False) -> None:
    """Versions and devices, for bug reports and for the record."""
    from .document import versions

    found: dict[str, Any] = versions(device_name("auto"))
    if as_json:
        print_json(found)
    else:
        for key, value in found.items():
            typer.echo(f"{key:14} {value}")


@store_app.command("ls")
def store_ls(folder: Annotated[Path, typer.Argument(help="A run's folder.")]) -> None:
    """Entries of a run's store: kind, key, size, what they were made by."""
    from .show import store_rows

    for row in store_rows(folder):
        typer.echo(row)


@store_app.command("explain")
def store_explain(
    folder: Annotated[Path, typer.Argument(help="A run's folder.")],
    key: Annotated[str, typer.Argument(help="A key, or how it begins.")],
) -> None:
    """Field by field, why the most similar other entry was not reused for this one."""
    from .show import explain_rows

    for row in explain_rows(folder, key):
        typer.echo(row)


@store_app.command("gc")
def store_gc(folder: Annotated[Path, typer.Argument(help="A run's folder.")]) -> None:
    """Delete what killed or damaged writes left behind. Complete entries stay."""
    from .store import KINDS, Store

    store = Store(run_folder(folder))
    keep = {p.name for kind in KINDS for p in store.entries(kind)}
    typer.echo(f"{store.collect(keep)} bytes freed")


def suite_path(audit: Path) -> Path:
    """The file itself, or the suite of that name that comes with LeakGauge."""
    if audit.is_file() or audit.suffix:
        return audit
    suites = toml_suites()
    if str(audit) in suites:
        return suites[str(audit)]
    from .registry import nearest

    raise ConfigError(f"no audit file and no suite {str(audit)!r}{nearest(str(audit), sorted(suites))}")


def toml_suites() -> dict[str, Path]:
    """Audit files that come with LeakGauge, by name."""
    folder = Path(__file__).resolve().parent.parent / "benchmarks" / "suites"
    return {p.stem: p for p in sorted(folder.glob("*.toml"))}


def known_names(kind: str) -> list[str]:
    """Names of one kind of plug-in, suites with their audit files, or rules."""
    from . import registry
    from .rules import RULES

    kinds: dict[str, Callable[[], list[str]]] = {
        "trainers": registry.TRAINERS.names,
        "attacks": registry.ATTACKS.names,
        "bounds": registry.BOUNDS.names,
        "datasets": registry.DATASETS.names,
        "suites": lambda: sorted({*registry.SUITES.names(), *toml_suites()}),
        "rules": lambda: sorted(RULES),
    }
    if kind not in kinds:
        raise ConfigError(f"list: unknown kind {kind!r}{registry.nearest(kind, list(kinds))}")
    return kinds[kind]()


def count_options(arguments: list[str]) -> dict[str, object]:
    """`--true-positives 90` and `--family=gaussian` to `{"true_positives": 90, "family": "gaussian"}`."""
    found: dict[str, object] = {}
    words = [w for a in arguments for w in (a.split("=", 1) if a.startswith("--") else [a])]
    for name, value in zip(words[::2], words[1::2], strict=False):
        if not name.startswith("--"):
            raise ConfigError(f"bound: expected an option such as --canaries, got {name!r}")
        found[name[2:].replace("-", "_")] = number(value)
    if len(words) % 2:
        raise ConfigError(f"bound: option {words[-1]} has no value")
    return found


def number(text: str) -> object:
    """An integer, else a float, else the text itself."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def choice(kind: Any, value: str, option: str) -> Any:
    """A member of an enumeration by its value; `ConfigError` with the choices otherwise."""
    try:
        return kind(value)
    except ValueError:
        raise ConfigError(f"{option} {value!r} is unknown; choose from {', '.join(m.value for m in kind)}") from None


def device_name(device: str) -> str:
    """`auto` to the best device there is; anything else is checked by name."""
    if device == "cpu":
        return device
    import torch

    if device == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    if not device.startswith("cuda"):
        raise ConfigError(f"--device {device!r} is unknown; use auto, cpu or cuda:N")
    if not torch.cuda.is_available():
        from .errors import PrerequisiteError

        raise PrerequisiteError(f"--device {device}: torch finds no CUDA device; use --device cpu")
    return device


def run_folder(path: Path) -> Path:
    """A run's folder, given it or its audit.json."""
    folder = path.parent if path.is_file() else path
    if not folder.is_dir():
        raise ConfigError(f"{path}: no such run folder")
    return folder


def print_json(document: Any) -> None:
    """One JSON document on standard output; infinities and NaN never appear."""
    print(json.dumps(document, indent=1, allow_nan=False))
