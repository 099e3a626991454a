"""A saved model's settings in words that earlier versions read too.

sentence-transformers 6 and transformers 5 write names that none before them knows: of modules, of ways of pooling, of
the tokenizer's class. They still read the earlier names, and a server opens a model with the versions that it has.
Vectors are the same, bit for bit, in sentence-transformers 3.4 (transformers 4.49), 5.1 (4.57) and 6.2 (5.23).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from koembed.storage import read_json, write_json

POOLING = {
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "max": "pooling_mode_max_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}


def make_portable(directory: Path) -> None:
    """Rewrite, in place, the settings of a plain model that sentence-transformers 6 has saved.

    Weights and tokenizer.json stay as they are.
    """
    modules = cast("list[dict[str, Any]]", read_json(directory / "modules.json"))
    for module in modules:
        kind = module["type"].rpartition(".")[2]
        module["type"] = f"sentence_transformers.models.{kind}"
        if (file := directory / module["path"] / "config.json").exists() and kind != "Transformer":
            settings = read_json(file)
            write_json(file, pooling(settings) if kind == "Pooling" else unplaced(settings))
    write_json(directory / "modules.json", modules)
    words = read_json(directory / "tokenizer_config.json")
    write_json(directory / "tokenizer_config.json", tokenizer(words))
    # Lower case is tokenizer.json's own business.
    limits = {"max_seq_length": words["model_max_length"], "do_lower_case": False}
    write_json(directory / "sentence_bert_config.json", limits)
    network = read_json(directory / "config.json")
    write_json(directory / "config.json", {**network, **rotary(network.get("rope_parameters") or {})})


def pooling(settings: dict[str, Any]) -> dict[str, Any]:
    """A flag for each way of pooling, in place of the names of those that are on."""
    chosen = settings["pooling_mode"]
    chosen = [chosen] if isinstance(chosen, str) else chosen
    return {
        "word_embedding_dimension": settings["embedding_dimension"],
        **{flag: mode in chosen for mode, flag in POOLING.items()},
        "include_prompt": settings["include_prompt"],
    }


def unplaced(settings: dict[str, Any]) -> dict[str, Any]:
    """Without the names of what a module reads and writes, where it is what it always was: the sentence's vector."""
    return {name: value for name, value in settings.items() if value != "sentence_embedding"}


def tokenizer(settings: dict[str, Any]) -> dict[str, Any]:
    """The class that all versions have for a tokenizer.json, and the earlier name of further special tokens."""
    dropped = ("backend", "is_local", "local_files_only", "extra_special_tokens")
    kept = {name: value for name, value in settings.items() if name not in dropped and value is not None}
    special = settings.get("extra_special_tokens") or []
    return {
        **kept,
        **({"additional_special_tokens": special} if special else {}),
        "tokenizer_class": "PreTrainedTokenizerFast",
    }


def rotary(parameters: dict[str, Any]) -> dict[str, Any]:
    """Rotary positions as transformers 4 reads them: without these it would take a model's defaults, in silence.

    Args:
        parameters: of all layers alike, or of each kind of attention (Gemma 3, ModernBERT).
    """
    if not parameters:
        return {}
    whole = parameters.get("full_attention", parameters)
    found = {"rope_theta": whole["rope_theta"]}
    if whole.get("rope_type", "default") != "default":
        found["rope_scaling"] = {name: value for name, value in whole.items() if name != "rope_theta"}
    if "sliding_attention" in parameters:
        local = parameters["sliding_attention"]["rope_theta"]
        found |= {"rope_local_base_freq": local}  # Gemma 3's name
        found |= {"global_rope_theta": whole["rope_theta"], "local_rope_theta": local}  # ModernBERT's
    return found
