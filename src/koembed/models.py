"""Opening sentence-transformers models, and reaching their parts."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules.transformer import Transformer
from tokenizers import Tokenizer
from torch import nn
from transformers import PreTrainedModel

from koembed.errors import InputError
from koembed.hub import cached_model, hub_has

Encoder = Callable[[list[str]], NDArray[np.float32]]  # [texts] -> [n, dim], rows of length 1

# Tokens encoded at once on a CPU. Buffers of more are mapped anew for every batch and cleared page by page
# (benchmarks/passage_batches.py).
TOKENS_AT_ONCE = 4_096

# An embedding row is dead, as training left it or as padding, below this share of the median norm. No trained row of
# MiniLM, multilingual-e5-small and SmolLM2 is below 0.2 of it.
DEAD_ROW = 0.01


def open_model(
    name: str | Path, max_length: int | None = None, prompt: str = "", document_prompt: str = ""
) -> SentenceTransformer:
    """A sentence-transformers model from a directory or a hub id, float32, on the CPU or the process's GPU.

    Args:
        max_length: tokens a text is cut to, if the model has positions for as many. It may be more than the model's
            own setting: all-MiniLM cuts at 256 tokens and has 512 positions.
        prompt: text put before every input, save where the model has one of its own for queries or documents.
        document_prompt: text put before documents.

    Raises:
        InputError: there is no model.
    """
    place = find_model(name)
    try:
        model = SentenceTransformer(place, device=device(), trust_remote_code=True, model_kwargs={"dtype": "float32"})
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise InputError(_explain(Path(name), error)) from error
    if max_length:
        model.max_seq_length = min(max_length, positions(backbone(model)))
    if prompt:
        model.prompts["default"] = prompt
        model.default_prompt_name = "default"
        for role in ("query", "document"):
            model.prompts[role] = model.prompts.get(role) or prompt
    if document_prompt:
        model.prompts["document"] = document_prompt
    return model


def device() -> str | None:
    """Where models are opened: on the process's GPU, which sentence-transformers finds, or on the CPU.

    Nothing here was made for a Mac's GPU.
    """
    return None if torch.cuda.is_available() else "cpu"


def find_model(name: str | Path) -> str:
    """The directory of a model, or its id on the hub where that has it.

    Raises:
        InputError: there is no such directory, and no such model on the hub or in its cache.
    """
    return str(name) if Path(name).exists() or hub_has(str(name), "model") else cached_model(str(name))


def _explain(place: Path, error: Exception) -> str:
    """What is wrong with a model that does not open; transformers does not say so of a damaged tokenizer."""
    advice = "name a sentence-transformers model"
    if isinstance(error, SafetensorError):
        advice = "the file of its weights is damaged: copy it again"
    elif (tokenizer := place / "tokenizer.json").is_file():
        try:
            Tokenizer.from_file(str(tokenizer))
        except Exception as damage:  # `tokenizers` raises nothing more special
            error, advice = damage, "its tokenizer.json is damaged: copy it again"
    reason = " ".join(str(error).split())[:160]
    return f"model {place}: cannot be opened ({reason}); {advice}"


@cache
def has_bf16() -> bool:
    """Whether bf16 matrix products are worth having here.

    On a GPU that computes them in hardware they are. On a CPU only the clock tells: of two processors that both have
    avx512_bf16, one did them at twice the rate of float32, the other at half of it.
    """
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return _seconds_of_products(torch.bfloat16) < _seconds_of_products(torch.float32)


def _seconds_of_products(dtype: torch.dtype) -> float:
    """The shortest time that a product of the size of a small model's feed-forward layer takes, of three."""
    inputs, weights = torch.ones(1024, 384, dtype=dtype), torch.ones(384, 1536, dtype=dtype)
    taken = []
    for _ in range(4):  # the first one also prepares
        started = time.perf_counter()
        inputs @ weights
        taken.append(time.perf_counter() - started)
    return min(taken[1:])


def in_bf16(model: SentenceTransformer) -> torch.autocast:
    """Bf16 arithmetic within, where it is faster than float32's; weights stay as they are."""
    return torch.autocast(model.device.type, torch.bfloat16, enabled=has_bf16())


def teacher_vectors(model: SentenceTransformer, texts: list[str]) -> NDArray[np.float32]:
    """float32 [texts, hidden], rows of length 1, in bf16 arithmetic where that is faster.

    For what is learned from, not for measuring: cosines differ by up to 1e-3 from float32's, in 0.43 of its time
    (multilingual-e5-small, two cores with avx512_bf16).
    """
    with in_bf16(model):
        return vectors_by_length(model, model.encode, texts)


def vectors_by_length(
    model: SentenceTransformer, encode: Callable[..., Any], texts: list[str], batch_size: int = 64, **options: Any
) -> NDArray[np.float32]:
    """The model's vectors, float32 [texts, hidden], rows of length 1, in batches of texts with about as many tokens.

    sentence-transformers sorts texts by letters, which are more tokens in Korean than in English, and so pads more.

    Args:
        encode: the model's ``encode``, ``encode_query`` or ``encode_document``.
        batch_size: texts encoded at once, at most; on a CPU fewer where they are long (``TOKENS_AT_ONCE``).
        options: of ``encode``.
    """
    lengths = token_lengths(model, texts)
    order = np.argsort(-lengths, kind="stable")
    found: list[torch.Tensor] = []
    done = 0
    while done < len(order):
        fitting = TOKENS_AT_ONCE // lengths[order[done]] if model.device.type == "cpu" else batch_size
        rows = order[done : done + max(1, min(batch_size, fitting))]
        batch = [texts[row] for row in rows]
        found.append(encode(batch, batch_size=len(rows), show_progress_bar=False, convert_to_tensor=True, **options))
        done += len(rows)
    vectors = nn.functional.normalize(torch.cat(found).float(), dim=1).cpu().numpy()
    return vectors[np.argsort(order)]


def token_lengths(model: SentenceTransformer, texts: list[str]) -> NDArray[np.int64]:
    """Tokens that the model reads of each text, 1 or more, [texts]; a prompt is not counted.

    All are 1 to a model of static vectors, which pads nothing.
    """
    if not isinstance(model[0], Transformer):
        return np.ones(len(texts), np.int64)
    lengths: list[int] = []
    for start in range(0, len(texts), 1_000):  # what is cut off is in memory too while it is read
        some = texts[start : start + 1_000]
        lengths += map(len, model.tokenizer(some, truncation=True, max_length=model.max_seq_length)["input_ids"])
    return np.maximum(lengths, 1)


def default_prompt(model: SentenceTransformer) -> str:
    """What ``encode`` puts before a text."""
    return model.prompts.get(model.default_prompt_name or "") or ""


def as_read(model: SentenceTransformer, texts: list[str], max_length: int) -> list[str]:
    """The texts as far as a model reads them in ``max_length`` tokens, its prompt among them.

    What it reads to the end comes back as it is.
    """
    prompt = default_prompt(model)

    def read(some: list[str]) -> Iterator[str]:
        prompted = [prompt + text for text in some]
        found = model.tokenizer(prompted, truncation=True, max_length=max_length, return_offsets_mapping=True)
        for text, ids, places in zip(some, found["input_ids"], found["offset_mapping"], strict=True):
            end = max([len(prompt), *(end for _, end in places)])  # a prompt may take all the room, a text be empty
            yield text if len(ids) < max_length else text[: end - len(prompt)]

    chunks = range(0, len(texts), 1_000)  # what is cut off is in memory too while a chunk is read
    return [text for chunk in chunks for text in read(texts[chunk : chunk + 1_000])]


def transformer(model: SentenceTransformer) -> Transformer:
    """The first module, which turns text into token vectors.

    Raises:
        InputError: it is of another kind, such as a table of static vectors.
    """
    if not isinstance(model[0], Transformer):
        raise InputError(f"the model begins with {type(model[0]).__name__}, not with a Transformer; name another model")
    return model[0]


def backbone(model: SentenceTransformer) -> PreTrainedModel:
    """The transformers model inside."""
    return transformer(model).model


def layer_count(config: Any) -> int:
    """Transformer layers, of the text part where a model has others."""
    return config.get_text_config().num_hidden_layers


def positions(network: PreTrainedModel) -> int:
    """Tokens that a model has positions for; XLM-R's and RoBERTa's first ones are never used, T5's have no end."""
    first = 0
    for name, module in network.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding) and module.padding_idx is not None:
            first = module.padding_idx + 1
    return network.config.get_text_config().to_dict().get("max_position_embeddings", sys.maxsize) - first


def input_rows(model: SentenceTransformer) -> nn.Parameter:
    """The input embedding matrix, [rows, hidden]."""
    return cast(nn.Parameter, backbone(model).get_input_embeddings().weight)


def output_rows(model: SentenceTransformer) -> nn.Parameter | None:
    """The output embedding matrix, [rows, hidden], where the model has one of its own, not tied to the input's."""
    head = backbone(model).get_output_embeddings()
    if head is None or head.weight is input_rows(model):
        return None
    return cast(nn.Parameter, head.weight)
