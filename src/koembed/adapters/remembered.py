"""A model that has read every text once: what output adapters train on and are judged by.

Adapters on the last states change nothing below them, and where they are linear the mean of what they make of a text's
tokens is what they make of the tokens' mean. So the body reads a text once; a step is then products of a few vectors,
and every strength of the gate, every epoch and every later output adapter finds the text read.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules.input_module import InputModule
from sentence_transformers.sentence_transformer.modules import Pooling
from torch import Tensor

from koembed.adapters.model import AdaptedTransformer
from koembed.errors import InputError
from koembed.models import encoded_by_length, in_bf16

LINEAR_POOLING = {"mean", "cls", "lasttoken", "weightedmean"}  # of which the weights of a text's tokens sum to 1

# Pooled vectors, float32 [hidden] on the CPU, by the adapters below, how far the text was read, its prompt and itself.
Memory = dict[tuple[object, ...], Tensor]


class Remembered(InputModule):
    """In place of an adapted Transformer and its pooling: it looks pooled vectors up and runs the output adapters.

    Args:
        body: whose sublayer adapters are the same for all tasks.
        pooling: what follows it.
        memory: of this body, what is known already; it is added to.
    """

    forward_kwargs: set[str] = {"task"}  # noqa: RUF012  (declared so by sentence-transformers)

    def __init__(self, body: AdaptedTransformer, pooling: Pooling, memory: Memory) -> None:
        super().__init__()
        self.reader = SentenceTransformer(modules=[body, pooling], device=str(body.model.device))
        self.memory = memory

    @property
    def body(self) -> AdaptedTransformer:
        return cast(AdaptedTransformer, self.reader[0])

    @property
    def tokenizer(self) -> Any:  # type: ignore[override]
        return self.body.tokenizer

    @property
    def max_seq_length(self) -> int | None:
        return self.reader.max_seq_length

    @max_seq_length.setter
    def max_seq_length(self, length: int | None) -> None:
        self.reader.max_seq_length = length

    def remember(self, texts: list[str], prompt: str | None = None) -> None:
        """Read those of the texts that are new, with their prompt, as far as ``max_seq_length``."""
        keys = self._keys(texts, prompt)
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in self.memory}
        if new:
            with in_bf16(self.reader), self.body.running(self.body.below_output()):
                vectors = encoded_by_length(self.reader, self.reader.encode, list(new.values()), prompt=prompt)
            self.memory.update(zip(new, vectors.cpu(), strict=True))

    def _keys(self, texts: list[str], prompt: str | None) -> list[tuple[object, ...]]:
        scales = tuple((name, self.body.specs[name].scale) for name in self.body.below_output())
        return [(scales, self.max_seq_length, prompt or "", text) for text in texts]

    def preprocess(self, inputs: Any, prompt: str | None = None, **kwargs: Any) -> dict[str, Tensor]:
        """Texts -> their pooled vectors, [texts, hidden]."""
        texts = list(inputs)
        self.remember(texts, prompt)
        return {"sentence_embedding": torch.stack([self.memory[key] for key in self._keys(texts, prompt)])}

    def forward(self, features: dict[str, Tensor], task: str | None = None, **kwargs: Any) -> dict[str, Tensor]:
        """[texts, hidden] -> [texts, hidden], through the output adapters that the task has."""
        with self.body.running(self.body.called(task)):
            pooled = features["sentence_embedding"]
            return {**features, "sentence_embedding": self.body.output_site(pooled, pooled)}

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError("save the adapted model that this one stands for")


def remembered(model: SentenceTransformer, memory: Memory) -> SentenceTransformer:
    """The model with its body remembered; its adapters are the same objects.

    Args:
        model: begins with an ``AdaptedTransformer``, whose output adapters are linear.

    Raises:
        InputError: it does not pool its last states by weights that sum to 1.
    """
    body, pooling, *rest = list(model)
    if not (isinstance(pooling, Pooling) and pooling.pooling_mode in LINEAR_POOLING):
        raise InputError("form output: the model does not pool its last states linearly; use form: sequential")
    return SentenceTransformer(
        modules=[Remembered(cast(AdaptedTransformer, body), pooling, memory), *rest],
        prompts=cast("dict[str, str]", model.prompts),
        default_prompt_name=model.default_prompt_name,
        device=str(model.device),
    )
