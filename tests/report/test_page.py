"""The report page: whole, well-formed, complete, and free of what is missing."""

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from koembed.config import Config, load_config
from koembed.report.page import write_report
from koembed.report.plots import Axis, axis_over, density
from koembed.training.gate import Scores, choose
from koembed.vocab.expand import Expansion, Size
from koembed.vocab.knee import Curve

NAMES = ("base", "expanded vocabulary", "<Sim & CSE>", "bottleneck")


def interval(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.011, "high": value + 0.012}


def stage(number: int) -> dict:
    """A stage whose every value is its own and grows with the stage."""
    up = 0.1 * (number + 1)
    metrics = ("similar", "different", "discrimination", "auc", "auc_hard", "auc_plain", "spearman", "ko_en", "en_ko")
    return {
        "stage": number,
        "name": NAMES[number + 1],
        "id": f"id{number}",
        **{name: interval(0.1013 + 0.05 * place + up) for place, name in enumerate(metrics)},
        "cosines": {"similar": [0.5 + up, 0.6, 0.7], "hard": [0.4, 0.5, 1.0000001], "plain": [-0.1, 0.1]},
        "sts": {"korsts": interval(0.6071 + up)},
        "passages": {"title_body": interval(0.5503 + up)},
        "probes": {"all": interval(0.5), "roles": interval(0.3 + up), "speech_level": interval(0.4)},
        "tokens_per_word": 5.25 - number,
    }


def results(stages: int) -> dict:
    return {"settings": {"bootstrap": 250}, "stages": [stage(number - 1) for number in range(stages)]}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return load_config(None, [f"root={tmp_path}", "model.base=pypi:tiny"])


def scores(discrimination: float, spearman: float = 0.5, english: float = 0.99) -> Scores:
    return Scores(spearman=spearman, auc=0.8, discrimination=discrimination, retrieval=0.6, english=english)


def write_notes(config: Config, number: int, *tried: Scores) -> None:
    """What a stage notes that was tried at equal steps from 0 to 1."""
    steps = len(tried) - 1
    verdict = choose(lambda alpha: tried[round(alpha * steps)], steps, english_floor=0.9)
    place = config.stage(number)
    place.mkdir(parents=True, exist_ok=True)
    gate = {"weights": verdict.as_dict()}
    notes = {"stage": number, "id": f"id{number}", "parent": None, "seconds": 61.0, "gate": gate}
    (place / "stage.json").write_text(json.dumps(notes), encoding="utf-8")


def write_expansion(config: Config, curve: Curve | None = None) -> None:
    config.stage(0).mkdir(parents=True, exist_ok=True)
    tokens = ["##습니다", "<b>", *(f"토큰{index}" for index in range(100))]
    expansion = Expansion(
        tokens=tokens,
        first_new_row=20_000,
        trimmed=4_321,
        initializer="semantic",
        size=(Size(24_321, 2_600_000), Size(20_102, 2_300_000)),
        fertility=(4.0, 1.0),
        unknown=(0.25, 0.0),
        scaffolding=7,
        unreachable=0.0,
        curve=curve,
    )
    (config.stage(0) / "expansion.json").write_text(json.dumps(expansion.report()), encoding="utf-8")


def written(config: Config, content: dict) -> tuple[str, ET.Element]:
    """The page as text and, since it is XML as well as HTML, parsed strictly."""
    path = config.root / "report.html"
    write_report(path, config, content)
    page = path.read_text(encoding="utf-8")
    return page, ET.fromstring(page)


def texts(tree: ET.Element) -> list[str]:
    return [text.strip() for text in tree.itertext() if text.strip()]


def headings(tree: ET.Element) -> list[str]:
    return [heading.text or "" for heading in tree.iter("h2")]


def test_every_stage_and_value_is_on_the_page(config: Config) -> None:
    content = results(3)
    _, tree = written(config, content)
    shown = texts(tree)
    assert {"tiny, made Korean", "stage 0", "stage 1", "expanded vocabulary", "<Sim & CSE>"} <= set(shown)
    for one in content["stages"]:
        for name in ("similar", "different", "discrimination", "auc", "auc_hard", "auc_plain", "spearman", "ko_en"):
            assert f"{one[name]['value']:.3f}" in shown
            assert f"{one[name]['low']:.3f} to {one[name]['high']:.3f}" in shown
        assert f"{one['sts']['korsts']['value']:.3f}" in shown
        assert f"{one['passages']['title_body']['value']:.3f}" in shown
        assert f"{one['tokens_per_word']:.2f}" in shown
    assert any("250 bootstrap resamples" in text for text in shown)


def test_nothing_is_fetched_and_the_page_is_small(config: Config) -> None:
    page, tree = written(config, results(3))
    assert not re.search(r"https?:|url\(|@import|<script|<link|<img", page)
    assert not [element for element in tree.iter() if {"src", "href"} & set(element.attrib)]
    assert len(page.encode()) < 600_000


def test_the_verdict_says_better_worse_and_unsure(config: Config) -> None:
    content = results(2)
    content["stages"][1]["auc"] = interval(0.1)
    content["stages"][1]["spearman"] = content["stages"][0]["spearman"]
    _, tree = written(config, content)
    lede = "".join(next(p for p in tree.iter("p") if p.get("class") == "lede").itertext())
    assert lede.startswith(
        "Against the untouched base, stage 0 (expanded vocabulary) is better in Spearman on korsts ("
    )
    assert "is worse in AUC (0.251 → 0.100)" in lede
    assert "shows no sure change in Spearman on KoPairs (" in lede
    assert lede.endswith("and uses 6.25 → 5.25 tokens a word.")


def test_the_verdict_goes_by_the_paired_gain_on_the_base(config: Config) -> None:
    """Intervals that overlap by far may still differ for sure on the same pairs."""
    content = results(2)
    base, last = content["stages"]
    last["auc"] = {**base["auc"], "value": base["auc"]["value"] + 0.01}
    last["gain_on_base"] = {"auc": {"value": 0.01, "low": 0.005, "high": 0.015}}
    _, tree = written(config, content)
    lede = "".join(next(p for p in tree.iter("p") if p.get("class") == "lede").itertext())
    assert "is better in" in lede
    assert "AUC (" in lede.split("is better in")[1].split(";")[0]


def test_the_base_alone(config: Config) -> None:
    _, tree = written(config, results(1))
    assert "The gate" not in headings(tree)
    assert "Vocabulary" not in headings(tree)
    assert any(text.startswith("So far only the untouched base is measured") for text in texts(tree))


def test_parts_that_are_missing_are_left_out(config: Config) -> None:
    content = results(2)
    for one in content["stages"]:
        one.update(sts={}, passages={}, probes={}, cosines={})
    _, tree = written(config, content)
    assert headings(tree) == ["All stages", "The ladder", "Settings and environment"]
    assert not any("korsts" in text or "nDCG" in text for text in texts(tree))


def test_a_stage_left_out_says_so_and_why(config: Config) -> None:
    content = results(3)
    content["stages"][2]["cosines"] = content["stages"][1]["cosines"]
    write_notes(config, 1, scores(0.3), scores(0.2, 0.6), scores(0.1, 0.7), scores(0.4, 0.4), scores(0.4, 0.6, 0.5))
    _, tree = written(config, content)
    shown = texts(tree)
    assert "Left out (α 0): the model stays as it was" in shown
    assert "; discrimination fell at α 0.25, 0.5; Spearman fell at α 0.75; English fell below 0.90 at α 1." in shown
    assert "the same as stage 0" in shown
    assert "left out (α 0)" in shown


def test_a_stage_that_is_kept(config: Config) -> None:
    write_notes(config, 0, scores(0.3), scores(0.4, 0.7), scores(0.5, 0.6))
    _, tree = written(config, results(2))
    assert "Kept at α 0.5" in texts(tree)
    assert "; no other strength was better." in texts(tree)
    assert "61 s" in texts(tree)


def test_the_vocabulary_is_shown_and_escaped(config: Config) -> None:
    write_expansion(config)
    _, tree = written(config, results(2))
    chips = ["".join(chip.itertext()) for chip in tree.iter("li")]
    assert chips[:3] == ["##습니다", "<b>", "토큰0"]
    assert len(chips) == 60
    shown = texts(tree)
    assert {"102", "first rows: semantic; 7 only build longer ones", "4,321"} <= set(shown)
    assert {"24,321 → 20,102", "2.6 → 2.3 M", "−12%"} <= set(shown)
    assert {"4.00 → 1.00", "0.250 → 0.000", "75% fewer"} <= set(shown)
    assert not any("held-out text" in text for text in shown)


def test_the_curve_is_shown_with_its_knee(config: Config) -> None:
    write_expansion(config, Curve([0, 1000, 2000, 3000, 4000], [100, 60, 40, 35, 32]))
    _, tree = written(config, results(2))
    assert "2,000 tokens were learned from the corpus" in texts(tree)
    plot = next(svg for svg in tree.iter("svg") if "held-out" in svg.get("aria-label", ""))
    assert [text.text for text in plot.iter("text") if text.get("class") != "level"] == ["0", "2,000", "4,000"]
    assert plot.get("aria-label", "").endswith("40.0% are left at 2,000, the knee")


def test_a_curve_without_a_knee_is_left_out(config: Config) -> None:
    for curve in (Curve([0], [10]), Curve([0, 1], [10, 10]), Curve([0, 1], [0, 0])):
        write_expansion(config, curve)
        page, _ = written(config, results(2))
        assert "curve bends" not in page


def test_gains_are_sure_lost_or_not_told_apart(config: Config) -> None:
    content = results(4)
    gains = {1: (0.05, 0.02, 0.08), 2: (-0.05, -0.08, -0.02), 3: (0.01, -0.01, 0.03)}
    for number, (value, low, high) in gains.items():
        content["stages"][number]["gain"] = {"auc": {"value": value, "low": low, "high": high}, "sts": {}}
    _, tree = written(config, content)
    assert "What each stage gained" in headings(tree)
    (plot,) = (svg for svg in tree.iter("svg") if ", gains: " in svg.get("aria-label", ""))
    changes = {text.text: text.get("class") for text in plot.iter("text") if "change" in text.get("class", "")}
    assert changes == {"▲ +0.050": "change gained", "▼ −0.050": "change lost", "≈ +0.010": "change unsure"}


def test_axes_hold_all_values_and_do_not_blow_noise_up() -> None:
    for values in ([0.0, 1.0], [-0.24, 0.28], [0.7001, 0.7002], [0.5], [-1.0, 1.0]):
        axis = axis_over(values)
        assert axis.low <= min(values) <= max(values) <= axis.high
        assert axis.high - axis.low >= 0.1 - 1e-9
        assert len(axis.ticks) <= 7


def test_a_density_has_area_one_below_the_end_of_the_axis() -> None:
    places, heights = density([0.9, 0.95, 0.99, 0.7], Axis(-1.0, 1.0, (-1.0, 1.0)))
    assert heights.sum() * (places[1] - places[0]) == pytest.approx(1.0, abs=0.05)
