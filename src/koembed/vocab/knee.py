"""How many tokens to learn: the knee of the curve of tokens left against tokens added (``vocab.size: auto``)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Budget = int | Literal["auto"]

LARGEST = 32_000  # tokens tried: what large Korean vocabularies hold
POINTS = 40  # sizes measured between none and LARGEST
HELD_OUT = 5_000  # texts that sizes are compared on, at most
EVERY = 20  # texts of which one is held out; it is not learned from
ROWS, WIDTH = 10, 40  # of the plot


@dataclass(frozen=True)
class Curve:
    """Tokens that the held-out words take, by the number of tokens learned.

    Attributes:
        sizes: tokens learned, ascending from 0.
        tokens: tokens of the held-out words, descending, one count a size.
    """

    sizes: list[int]
    tokens: list[int]

    @property
    def knee(self) -> int:
        """The size where the curve bends most, as Kneedle finds it.

        That is where the curve, scaled to the unit square, lies farthest below the line between its ends, so where
        its slope equals the line's: up to there a token saves more than the average one of all that were tried, past
        it less. The rule has no threshold to set, but depends on ``LARGEST``. The paper's sensitivity chooses among
        several bends; a curve of learned tokens, the most useful first, has one. One that never lies below the line
        has none: then all are learned, or nothing where nothing is saved.

        Source: Satopaa et al. 2011, "Finding a 'Kneedle' in a Haystack".

        >>> Curve([0, 1, 2, 3, 4], [100, 60, 40, 35, 32]).knee
        2
        """
        sizes, saved = np.array(self.sizes), self.tokens[0] - np.array(self.tokens)
        if saved[-1] <= 0:
            return 0
        below = saved / saved[-1] - sizes / sizes[-1]
        return self.sizes[int(np.argmax(below)) if below.max() > 0 else -1]

    def report(self) -> dict[str, Any]:
        """For expansion.json."""
        return {"sizes": self.sizes, "tokens": self.tokens, "knee": self.knee}

    def plot(self) -> str:
        """Bars for a terminal, a line for each of some sizes with the knee among them.

        >>> print(Curve([0, 1, 2, 3, 4], [100, 60, 40, 35, 32]).plot())
        learned  tokens of held-out text
              0  ████████████████████████████████████████ 100.0 %
              1  ████████████████████████                  60.0 %
              2  ████████████████                          40.0 %  knee
              3  ██████████████                            35.0 %
              4  ████████████▊                             32.0 %
        """
        points = len(self.sizes) - 1
        shown = {points * row // ROWS for row in range(ROWS + 1)} | {self.sizes.index(self.knee)}
        lines = ["learned  tokens of held-out text"]
        for at in sorted(shown):
            share = self.tokens[at] / max(self.tokens[0], 1)
            knee = "  knee" if self.sizes[at] == self.knee else ""
            lines.append(f"{self.sizes[at]:7,}  {bar(share):<{WIDTH}} {share:6.1%}".replace("%", " %") + knee)
        return "\n".join(lines)


def bar(share: float) -> str:
    """A bar of ``share`` of the width, in eighths of a character.

    >>> bar(0.5), bar(0.01)
    ('████████████████████', '▍')
    """
    whole, eighths = divmod(round(share * WIDTH * 8), 8)
    return "█" * whole + " ▏▎▍▌▋▊▉"[eighths].strip()


def points(largest: int) -> list[int]:
    """Sizes to measure, evenly from 0 to ``largest``.

    >>> points(80)[:3], points(2)
    ([0, 2, 4], [0, 1, 2])
    """
    return sorted({largest * point // POINTS for point in range(POINTS + 1)})


def hold_out(texts: Iterable[str], held: list[str]) -> Iterator[str]:
    """Pass texts on, but put one of ``EVERY`` into ``held`` instead, until it has ``HELD_OUT``.

    >>> held = []
    >>> len(list(hold_out(map(str, range(100)), held))), held
    (95, ['0', '20', '40', '60', '80'])
    """
    for number, text in enumerate(texts):
        if number % EVERY == 0 and len(held) < HELD_OUT:
            held.append(text)
        else:
            yield text
