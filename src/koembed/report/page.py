"""The report: one self-contained HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from koembed.config import Config


def write_report(path: Path, config: Config, results: dict[str, Any]) -> None:
    """placeholder until the report is in."""
