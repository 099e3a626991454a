"""What learning new tokens gives, whatever the tokenizer's family."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Learned:
    """New tokens in the order of their ids.

    Attributes:
        tokens: as they stand in the vocabulary (with ``##``, ``▁`` or byte letters).
        surfaces: the text that each stands for, as people read it; rows are initialised from it.
        merges: BPE only: pairs of tokens, in order, that make the tokens; appended after the base's.
        scores: Unigram only: log probabilities on the base's scale, one a token.
    """

    tokens: list[str]
    surfaces: list[str]
    merges: list[tuple[str, str]] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
