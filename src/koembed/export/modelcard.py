"""The README of an exported model: how to use it, where it comes from, what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import yaml
from sentence_transformers import SentenceTransformer

from koembed.config import Config
from koembed.corpus.files import is_hub_id
from koembed.report.metrics import FINDING, Stage, headline, short

CARD = """---
language: [ko, en]
library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags: [sentence-transformers, sentence-similarity, feature-extraction, koembed]
{base_model}---

# {name}

A sentence-embedding model for Korean, made from `{base}` by koembed (ko-embedding-expansion): an expanded
vocabulary, then training in stages. Vectors of {dimension} numbers, texts of up to {length} tokens. It is a
plain model: sentence-transformers opens it, from version 3 on, and nothing of koembed is needed.

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{name}")
vectors = model.encode(["택배가 아직도 안 왔어요.", "주문한 물건이 여태 도착하지 않았습니다."])
print(model.similarity(vectors, vectors))
```
{measured}{credits}
## Settings

```yaml
{settings}```
"""


def model_card(
    name: str, model: SentenceTransformer, config: Config, stages: Sequence[Stage], task: str | None, tasks: list[str]
) -> str:
    """Markdown with the front matter that the hub reads.

    Args:
        stages: of results.json, the base first and the exported one last; none where it was not measured.
        task: whose adapter the model has, of those of the stage, ``tasks``; None where it has none.
    """
    return CARD.format(
        name=name,
        base=config.model.base,
        base_model=f"base_model: {config.model.base}\n" if is_hub_id(config.model.base) else "",
        credits="".join(f"{line}\n" for line in _credits(config)),
        dimension=model.get_embedding_dimension(),
        length=model.max_seq_length,
        measured="".join(f"{line}\n" for line in _measured(stages, task, tasks)),
        settings=yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
    )


def _credits(config: Config) -> Iterator[str]:
    """What the model is made of whose licence asks for it to be named."""
    lines = []
    if config.vocab.words and config.vocab.word_list == "wordfreq":
        lines.append("- words of the vocabulary: [wordfreq](https://github.com/rspeer/wordfreq), CC BY-SA 4.0")
    if "kopairs" in [*config.data.pairs, *config.data.texts, *config.data.bitext]:
        lines.append("- sentences, their labels and translations: KoPairs, the authors of koembed, CC BY 4.0")
    if lines:
        yield from ("", "## Credits", "", *lines)


def _measured(stages: Sequence[Stage], task: str | None, tasks: list[str]) -> Iterator[str]:
    """A table with a column for each stage; of the last one, what was measured with the model's own adapter."""
    if not stages:
        return
    yield from ("", "## Measured", "")
    yield "| | " + " | ".join(short(stage) for stage in stages) + " |"
    yield "|---" * (len(stages) + 1) + "|"
    foreign = False
    for metric in headline(stages):
        found = [metric.of(stage) for stage in stages]
        finds = metric.path[0] in FINDING and "retrieval" in tasks
        if task != ("retrieval" if finds else next(iter(tasks), None)):
            found[-1], foreign = None, True
        yield f"| {metric.name} | " + " | ".join(f"{value.value:.3f}" if value else "" for value in found) + " |"
    yield ""
    yield "On the test split of KoPairs, held-out translations, and the files that were named to measure on."
    if foreign:
        yield f"Where {short(stages[-1])} has no figure, another of its task adapters was measured, not `{task}`."
