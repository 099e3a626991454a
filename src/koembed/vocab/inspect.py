"""Check a model's tokenizer, its rows and its pooling, and what changed against the model it was made from."""

from __future__ import annotations

import argparse
from collections.abc import Sequence, Sized
from dataclasses import asdict, dataclass
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules.transformer import Transformer
from sentence_transformers.sentence_transformer.modules import Pooling

from koembed.corpus import kopairs
from koembed.corpus.files import rows
from koembed.errors import InputError
from koembed.models import DEAD_ROW, backbone, input_rows
from koembed.vocab.vocabulary import Vocabulary, losses, measure_text, read_vocabulary

MOST_TEXTS = 20_000
PADDED = 1e-3  # relative change of a vector that padding may cause; float32 arithmetic causes about 1e-6
SHORT, LONG = "창문을 열었다.", "날씨가 좋아서 창문을 모두 열어 두고 한나절 내내 책을 읽었다."


@dataclass(frozen=True)
class Gate:
    """Something that must not occur.

    Attributes:
        what: what is counted, in words.
        count: how often it occurs; 0 passes.
        example: the first of them.
    """

    what: str
    count: int
    example: str = ""


@dataclass(frozen=True)
class Inspection:
    """All figures; shares are 0-1. `docs/inspect.md` says what each means.

    Attributes:
        model: of the model: ``text``, ``vocabulary``, ``pooling``.
        base: the same of the model it was made from.
        change: what differs between the two.
        gates: those that apply; without a base fewer.
    """

    model: dict[str, dict[str, Any]]
    base: dict[str, dict[str, Any]] | None
    change: dict[str, Any] | None
    gates: list[Gate]

    @property
    def passed(self) -> bool:
        """Whether all gates hold."""
        return not any(gate.count for gate in self.gates)

    def figures(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "passed": self.passed}


@dataclass(frozen=True)
class Subject:
    """A model and its vocabulary."""

    model: SentenceTransformer
    vocabulary: Vocabulary

    def dead_rows(self) -> set[str]:
        """Tokens whose row is all but zero, the padding token aside."""
        norms = input_rows(self.model).detach().float().norm(dim=1).cpu().numpy()
        small = set(np.flatnonzero(norms < DEAD_ROW * np.median(norms)).tolist())
        small -= {self.model.tokenizer.pad_token_id, backbone(self.model).get_input_embeddings().padding_idx}
        return {token for token, number in self.vocabulary.ids.items() if number in small}


def inspect(model: SentenceTransformer, texts: Sequence[str], base: SentenceTransformer | None = None) -> Inspection:
    """Measure a model and, given the one it was made from, what making it changed.

    Args:
        texts: Korean.

    Raises:
        InputError: a model has no transformer or no fast tokenizer.
    """
    own = _subject(model)
    figures = measure(own, texts)
    gates = [rows_gate(own), pooling_gate(figures["pooling"])]
    if base is None:
        return Inspection(figures, None, None, gates)
    old = _subject(base)
    change, change_gates = compare(own, old, texts)
    return Inspection(figures, measure(old, texts), change, change_gates + gates)


def _subject(model: SentenceTransformer) -> Subject:
    if not isinstance(model[0], Transformer):
        raise InputError(f"model: begins with {type(model[0]).__name__}; only transformers can be inspected")
    if not model.tokenizer.is_fast:
        raise InputError("tokenizer: has no tokenizer.json (slow only); convert it to a fast tokenizer first")
    return Subject(model, read_vocabulary(model.tokenizer.backend_tokenizer))


def korean_texts(source: str | None) -> list[str]:
    """The first 20,000 texts of a file (column ``text``); without one KoPairs' test sentences.

    Raises:
        InputError: the file cannot be read, lacks the column or is empty.
    """
    if source is not None:
        return [str(row["text"]) for row in rows(source, ("text",), limit=MOST_TEXTS)]
    return list(dict.fromkeys(text for pair in kopairs.pairs("test") for text in (pair.sentence1, pair.sentence2)))


def english_texts() -> list[str]:
    """Distinct lines of Python's own documentation, which is wherever Python is."""
    return sorted({line for topic in topics.values() for line in topic.splitlines() if line.strip()})


def code_texts() -> list[str]:
    """Distinct lines of a long module of Python's standard library."""
    return sorted(set(Path(argparse.__file__).read_text(encoding="utf-8").splitlines()))


def measure(subject: Subject, texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Figures of one model."""
    vocabulary = subject.vocabulary
    held = {
        "family": vocabulary.family,
        "tokens": len(vocabulary.ids),
        "rows": len(input_rows(subject.model)),
        "dead_rows": len(subject.dead_rows()),
        "partial": len(vocabulary.partial),
        "unreachable": _share(vocabulary.unreachable, vocabulary.plain),
    }
    return {"text": measure_text(vocabulary, texts), "vocabulary": held, "pooling": measure_pooling(subject)}


def measure_pooling(subject: Subject) -> dict[str, Any]:
    """How token vectors become one: the pooling modes, the padding side, the special tokens at a text's two ends.

    ``padding_changes`` is the length of the change in a text's vector when a longer text stands beside it in the
    batch, relative to the vector's own; None where ids have no row, so that the model may not read these texts.
    """
    model = subject.model
    ids = model.preprocess([SHORT])["input_ids"][0].tolist()
    specials = {number: token for token, number in subject.vocabulary.specials.items()}
    modes = next((module.pooling_mode for module in model if isinstance(module, Pooling)), ())
    return {
        "modes": [modes] if isinstance(modes, str) else list(modes),
        "padding_side": model.tokenizer.padding_side,
        "first": specials.get(ids[0]),
        "last": specials.get(ids[-1]),
        "padding_changes": None if rows_gate(subject).count else _padding_change(model),
    }


def _padding_change(model: SentenceTransformer) -> float:
    alone, beside = (model.encode(texts, show_progress_bar=False)[0] for texts in ([SHORT], [SHORT, LONG]))
    return float(np.linalg.norm(alone - beside) / np.linalg.norm(alone))


def compare(own: Subject, old: Subject, texts: Sequence[str]) -> tuple[dict[str, Any], list[Gate]]:
    """What differs between a model and the base it was made from, and the gates on it.

    Where ids were renumbered (trimming does that), texts are compared by tokens, not by ids.
    """
    new, base = own.vocabulary, old.vocabulary
    added, kept = new.ids.keys() - base.ids.keys(), new.ids.keys() & base.ids.keys()
    renumbered = any(new.ids[token] != base.ids[token] for token in kept)
    before, after = base.encode(texts), new.encode(texts)
    longer = [text for text, a, b in zip(texts, before, after, strict=True) if len(b) > len(a)]
    used = {number for ids in after for number in ids}
    lost = sorted(new.unreachable & added)
    english, code = english_texts(), code_texts()
    worse = decoded_worse(new, base, [*texts, *english, *code])
    english_changed, english_dropped = drift(new, base, english, renumbered)
    code_changed, code_dropped = drift(new, base, code, renumbered)
    change = {
        "added": len(added),
        "dropped": len(base.ids.keys() - kept),
        "renumbered": renumbered,
        "added_used": sum(new.ids[token] in used for token in added) / max(1, len(added)),
        "added_partial": len(new.partial & added),
        "added_dead_rows": len(own.dead_rows() & added),
        "added_unreachable": _share(lost, new.plain.keys() & added),
        "kept_unreachable": _share(new.unreachable & kept, new.plain.keys() & kept),
        "longer": _share(longer, texts),
        "english_changed": _share(english_changed, english),
        "english_dropped": _share(english_dropped, english),
        "code_changed": _share(code_changed, code),
        "code_dropped": _share(code_dropped, code),
    }
    unit = "tokens" if renumbered else "ids"
    gates = [
        _gate(f"English texts with other {unit}", english_changed),
        _gate(f"lines of code with other {unit}", code_changed),
        _gate("added tokens that no text produces", lost),
        _gate("texts that decode worse than with the base", worse),
        _gate("special tokens changed", special_changes(own, old, renumbered)),
    ]
    if new.family == "BPE":  # the other families choose other pieces, and may need more of them
        gates.append(_gate("texts with more tokens than in the base", longer))
    return change, gates


def drift(own: Vocabulary, base: Vocabulary, texts: Sequence[str], renumbered: bool) -> tuple[list[str], list[str]]:
    """Texts that are cut otherwise than by the base, and texts that need a token it had and this one has not.

    The latter were given up when the vocabulary was trimmed; they are not among the former.
    """
    gone = {number for token, number in base.ids.items() if token not in own.ids}
    changed, given_up = [], []
    for text, a, b in zip(texts, base.encode(texts, special=True), own.encode(texts, special=True), strict=True):
        if not gone.isdisjoint(a):
            given_up.append(text)
        elif (base.tokens(a) != own.tokens(b)) if renumbered else (a != b):
            changed.append(text)
    return changed, given_up


def decoded_worse(own: Vocabulary, base: Vocabulary, texts: Sequence[str]) -> list[str]:
    """Texts of which encoding and decoding loses more than it does with the base."""
    before, after = (losses(base.tokenizer, texts, one.decode(one.encode(texts))) for one in (base, own))
    return [text for text, a, b in zip(texts, before, after, strict=True) if b > a]


def special_changes(own: Subject, old: Subject, renumbered: bool) -> list[str]:
    """Special tokens that are gone, or have another id (unless ids were renumbered), or another role."""
    now = own.vocabulary.specials
    ids = [
        f"{token}: id {number} → {now.get(token)}"
        for token, number in old.vocabulary.specials.items()
        if token not in now or (now[token] != number and not renumbered)
    ]
    roles, had = (subject.model.tokenizer.special_tokens_map for subject in (own, old))
    return ids + [f"{role}: {token} → {roles.get(role)}" for role, token in had.items() if roles.get(role) != token]


def rows_gate(subject: Subject) -> Gate:
    """Every id needs a row."""
    count = len(input_rows(subject.model))
    return _gate("ids without a row", [token for token, number in subject.vocabulary.ids.items() if number >= count])


def pooling_gate(pooling: dict[str, Any]) -> Gate:
    """The token that the pooling takes must be there, and padding must not change the vector."""
    wrong = []
    if "lasttoken" in pooling["modes"] and not pooling["last"] and pooling["padding_side"] != "left":
        wrong.append("last-token pooling, but no EOS ends a text and padding is on the right")
    if "cls" in pooling["modes"] and not pooling["first"]:
        wrong.append("CLS pooling, but no special token begins a text")
    change = pooling["padding_changes"]
    if change is not None and not change <= PADDED:  # not: nan is wrong too
        wrong.append(f"a longer text beside it changes a vector by {change:.2%}")
    return _gate("contradictions of pooling and padding", wrong)


def _gate(what: str, found: Sequence[str]) -> Gate:
    return Gate(what, len(found), found[0] if found else "")


def _share(part: Sized, whole: Sized) -> float:
    return len(part) / max(1, len(whole))
