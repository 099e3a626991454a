"""The table of all stages on the terminal."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

COLUMNS = {
    "similar": "similar\n↑",
    "different": "differ-\nent ↓",
    "discrimination": "dis-\ncrim. ↑",
    "auc": "AUC\n↑",
    "spearman": "Spear-\nman ↑",
    "ko_en": "ko→en\n↑",
    "en_ko": "en→ko\n↑",
}


def print_table(results: dict[str, Any], console: Console) -> None:
    """One row a stage: values, and below them half the width of their 95 % bootstrap intervals."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("stage", min_width=12)
    files = [(kind, name) for kind in ("sts", "passages") for name in results["stages"][0][kind]]
    headings = [*COLUMNS.values(), *(_file_heading(name) for _, name in files)]
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for stage in results["stages"]:
        cells = [_cell(stage[name]) for name in COLUMNS] + [_cell(stage[kind][name]) for kind, name in files]
        label = "base" if stage["stage"] < 0 else f"stage {stage['stage']}\n{stage['name']}"
        table.add_row(label, *cells)
    console.print(table)
    tokens = ", ".join(f"{stage['tokens_per_word']:.2f}" for stage in results["stages"])
    console.print(f"tokens a word, in this order: {tokens}")
    console.print("[dim]KoPairs test and held-out translations; ± half a 95 % bootstrap interval[/]")


def _file_heading(name: str) -> str:
    """Two short lines out of a file's name.

    >>> _file_heading("sts_dev_korsts")
    'dev\\nkorsts ↑'
    """
    first, _, rest = name.removeprefix("sts_").partition("_")
    return f"{first[:8]}\n{rest[:8]} ↑"


def _cell(interval: dict[str, float]) -> str:
    half = f"{(interval['high'] - interval['low']) / 2:.3f}".removeprefix("0")
    return f"{interval['value']:.3f}\n[dim]±{half}[/]"
