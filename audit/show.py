"""What commands print for people; machines take `--json`."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import ConfigError
from .types import Bound

if TYPE_CHECKING:
    from .scores import ScoreAudit
    from .selftest import SelftestReport


def table(title: str, columns: list[str], rows: list[list[Any]]) -> None:
    """A table on standard output, as wide as the terminal allows; numbers right-aligned."""
    from rich.console import Console
    from rich.table import Table

    grid = Table(title=title, title_justify="left")
    numeric = [all(isinstance(r[i], int | float | None) for r in rows) for i in range(len(columns))]
    for name, right in zip(columns, numeric, strict=True):
        grid.add_column(name, justify="right" if right else "left", overflow="fold")
    for row in rows:
        grid.add_row(*[text(cell) for cell in row])
    Console().print(grid)


def text(value: Any) -> str:
    """A cell: numbers to four significant digits, nothing for None."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def print_bound(bound: Bound) -> None:
    """One bound in words."""
    print(f"epsilon >= {bound.epsilon:.5f} at delta {bound.delta:g} with {bound.confidence:.4g} confidence")
    print(f"  method {bound.method}, {bound.validity}, null class {bound.null_class}, selection {bound.selection}")
    print(f"  a perfect attack on this design could certify at most {bound.ceiling:.5f}")


def print_accounts(accounts: Mapping[str, Any]) -> None:
    """Theoretical epsilons; those that bound nothing are marked."""
    loose = accounts.get("not_upper_bounds", [])
    rows = [
        [k, v, "not an upper bound" if k in loose else "upper bound"]
        for k, v in accounts.items()
        if k in {"pld", "prv", "rdp", "gdp"}
    ]
    table("theoretical epsilon", ["accountant", "epsilon", ""], rows)


def print_metrics(metrics: Mapping[str, Any]) -> None:
    """AUC and TPR at low FPR with intervals."""
    rows = [["AUC", *(metrics["auc"][k] for k in ("value", "low", "high"))]]
    rows += [
        [f"TPR at FPR {fpr}", *(r[k] for k in ("value", "low", "high"))] for fpr, r in metrics["tpr_at_fpr"].items()
    ]
    table("attack metrics", ["metric", "value", "low", "high"], rows)


def print_score(result: ScoreAudit) -> None:
    """Metrics, bounds and verdict of `leakgauge score`."""
    print_metrics(result.metrics)
    for bound in result.bounds:
        print_bound(bound)
    if not result.bounds:
        print("no bound: how membership was decided is unknown (give --design coin or --design runs if it applies)")
    from .verdict import REASONS

    reason = f": {REASONS[result.judgement.reason]}" if result.judgement.reason else ""
    print(f"verdict: {result.judgement.verdict}{reason}")


def print_plan(plan: Mapping[str, Any]) -> None:
    """Price and power of an audit."""
    table(
        f"{plan['name']}: price (seconds are a rough guess for one core)",
        ["trainer", "models", "steps a model", "seconds"],
        [[r["trainer"], r["models"], r["steps_a_model"], r["seconds"]] for r in plan["price"]],
    )
    table(
        "power at the judging confidence",
        ["trainer", "attack", "canaries", "guesses", "delta", "ceiling", "claim", "can refute"],
        [
            [
                p["trainer"],
                p["attack"],
                p["canaries"],
                p["guesses"],
                p["delta"],
                p["ceiling"],
                p["claim"],
                p["can_refute"],
            ]
            for p in plan["power"]
        ],
    )
    for p in plan["power"]:
        if p["advice"]:
            print(f"{p['trainer']} / {p['attack']}: cannot refute the claim; {p['advice']}")


def print_selftest(report: SelftestReport) -> None:
    """The table of the selftest and its verdict."""
    for line in report.table():
        print(line)
    if report.passed:
        print("selftest passed")
    elif all(cell.passed for cell in report.false_claims):
        print("selftest FAILED: a bound shows less than its method can; no bound claims too often")
    else:
        print("selftest FAILED: a bound claims more often than its nominal rate")


def describe_name(name: str) -> str:
    """Kind, docstring and parameters of a plug-in, rule or suite."""
    from . import registry
    from .cli import toml_suites
    from .rules import RULES

    if name in RULES:
        return f"rule {name}\n\n{RULES[name]}"
    if name in toml_suites():
        return toml_suites()[name].read_text(encoding="utf-8")
    kinds = (registry.TRAINERS, registry.ATTACKS, registry.BOUNDS, registry.DATASETS, registry.SUITES)
    for kind in kinds:
        if name in kind.names():
            return _describe(kind.kind.rstrip("s"), name, kind.load(name))
    known = sorted({n for kind in kinds for n in kind.names()} | set(RULES) | set(toml_suites()))
    raise ConfigError(f"show: unknown name {name!r}{registry.nearest(name, known)}")


def _describe(kind: str, name: str, plug: Any) -> str:
    lines = [f"{kind} {name}", "", inspect.cleandoc(plug.__doc__ or "")]
    if inspect.isclass(plug):
        parameters = inspect.signature(plug).parameters.values()
        lines += ["", "Parameters:" if parameters else "No parameters."]
        lines += [f"  {_parameter(p)}" for p in parameters]
    return "\n".join(lines)


def _parameter(parameter: inspect.Parameter) -> str:
    annotation = "" if parameter.annotation is parameter.empty else f": {parameter.annotation}"
    default = parameter.default
    if default is parameter.empty:
        return f"{parameter.name}{annotation} (required)"
    if default is dataclasses.MISSING or type(default).__name__ == "_HAS_DEFAULT_FACTORY_CLASS":
        return f"{parameter.name}{annotation}"
    return f"{parameter.name}{annotation} = {default!r}"


def store_rows(folder: Path) -> Iterator[str]:
    """One line an entry: kind, short key, size, and what it was made by."""
    from .cli import run_folder
    from .store import KINDS, Store, read_inputs, size_of

    store = Store(run_folder(folder))
    for kind in KINDS:
        for entry in store.entries(kind):
            inputs = read_inputs(entry)
            maker = inputs.get("trainer", {}).get("class") or f"model {str(inputs.get('model', ''))[:12]}"
            path = inputs.get("seeds", {}).get("path")
            where = "/".join(map(str, path)) if path else ""
            yield f"{kind:8} {entry.name[:12]} {size_of(entry) / 1024:8.0f} kB  {maker}  {where}"


def explain_rows(folder: Path, key: str) -> Iterator[str]:
    """The most similar other entry, and the fields in which it differs."""
    from .cli import run_folder
    from .store import Store

    store = Store(run_folder(folder))
    entry = store.find(key)
    other, differences = store.explain(key)
    if other is None:
        yield f"{entry.parent.name}/{entry.name[:12]}: no other entry of this kind"
        return
    yield f"{entry.parent.name}/{entry.name[:12]} against {other.name[:12]}: {len(differences)} fields differ"
    for d in differences:
        yield f"  {d.field}: {_short(d.here)} here, {_short(d.there)} there"


def _short(value: Any) -> str:
    shown = json.dumps(value)
    return shown if len(shown) <= 40 else f"{shown[:37]}..."
