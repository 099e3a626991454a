"""The whole ladder, base to stage 3, on real bases and public data that the stages never saw.

    KOEMBED_DATA=DIR python benchmarks/ladder.py [--bases minilm e5] [--root runs/ladder]

Each base is one run of its recipe in ``configs/recipes``, trained on the directory's train files alone and measured on
KorSTS dev, English STS dev and the petitions of one month that none was trained on. Beside them: character TF-IDF on
the same petitions, and the first version's recipe for adapters (SimCSE at 3e-5 and 3e-4) with the same number of
examples, on top of the same stage 1. E5 learns from what MiniLM became, which is to come first. A killed run continues.
The last line printed is JSON; its seconds are those of the stages, as each has written them down, without the
evaluation.
"""

from __future__ import annotations

import argparse
import csv
import json
import lzma
import os
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from environment import environment
from rich.console import Console
from sklearn.feature_extraction.text import TfidfVectorizer

from koembed import pipeline
from koembed.adapters.model import adapted
from koembed.cli import keep_freed_memory, quiet_libraries
from koembed.config import Config, load_config
from koembed.corpus.data import load_bitext, load_passages
from koembed.errors import InputError
from koembed.evaluation.suites.stages import load_suite, measure
from koembed.metrics import ndcg, relevance
from koembed.storage import STAGE_FILE, read_json
from koembed.training.stages import Workshop, train_adapter

REPOSITORY = Path(__file__).parents[1]
RECIPES = {"minilm": "minilm-ko.yaml", "e5": "e5-small-ko.yaml", "smollm2": "smollm2-ko.yaml"}
KORSTS, ENGLISH, PETITIONS = "sts_dev_korsts", "sts_dev_english", "passages_test"
MACHINE_TRANSLATED = {"docs_dotnet", "docs_powershell"}
TECHNICAL = {"python", "powershell", "react", "tldr", "fastapi"}
MONTHS = {"test": {"2019-07"}, "select": {"2019-04"}, "train": {"2017-08", "2019-05", "2019-06"}}
SELECT = 500  # of each source of scored train pairs, held out for the gate, which ranks each
SELECT_PASSAGES = 250  # of 453: the gate reads them at every strength, and they are long
OLD_ADAPTERS = {"stage2": "3e-5", "stage3.language": "3e-4", "stage3.tasks.sts": "3e-4"}  # and their learning rates
OLD_RECIPE = [  # of the first version: SimCSE alone, on adapters
    *(
        f"{adapter}.{setting}"
        for adapter, rate in OLD_ADAPTERS.items()
        for setting in ("objectives={simcse: 1}", f"learning_rate={rate}", "activation=gelu", "batch_size=64")
    ),
    "evaluation.passages=[]",  # it had no task for them
]


def table(path: Path) -> Iterator[dict[str, str]]:
    """Rows of a packed table, whose quotation marks are text."""
    with lzma.open(path, "rt", encoding="utf-8", newline="") as lines:
        yield from csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)


def write(path: Path, header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """A table in the form that configs name."""
    path.write_text("\n".join("\t".join(row) for row in [header, *rows]) + "\n", encoding="utf-8")


def letters(text: str) -> str:
    """The text without its blanks."""
    return "".join(text.split())


def prepare(data: Path, folder: Path) -> None:
    """What the recipes name, out of the public files: texts people wrote, translations of every kind, petitions.

    Sentences of held-out petitions stand among the texts too; they are left out, so that nothing has seen them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    petitions = list(table(data / "title_body.tsv.xz"))
    for split, months in MONTHS.items():
        rows = [(row["title"], row["body"]) for row in petitions if row["month"] in months]
        rows = random.Random(0).sample(rows, SELECT_PASSAGES) if split == "select" else rows
        write(folder / f"passages_{split}.tsv", ("query", "passage"), rows)
    trained = [row for row in table(data / "text_ko.tsv.xz") if row["domain"] not in MACHINE_TRANSLATED]
    held_out = letters(" ".join(row["body"] for row in petitions if row["month"] not in MONTHS["train"]))
    texts = [(row["text"],) for row in trained if row["domain"] != "petition" or letters(row["text"]) not in held_out]
    write(folder / "texts.tsv", ("text",), texts)
    bitext = [(row["en"], row["ko"], row["source"]) for row in table(data / "parallel_en_ko.tsv.xz")]
    everyday = [pair[:2] for pair in bitext if pair[2] not in TECHNICAL]
    technical = [pair[:2] for pair in bitext if pair[2] in TECHNICAL]
    write(folder / "bitext_everyday.tsv", ("en", "ko"), everyday)
    write(folder / "bitext.tsv", ("en", "ko"), everyday + random.Random(0).sample(technical, len(everyday)))
    by_source: dict[str, list[tuple[str, ...]]] = {}
    for row in table(data / "sts_train.tsv.xz"):
        by_source.setdefault(row["source"], []).append((row["sentence1"], row["sentence2"], row["score"]))
    splits = {}
    for source, rows in by_source.items():
        random.Random(0).shuffle(rows)
        splits[f"select_{source}"] = rows[:SELECT]
    scored = [row for rows in by_source.values() for row in rows[SELECT:]]
    translations = {korean: english for english, korean, source in bitext if source == "stsb_train"}
    splits |= {"train": scored, "english": in_english(scored, translations)}
    for split, rows in splits.items():
        write(folder / f"pairs_{split}.tsv", ("sentence1", "sentence2", "score"), rows)
    for name in (KORSTS, ENGLISH):
        shutil.copyfile(data / f"{name}.tsv.xz", folder / f"{name}.tsv.xz")


def in_english(scored: list[tuple[str, ...]], translations: dict[str, str]) -> list[tuple[str, ...]]:
    """Of pairs whose sentences have a translation: both in English, and one of the two, in turns, beside Korean."""
    found = []
    for first, second, score in scored:
        if first in translations and second in translations:
            english = (translations[first], translations[second])
            mixed = (english[0], second) if len(found) % 4 else (first, english[1])
            found += [(*english, score), (*mixed, score)]
    return found


def recipe(base: str, root: Path, overrides: list[str]) -> Config:
    """A base's recipe, its data and its results below ``root``."""
    data = root / "data"
    measured = [
        f"evaluation.sts=[{data / KORSTS}.tsv.xz, {data / ENGLISH}.tsv.xz]",
        f"evaluation.passages=[{data / PETITIONS}.tsv]",
    ]
    config = load_config(
        REPOSITORY / "configs" / "recipes" / RECIPES[base], [f"root={root / base}", *measured, *overrides]
    )
    for name, sources in config.data:
        if isinstance(sources, list):
            setattr(config.data, name, [re.sub("^data/", f"{data}/", source) for source in sources])
    for training in (config.stage1, config.stage2, *config.stage3.adapters().values()):
        for names in (training.teachers, training.english_teachers):
            names[:] = [re.sub("^runs/minilm-ko/", f"{root / 'minilm'}/", name) for name in names]
    return config


def climb(base: str, root: Path, overrides: list[str], console: Console) -> dict[str, Any]:
    """One run of a recipe: what is measured of each stage, base first."""
    config = recipe(base, root, overrides)
    stages = pipeline.run(config, console)["stages"]
    ranking = [stage["sts"][KORSTS] for stage in stages]
    gains = [stage["gain"]["sts"][KORSTS] for stage in stages[1:]]
    return {
        "spearman": [round(found["value"], 4) for found in ranking],
        "interval": [[round(found[end], 4) for end in ("low", "high")] for found in ranking],
        "gain": [[round(found[part], 4) for part in ("value", "low", "high")] for found in gains],
        "discrimination": [round(stage["discrimination"]["value"], 4) for stage in stages],
        "english_retention": [
            round(stage["sts"][ENGLISH]["value"] / stages[0]["sts"][ENGLISH]["value"], 4) for stage in stages
        ],
        "ndcg10": [round(stage["passages"][PETITIONS]["value"], 4) for stage in stages],
        "seconds": round(sum(read_json(config.stage(number) / STAGE_FILE)["seconds"] for number in range(4))),
    }


def old_recipe(root: Path, overrides: list[str], console: Console) -> list[float]:
    """KorSTS dev of MiniLM's stages 2 and 3 by the first version's recipe, every adapter at full strength: no gate."""
    config = recipe("minilm", root, [*overrides, *OLD_RECIPE])
    shop = Workshop(config, console)
    scratch = root / "old" / pipeline.stage_id(config, 1)  # a killed run continues only on the stage 1 it began with
    suite = load_suite(config.evaluation, load_bitext(config.data.bitext_test, "test"))
    model = adapted(config.stage(1))
    train_adapter(shop, model, "bottleneck", config.stage2, scratch)
    found = [measure(model, suite)]
    train_adapter(shop, model, "language", config.stage3.language, scratch)
    train_adapter(shop, model, "sts", config.stage3.tasks["sts"], scratch)
    found.append(measure(model, suite))
    return [round(stage["sts"][KORSTS]["value"], 4) for stage in found]


def tfidf(folder: Path) -> float:
    """nDCG@10 of the petitions by character n-grams within words."""
    relevant, queries, passages = relevance(load_passages([folder / f"{PETITIONS}.tsv"]))
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 3), sublinear_tf=True).fit(passages)
    sides = [vectorizer.transform(side).toarray() for side in (queries, passages)]
    return round(float(np.mean(ndcg(*sides, relevant))), 4)


def main() -> None:
    """Run, and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bases", nargs="+", choices=RECIPES, default=["minilm", "e5"])
    parser.add_argument("--root", type=Path, default=Path("runs/ladder"))
    parser.add_argument("overrides", nargs="*", metavar="KEY.PATH=VALUE")
    arguments = parser.parse_args()
    if "KOEMBED_DATA" not in os.environ:
        parser.error("set KOEMBED_DATA to the directory of the public data")
    quiet_libraries()
    keep_freed_memory()
    root, console = arguments.root, Console(highlight=False)
    prepare(Path(os.environ["KOEMBED_DATA"]), root / "data")
    try:
        climbed = {base: climb(base, root, arguments.overrides, console) for base in arguments.bases}
    except InputError as error:
        parser.error(str(error))
    figures: dict[str, Any] = {base: found["spearman"] for base, found in climbed.items()}
    figures["intervals"] = {base: found["interval"] for base, found in climbed.items()}
    for key in ("english_retention", "discrimination", "gain", "seconds"):
        figures[key] = {base: found[key] for base, found in climbed.items()}
    figures["retrieval_ndcg10"] = {base: found["ndcg10"] for base, found in climbed.items()}
    figures["tfidf_ndcg10"] = tfidf(root / "data")
    if "minilm" in climbed:
        figures["old_recipe"] = old_recipe(root, arguments.overrides, console)
    figures |= environment("transformers", "sentence-transformers")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
