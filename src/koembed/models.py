"""Opening sentence-transformers models, and reaching their parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules.transformer import Transformer
from torch import nn
from transformers import PreTrainedModel

from koembed.errors import InputError


def open_model(name: str | Path, max_length: int | None = None, prompt: str = "") -> SentenceTransformer:
    """A sentence-transformers model from a directory or a hub id, float32, on the CPU or the process's GPU.

    Args:
        max_length: tokens a text is cut to, if the model itself takes more.
        prompt: text put before every input.

    Raises:
        InputError: there is no model.
    """
    try:
        model = SentenceTransformer(str(name), trust_remote_code=True, model_kwargs={"dtype": "float32"})
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"model {name}: cannot be opened ({reason}); name a sentence-transformers model") from error
    if max_length:
        model.max_seq_length = min(max_length, model.max_seq_length or max_length)
    if prompt:
        model.prompts["default"] = prompt
        model.default_prompt_name = "default"
    return model


def transformer(model: SentenceTransformer) -> Transformer:
    """The first module, which turns text into token vectors."""
    return cast(Transformer, model[0])


def backbone(model: SentenceTransformer) -> PreTrainedModel:
    """The transformers model inside."""
    return transformer(model).model


def layer_count(config: Any) -> int:
    """Transformer layers, of the text part where a model has others."""
    return config.get_text_config().num_hidden_layers


def input_rows(model: SentenceTransformer) -> nn.Parameter:
    """The input embedding matrix, [rows, hidden]."""
    return cast(nn.Parameter, backbone(model).get_input_embeddings().weight)
