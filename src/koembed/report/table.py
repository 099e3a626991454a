"""The table of all stages on the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

COLUMNS = {
    "similar": "similar ↑",
    "different": "different ↓",
    "discrimination": "discrimination ↑",
    "auc": "AUC ↑",
    "spearman": "Spearman ↑",
    "ko_en": "ko→en ↑",
    "en_ko": "en→ko ↑",
}


def print_table(results: dict[str, Any], console: Console) -> None:
    """One row a stage; every value with its 95 % bootstrap interval below it."""
    table = Table(title="KoPairs test, held-out translations; 95 % bootstrap intervals", title_justify="left")
    table.add_column("stage")
    sts = list(results["stages"][0]["sts"])
    for heading in (*COLUMNS.values(), *(f"{name} ↑" for name in sts), "tokens/word ↓"):
        table.add_column(heading, justify="right", no_wrap=True)
    for stage in results["stages"]:
        cells = [_cell(stage[name]) for name in COLUMNS] + [_cell(stage["sts"][name]) for name in sts]
        name = stage["name"] if stage["stage"] < 0 else f"{stage['stage']} {stage['name']}"
        table.add_row(name, *cells, f"{stage['tokens_per_word']:.2f}")
    console.print(table)


def _cell(interval: dict[str, float]) -> str:
    return f"{interval['value']:.3f}\n[dim]{interval['low']:.3f}–{interval['high']:.3f}[/]"
