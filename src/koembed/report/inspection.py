"""What ``koembed inspect`` prints: a table of the figures, and the gates."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from koembed.vocab.inspect import Gate, Inspection

Format = Callable[[Any], str]
EXAMPLE = 48  # characters shown


def _count(value: int) -> str:
    return f"{value:,}"


def _decimal(value: float) -> str:
    return f"{value:.3f}"


def _share(value: float) -> str:
    """Per cent; what is not quite nothing does not look like nothing.

    >>> _share(0.0), _share(0.00001), _share(0.5)
    ('0.00%', '<0.01%', '50.00%')
    """
    return "<0.01%" if 0 < value < 1e-4 else f"{value:.2%}"


# Heading: label, figure, format.
TABLE: dict[str, list[tuple[str, str, Format]]] = {
    "text": [
        ("tokens a word", "tokens_per_word", _decimal),
        ("bytes a token", "bytes_per_token", _decimal),
        ("Rényi efficiency (α 2.5)", "renyi_efficiency", _decimal),
        ("tokens that are unknown", "unknown", _share),
        ("tokens that are bytes", "partial", _share),
        ("texts that decode to themselves", "round_trip", _share),
        ("texts with the same ids in NFD as in NFC", "nfd_same", _share),
        ("tokens a word in NFD", "nfd_tokens_per_word", _decimal),
    ],
    "vocabulary": [
        ("family", "family", str),
        ("tokens", "tokens", _count),
        ("  for parts of characters", "partial", _count),
        ("  that no text produces", "unreachable", _share),
        ("rows", "rows", _count),
        ("  dead", "dead_rows", _count),
    ],
    "pooling": [
        ("pooling", "modes", lambda modes: " + ".join(modes) or "none"),
        ("padding", "padding_side", str),
        ("a text begins with", "first", lambda token: token or "its own tokens"),
        ("a text ends with", "last", lambda token: token or "its own tokens"),
        ("change of a vector by padding", "padding_changes", lambda change: "-" if change is None else f"{change:.0e}"),
    ],
}
CHANGE: list[tuple[str, str, Format]] = [
    ("tokens added", "added", _count),
    ("  used on the texts", "added_used", _share),
    ("  that no text produces", "added_unreachable", _share),
    ("  for parts of characters", "added_partial", _count),
    ("  with dead rows", "added_dead_rows", _count),
    ("tokens dropped", "dropped", _count),
    ("tokens kept that no text produces", "kept_unreachable", _share),
    ("texts that grew", "longer", _share),
    ("English texts changed", "english_changed", _share),
    ("  given up with dropped tokens", "english_dropped", _share),
    ("code lines changed", "code_changed", _share),
    ("  given up with dropped tokens", "code_dropped", _share),
]


def print_inspection(found: Inspection, names: dict[str, str | None], console: Console, as_json: bool = False) -> bool:
    """Print the table, the gates, and last the JSON line if wanted (then no table); whether all gates hold.

    Args:
        names: what was inspected, by JSON key.
    """
    if not as_json:
        console.print(_table(found))
    if found.change is not None and found.change["renumbered"]:
        console.print("Ids were renumbered: texts are compared by tokens, special tokens by role.")
    for gate in found.gates:
        console.print(_line(gate), markup=False, soft_wrap=True)
    if as_json:
        line = json.dumps({**names, **found.figures()}, ensure_ascii=False)
        console.print(line, markup=False, soft_wrap=True)
    return found.passed


def _line(gate: Gate) -> str:
    """One line, whether the gate holds or not.

    >>> _line(Gate("ids without a row", 2, "##은"))
    'FAILED  2 ids without a row, for example: ##은'
    """
    if not gate.count:
        return f"ok      0 {gate.what}"
    example = gate.example if len(gate.example) <= EXAMPLE else gate.example[:EXAMPLE] + "…"
    return f"FAILED  {gate.count:,} {gate.what}, for example: {example}"


def _table(found: Inspection) -> Table:
    sides = [found.model] if found.base is None else [found.base, found.model]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column(f"{found.model['text']['texts']:,} Korean texts", no_wrap=True)
    for heading in ["base", "model"][-len(sides) :]:
        table.add_column(heading, justify="right", min_width=12)
    for group, lines in TABLE.items():
        for label, key, form in lines:
            table.add_row(label, *(form(side[group][key]) for side in sides))
        table.add_section()
    if found.change is not None:
        for label, key, form in CHANGE:
            table.add_row(label, "", form(found.change[key]))
    return table
