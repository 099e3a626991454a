"""What learning new tokens gives, whatever the tokenizer's family."""

from __future__ import annotations

from dataclasses import dataclass, field

from koembed.vocab.knee import Curve


@dataclass(frozen=True)
class Learned:
    """New tokens in the order of their ids.

    Attributes:
        tokens: as they stand in the vocabulary (with ``##``, ``▁`` or byte letters).
        surfaces: the text that each stands for, as people read it; rows are initialised from it. Empty for
            scaffolding: a byte-level token that ends within a character, which a later merge needs.
        merges: BPE only: pairs of tokens, in order, that make the tokens; appended after the base's.
        scores: Unigram only: log probabilities on the base's scale, one a token.
        curve: what the number of tokens was chosen on, where it was (``vocab.size: auto``).
    """

    tokens: list[str]
    surfaces: list[str]
    merges: list[tuple[str, str]] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    curve: Curve | None = None

    @property
    def scaffolding(self) -> int:
        """How many of the tokens stand for no text of their own."""
        return self.surfaces.count("")
