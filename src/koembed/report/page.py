"""The report: one self-contained HTML page, from results.json and the notes that the stages left.

Parts that are missing (a stage not made yet, no STS file) are left out of the page.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined

import koembed
from koembed.config import Config
from koembed.report import comparison, notes
from koembed.report.metrics import DETAILS, Stage, headline, long, on_all, short
from koembed.report.plots import number
from koembed.storage import write_whole

LIBRARIES = ("torch", "transformers", "sentence-transformers")


def write_report(path: Path, config: Config, results: dict[str, Any]) -> None:
    """Write the page, whole or not at all.

    Args:
        config: of the run; its stage directories are read for the vocabulary and the gate, where they exist.
        results: content of results.json.

    Raises:
        InputError: nothing can be written there, or a stage's notes are damaged.
    """
    source = files("koembed.report").joinpath("page.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    write_whole(path, environment.from_string(source).render(**_content(config, results)) + "\n")


def _content(config: Config, results: Mapping[str, Any]) -> dict[str, Any]:
    """What the template shows."""
    stages = results["stages"]
    noted = notes.read_notes(config, stages)
    left_out = {number for number, note in noted.items() if notes.is_left_out(note)}
    metrics = headline(stages)
    last = None if len(stages) == 1 else stages[-1]
    return {
        "base_name": config.model.base.removeprefix("pypi:"),
        "now": datetime.now().astimezone(),
        "verdict": comparison.verdict(stages, metrics),
        "resamples": results["settings"]["bootstrap"],
        "columns": [(short(stage), stage["name"], stage["stage"] in left_out) for stage in stages],
        "rows": [comparison.row(metric, stages) for metric in (*metrics, *on_all(DETAILS, stages))]
        + list(_costs(stages, noted)),
        "ladders": [comparison.ladder(metric, stages, left_out) for metric in metrics],
        "steps": comparison.steps(metrics, stages),
        "kinds": comparison.KINDS,
        "sizes": {kind: len(cosines) for kind, cosines in stages[0].get("cosines", {}).items()},
        "distributions": comparison.distributions(stages),
        "probes": comparison.probes(stages),
        "last": last and long(last),
        "vocabulary": last and notes.vocabulary(config.stage(0) / "expansion.json"),
        "gates": [gate for number in sorted(noted) for gate in notes.gates(noted[number])],
        "left_out": [long(stage) for stage in stages if stage["stage"] in left_out],
        "settings": yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
        "environment": _environment(),
    }


def _costs(stages: Sequence[Stage], noted: notes.Notes) -> Iterator[dict[str, Any]]:
    """Rows without intervals: tokens a word, time."""
    if all("tokens_per_word" in stage for stage in stages):
        meaning = "fertility on KoPairs test: what a text costs to encode and store"
        values = [number(stage["tokens_per_word"], 2) for stage in stages]
        yield comparison.plain_row("Tokens a word", "↓", meaning, values)
    if noted:
        times = [notes.duration(noted.get(stage["stage"], {}).get("seconds")) for stage in stages]
        yield comparison.plain_row("Time to make", "", "learning, training and gate together", times)


def _environment() -> dict[str, str]:
    """The machine and the versions that the page was written with."""
    return {
        "koembed": koembed.__version__,
        **{name: version(name) for name in LIBRARIES},
        "Python": platform.python_version(),
        "CPU": _cpu(),
        "System": f"{platform.system()} {platform.machine()}",
    }


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} ({len(names)} threads)" if names else platform.processor() or platform.machine()
