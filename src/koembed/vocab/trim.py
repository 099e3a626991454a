"""Drop the pieces of a vocabulary that the kept languages never use, from the tokenizer and from the model."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, cast

import torch
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import PreTrainedModel

from koembed.errors import InputError
from koembed.models import backbone, input_rows, output_rows
from koembed.vocab.bpe import is_byte_level
from koembed.vocab.graft import graft_model

Parts = dict[str, Any]
SCRIPTS = ("HANGUL", "LATIN")
MARKS = ("▁", "Ġ", "##")  # of a word's start (SentencePiece, byte-level BPE), and of its continuation


def trim(tokenizer: Tokenizer, keep_texts: Iterable[str]) -> tuple[Tokenizer, list[int]]:
    """A copy of a tokenizer without the pieces that the texts do not use.

    Kept besides: special and added tokens, byte pieces, pieces of ASCII digits, punctuation and symbols, which every
    language writes, and single characters that are Hangul, Latin, numbers, punctuation or symbols. Text that the base
    cuts into kept pieces is cut into the same pieces: in Unigram the best path stays best when others go (the lowest
    score stays too, because unknown characters are scored by it), in WordPiece the longest match stays longest, and in
    BPE every merge that led to a kept token stays, in its order.
    Ids keep their order, so the special tokens at the start keep their ids. Composes with learning and grafting.

    Args:
        keep_texts: of the languages to keep, such as Korean and English; read once.

    Returns:
        The tokenizer, and for each of its ids the id it had; ``trim_model`` takes both.

    Raises:
        InputError: the family is neither Unigram nor WordPiece nor BPE, or no text was given.
    """
    parts: Parts = json.loads(tokenizer.to_str())
    model = parts["model"]
    if model["type"] not in ("Unigram", "WordPiece", "BPE"):
        raise InputError(f"tokenizer: family {model['type']} cannot be trimmed; Unigram, WordPiece and BPE can")
    tokens = _tokens(model)
    kept = _used(tokenizer, keep_texts) & set(tokens.values()) | _fallbacks(parts, tokens)
    if model["type"] == "BPE":
        kept = _with_parts(model, kept)
    old_ids = sorted(kept | {token["id"] for token in parts["added_tokens"]})
    new_ids = {old: new for new, old in enumerate(old_ids)}
    _renumber_model(model, tokens, kept, new_ids)
    for token in parts["added_tokens"]:
        token["id"] = new_ids[token["id"]]
    if parts["padding"]:
        parts["padding"]["pad_id"] = new_ids[parts["padding"]["pad_id"]]
    _renumber_processor(parts["post_processor"], new_ids)
    trimmed = Tokenizer.from_str(json.dumps(parts, ensure_ascii=False))
    for token in parts["added_tokens"]:  # `tokenizers` numbers those outside the model's vocabulary itself
        if trimmed.token_to_id(token["content"]) != token["id"]:
            raise InputError(f"tokenizer: added token {token['content']!r} lies among the pieces; cannot be trimmed")
    return trimmed, old_ids


def trim_model(model: SentenceTransformer, tokenizer: Tokenizer, old_ids: Sequence[int]) -> None:
    """Give a loaded model the trimmed tokenizer and the rows it needs, in place; each row stays bit for bit.

    Output embeddings follow (tied) or are cut likewise (untied), and so are the token ids in the configuration.

    Args:
        old_ids: for each new id the old one, from ``trim``.

    Raises:
        InputError: the model counts positions from its padding id (RoBERTa), and that id would change.
    """
    network = backbone(model)
    new_ids = {old: new for new, old in enumerate(old_ids)}
    padding = cast(nn.Embedding, network.get_input_embeddings()).padding_idx
    moved = None if padding is None else new_ids[padding]
    positions = [part for name, part in network.named_modules() if name.endswith("position_embeddings")]
    if any(getattr(part, "padding_idx", None) not in (None, moved) for part in positions):
        raise InputError(f"model: its positions count from the padding id {padding}, which trimming would change")
    kept = torch.tensor(old_ids)
    parts = (input_rows(model), output_rows(model), _output_bias(network))
    rows, outputs, bias = (None if part is None else part.detach()[kept] for part in parts)
    graft_model(model, tokenizer, cast(Tensor, rows), outputs)
    cast(nn.Embedding, network.get_input_embeddings()).padding_idx = moved
    if bias is not None:
        with torch.no_grad():
            cast(nn.Parameter, _output_bias(network))[: len(kept)] = bias
    configs = [network.config, network.config.get_text_config(), getattr(network, "generation_config", None)]
    for config in {id(config): config for config in configs if config is not None}.values():
        _renumber_config(config, new_ids)


def _output_bias(network: PreTrainedModel) -> nn.Parameter | None:
    head = network.get_output_embeddings()
    return None if head is None else getattr(head, "bias", None)


def _tokens(model: Parts) -> dict[str, int]:
    vocab = model["vocab"]
    return vocab if isinstance(vocab, dict) else {token: number for number, (token, _) in enumerate(vocab)}


def _used(tokenizer: Tokenizer, texts: Iterable[str]) -> set[int]:
    """Ids that occur when the texts are encoded."""
    encoder = Tokenizer.from_str(tokenizer.to_str())
    encoder.no_truncation()
    encoder.no_padding()
    found: set[int] = set()
    stream = iter(texts)
    while block := list(islice(stream, 4096)):
        for one in encoder.encode_batch_fast(block, add_special_tokens=False):
            found.update(one.ids)
    if not found:
        raise InputError("trim: the texts to keep are empty; give texts of every language that the model must read")
    return found


def _fallbacks(parts: Parts, tokens: dict[str, int]) -> set[int]:
    """Ids of what the model needs for any text: specials, bytes, and single characters of the kept scripts."""
    model = parts["model"]
    byte_level = is_byte_level(parts)
    ending = model.get("end_of_word_suffix") or ""
    kept = {number for token, number in tokens.items() if _is_fallback(token, byte_level, ending)}
    kept |= {tokens[token["content"]] for token in parts["added_tokens"] if token["content"] in tokens}
    if model["type"] == "Unigram":
        lowest = min(range(len(model["vocab"])), key=lambda number: model["vocab"][number][1])
        kept |= {lowest} if model["unk_id"] is None else {lowest, model["unk_id"]}
    elif model["unk_token"] in tokens:
        kept.add(tokens[model["unk_token"]])
    return kept


def _is_fallback(token: str, byte_level: bool, ending: str) -> bool:
    """Whether a piece is worth keeping unseen: a byte, a single character, digits or punctuation.

    >>> [_is_fallback(token, False, "") for token in ("<0x0A>", "▁é", "##가", "▁2013", '."', "字", "the")]
    [True, True, True, True, True, False, False]
    """
    if len(token) == 6 and token.startswith("<0x"):
        return True
    for mark in MARKS:
        token = token.removeprefix(mark) or token
    token = token.removesuffix(ending) or token
    if token.isascii():
        return len(token) == 1 or not any(map(str.isalpha, token))
    if len(token) != 1:
        return False
    return byte_level or unicodedata.category(token)[0] in "NPS" or unicodedata.name(token, "").startswith(SCRIPTS)


def _with_parts(model: Parts, kept: set[int]) -> set[int]:
    """The ids, and those of all tokens that merges make them from."""
    vocab: dict[str, int] = model["vocab"]
    makers: dict[int, list[int]] = {}
    for first, second, product in _merges(model):
        makers.setdefault(vocab[product], []).extend((vocab[first], vocab[second]))
    closed, waiting = set(kept), list(kept)
    while waiting:
        fresh = set(makers.get(waiting.pop(), ())) - closed
        closed |= fresh
        waiting.extend(fresh)
    return closed


def _merges(model: Parts) -> list[tuple[str, str, str]]:
    """First part, second part, product."""
    prefix = model["continuing_subword_prefix"] or ""
    return [(first, second, first + second.removeprefix(prefix)) for first, second in model["merges"]]


def _renumber_model(model: Parts, tokens: dict[str, int], kept: set[int], new_ids: dict[int, int]) -> None:
    if model["type"] == "Unigram":
        model["vocab"] = [model["vocab"][old] for old in sorted(kept)]
        if model["unk_id"] is not None:
            model["unk_id"] = new_ids[model["unk_id"]]
        return
    model["vocab"] = {token: new_ids[old] for token, old in tokens.items() if old in kept}
    if model["type"] == "BPE":
        model["merges"] = [
            [first, second]
            for first, second, product in _merges(model)
            if {first, second, product} <= model["vocab"].keys()
        ]


def _renumber_processor(node: Any, new_ids: dict[int, int]) -> None:
    """Ids inside a post-processor: templates hold {"ids": [..]}, BERT's and RoBERTa's hold [token, id]."""
    if isinstance(node, list):
        for part in node:
            _renumber_processor(part, new_ids)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key == "ids":
                node[key] = [new_ids[old] for old in value]
            elif key in ("sep", "cls") and isinstance(value, list):
                node[key] = [value[0], new_ids[value[1]]]
            else:
                _renumber_processor(value, new_ids)


def _renumber_config(config: Any, new_ids: dict[int, int]) -> None:
    """pad_token_id, eos_token_id and the like; ids that are no longer there become None."""
    for name, value in list(vars(config).items()):
        if name.endswith("_token_id"):
            listed = [new_ids[old] for old in value if old in new_ids] if isinstance(value, list) else None
            setattr(config, name, listed if isinstance(value, list) else new_ids.get(value))
