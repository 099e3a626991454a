"""The README of an exported model: how to use it, where it comes from, what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import yaml
from sentence_transformers import SentenceTransformer

from koembed.config import Config
from koembed.report.metrics import Stage, headline, short

CARD = """---
language: [ko, en]
library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags: [sentence-transformers, sentence-similarity, feature-extraction, koembed]
---

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
{measured}
## Settings

```yaml
{settings}```
"""


def model_card(name: str, model: SentenceTransformer, config: Config, stages: Sequence[Stage]) -> str:
    """Markdown with the front matter that the hub reads.

    Args:
        stages: of results.json, the base first; none where nothing was measured.
    """
    return CARD.format(
        name=name,
        base=config.model.base,
        dimension=model.get_embedding_dimension(),
        length=model.max_seq_length,
        measured="".join(f"{line}\n" for line in _measured(stages)),
        settings=yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
    )


def _measured(stages: Sequence[Stage]) -> Iterator[str]:
    """A table with a column for each stage."""
    if not stages:
        return
    yield from ("", "## Measured", "")
    yield "| | " + " | ".join(short(stage) for stage in stages) + " |"
    yield "|---" * (len(stages) + 1) + "|"
    for metric in headline(stages):
        found = [metric.of(stage) for stage in stages]
        yield f"| {metric.name} | " + " | ".join(f"{value.value:.3f}" if value else "" for value in found) + " |"
    yield ""
    yield "On the test split of KoPairs, held-out translations, and the files that were named to measure on."
