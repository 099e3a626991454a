"""The tables on the terminal: every stage, file and gain, on 80 characters."""

import io

from rich.console import Console

from koembed.report.table import COLUMNS, print_table


def interval(value: float, half: float = 0.01) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half}


def stage(number: int, files: dict[str, dict[str, dict[str, float]]]) -> dict:
    measured = {name: interval(0.1 * (number + 2) + 0.01 * place) for place, name in enumerate(COLUMNS)}
    return {"stage": number, "name": "SimCSE", "tokens_per_word": 1.5, **measured, **files}


def printed(stages: list[dict]) -> list[str]:
    output = io.StringIO()
    print_table({"stages": stages}, Console(file=output, width=80))
    return [line.rstrip() for line in output.getvalue().splitlines()]


def test_the_base_alone_has_one_table():
    lines = printed([stage(-1, {"sts": {}, "passages": {}})])
    assert [line.split() for line in lines if " base" in line] == [
        ["base", "0.100", "0.110", "0.120", "0.130", "0.140", "0.150", "0.160"]
    ]
    assert not any("gain" in line or "files" in line for line in lines)


def test_files_and_gains_are_listed_by_name():
    files = {"sts": {f"sts_{number}": interval(0.7) for number in range(9)}, "passages": {"title_body": interval(0.8)}}
    last = stage(1, files)
    last["gain"] = {
        "discrimination": interval(0.05),
        "auc": interval(-0.05),
        "spearman": interval(0.001),
        "ko_en": interval(0.01),
        "en_ko": interval(0.03),
        "sts": {name: interval(0.02) for name in files["sts"]},
        "passages": {"title_body": interval(0.04)},
    }
    lines = printed([stage(-1, files), last])
    assert max(map(len, lines)) <= 80
    assert sum("sts_8" in line for line in lines) == 2
    rows = {" ".join(line.split()) for line in lines}
    assert {"title_body 0.800 0.800", "nDCG@10 ↑ ±.010 ±.010", "sts_8 0.700 0.700"} <= rows
    assert {"discrimination +0.050 ▲", "AUC −0.050 ▼", "Spearman +0.001 ≈", "sts_8 +0.020 ▲"} <= rows
    assert {"ko→en +0.010 ≈", "en→ko +0.030 ▲", "title_body +0.040 ▲"} <= rows
