"""The tables of all stages on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from koembed.metrics import Interval
from koembed.report.metrics import SIGNS, Stage, sign
from koembed.report.plots import signed

COLUMNS = {
    "similar": "similar\n↑",
    "different": "differ-\nent ↓",
    "discrimination": "dis-\ncrim. ↑",
    "auc": "AUC\n↑",
    "spearman": "Spear-\nman ↑",
    "ko_en": "ko→en\n↑",
    "en_ko": "en→ko\n↑",
}
COMPARED = {  # by paired bootstrap
    "discrimination": "discrimination",
    "auc": "AUC",
    "spearman": "Spearman",
    "ko_en": "ko→en",
    "en_ko": "en→ko",
}


def print_table(results: Mapping[str, Any], console: Console) -> None:
    """All stages: values over half the width of their 95 % bootstrap intervals; then what each stage gained."""
    stages = results["stages"]
    table = _table("stage", COLUMNS.values())
    for stage in stages:
        table.add_row("\n".join(_names(stage)), *(_cell(stage[name]) for name in COLUMNS))
    console.print(table)
    tokens = ", ".join(f"{stage['tokens_per_word']:.2f}" for stage in stages)
    console.print(f"tokens a word, in this order: {tokens}")
    console.print("[dim]KoPairs test and held-out translations; ± half a 95 % bootstrap interval[/]")
    console.print("[dim]retrieval, of translations and passages: with the retrieval adapter where there is one[/]")
    _print_files(stages, console)
    if len(stages) > 1:
        _print_gains(stages[1:], console)


def _print_files(stages: Sequence[Stage], console: Console) -> None:
    """A row for each file that was named to be measured on, if any."""
    table = _table("files", (_names(stage)[0] for stage in stages))
    for kind, metric in (("sts", "Spearman"), ("passages", "nDCG@10")):
        for name in stages[0][kind]:
            table.add_row(f"{name}\n[dim]{metric} ↑[/]", *(_cell(stage[kind][name]) for stage in stages))
    if table.row_count:
        console.print(table)


def _print_gains(stages: Sequence[Stage], console: Console) -> None:
    """A row a metric: what each stage gained on the stage before, and whether that is sure."""
    table = _table("gain on the stage before", (_names(stage)[0] for stage in stages))
    for name, label in COMPARED.items():
        table.add_row(label, *(_gain(stage["gain"][name]) for stage in stages))
    for kind in ("sts", "passages"):
        for name in stages[0]["gain"][kind]:
            table.add_row(name, *(_gain(stage["gain"][kind][name]) for stage in stages))
    console.print(table)
    console.print("[dim]paired bootstrap, 95 %: ▲ sure gain, ▼ sure loss, ≈ not told apart[/]")


def _table(first: str, headings: Iterable[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column(first, min_width=12)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _names(stage: Stage) -> list[str]:
    return ["base"] if stage["stage"] < 0 else [f"stage {stage['stage']}", stage["name"]]


def _cell(interval: Mapping[str, float]) -> str:
    half = f"{(interval['high'] - interval['low']) / 2:.3f}".removeprefix("0")
    return f"{interval['value']:.3f}\n[dim]±{half}[/]"


def _gain(interval: Mapping[str, float]) -> str:
    """
    >>> _gain({"value": 0.0123, "low": 0.004, "high": 0.02})
    '+0.012 ▲'
    """
    return f"{signed(interval['value'])} {SIGNS[sign(Interval(**interval))]}"
