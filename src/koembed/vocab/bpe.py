"""BPE tokenizers, byte-level (Qwen3, Llama 3, SmolLM2) or SentencePiece-style (Gemma, Llama 2): go on with training.

Pre-tokens are cut into the base's tokens, one private character stands for each token, and the Rust BPE trainer goes
on merging from there. The merges it finds are appended after the base's, so the base's are all made first, as before,
and a new one can only join what the base left apart. From this follows, for every text:

- it gets no more tokens than with the base (SentencePiece-style: given byte fallback);
- if it holds no Hangul it keeps its ids, because the bytes of a new token occur in Hangul only;
- every new token fires on its own text: a merge that would not is left out.

Sources: Sennrich et al. 2016 (BPE); Purason et al. 2025, "Teaching Old Tokenizers New Words" (continued training).
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.trainers import BpeTrainer

from koembed.errors import InputError
from koembed.vocab.counting import count_words, repeated, without_model, without_rarest
from koembed.vocab.knee import LARGEST, Budget, Curve, hold_out, points
from koembed.vocab.learned import Learned

Pair = tuple[str, str]
Unit = tuple[str, ...]  # tokens of the base that together spell whole characters: nearly always one

# Hangul Jamo, Compatibility Jamo, Jamo Extended-A, Syllables with Jamo Extended-B: first and last of each.
BLOCKS = ((0x1100, 0x11FF), (0x3130, 0x318F), (0xA960, 0xA97F), (0xAC00, 0xD7FF))
HANGUL = "".join(f"{chr(first)}-{chr(last)}" for first, last in BLOCKS)
HAS_HANGUL = re.compile(f"[{HANGUL}]")
JOINABLE = re.compile(f" ?[{HANGUL}]+| ")
# Bytes of UTF-8 that occur in no character outside those blocks.
HANGUL_BYTES = re.compile(rb"[\xeb-\xed]|\xea[\xb0-\xbf]|\xe1[\x84-\x87]|\xe3\x85")

TRAINED = 150_000  # pre-tokens trained on, the most frequent: the trainer needs a quarter of a KB for each
FREQUENCY = 2  # what occurs once in the corpus is no pattern

# Private characters, none a surrogate or white space: a broken unit has one from HEAD on and one from TAIL on, a token
# of the base has PLAIN + its id. Their order is that of ties, see train().
HEAD, TAIL, PLAIN = 0x10000, 0x48000, 0x80000


def byte_letters() -> list[str]:
    """The letter that byte-level BPE writes for each byte (GPT-2's table): printable Latin-1 as it is, the rest above.

    >>> byte_letters()[0x20], byte_letters()[0x41], byte_letters()[0xEA]
    ('Ġ', 'A', 'ê')
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


LETTERS = byte_letters()
BYTES = {letter: byte for byte, letter in enumerate(LETTERS)}
CONTINUATION = frozenset(LETTERS[0x80:0xC0])


def byte_text(token: str) -> str:
    """The text of a byte-level token; empty where it begins or ends within a character.

    >>> byte_text("Ġthe"), byte_text("ê°")
    (' the', '')
    """
    try:
        return bytes(BYTES[letter] for letter in token).decode()
    except (UnicodeDecodeError, KeyError):  # KeyError: no byte letters, such as a reserved token written as text
        return ""


def is_byte_level(parts: dict[str, Any]) -> bool:
    """Whether a tokenizer, by the parts of its file, turns text into byte letters before it cuts it."""
    return '"ByteLevel"' in json.dumps([parts["normalizer"], parts["pre_tokenizer"]])


@dataclass(frozen=True)
class Base:
    """What training needs of the tokenizer that it continues.

    Attributes:
        tokenizer: the base.
        vocab: every token and its id, added tokens included.
        merges: its merges, in order.
        byte_level: whether its tokens are written in byte letters; otherwise in text with ``▁`` for a space.
    """

    tokenizer: Tokenizer
    vocab: dict[str, int]
    merges: list[Pair]
    byte_level: bool

    @property
    def space(self) -> str:
        """How its tokens write a space."""
        return LETTERS[0x20] if self.byte_level else "▁"

    def text(self, token: str) -> str:
        """What a token stands for; empty for one that begins or ends within a character, or that no bytes spell."""
        return byte_text(token) if self.byte_level else token.replace("▁", " ")


def read_base(tokenizer: Tokenizer) -> Base:
    """Take a tokenizer apart.

    Raises:
        InputError: its tokens carry a mark of their place in the word (``##``, ``</w>``).
    """
    parts = json.loads(tokenizer.to_str())  # merges come as pairs, in whichever form the file had them
    model = parts["model"]
    if model["continuing_subword_prefix"] or model["end_of_word_suffix"]:
        raise InputError("tokenizer: BPE that marks continuations (##) or word ends (</w>) cannot be expanded")
    merges = [(left, right) for left, right in model["merges"]]
    return Base(tokenizer, tokenizer.get_vocab(with_added_tokens=True), merges, is_byte_level(parts))


def learn_bpe(tokenizer: Tokenizer, texts: Iterable[str], size: Budget, words: Sequence[str] = ()) -> Learned:
    """Continue the base's training on the Hangul of a corpus until there are ``size`` new tokens.

    Merges join Hangul with Hangul, and the one space before a word with the Hangul after it; digits, punctuation and
    other scripts stay apart. Byte-level tokens that end within a character (scaffolding: a later merge needs them)
    are new tokens like the others, with an empty surface.

    Args:
        tokenizer: the base.
        texts: the corpus; read once.
        size: how many tokens, at most: a small corpus holds fewer. ``auto``: at the knee of the compression curve.
        words: words that merges shall lead to, each alone and after a space.

    Returns:
        Tokens in the order in which they were learned.

    Raises:
        InputError: the tokens carry a mark of their place in the word.
    """
    base = read_base(tokenizer)
    held: list[str] = []
    curve = None
    counts = count_pretokens(base, hold_out(texts, held) if size == "auto" else texts)
    counts = without_rarest(counts, TRAINED)
    if size == "auto":
        runs, symbols = encode_runs(base, counts)
        largest = replay(base, train(runs, LARGEST), symbols, LARGEST)
        curve = compression(base, largest, count_pretokens(base, held))
        size = curve.knee
    add_words(base, counts, words, size)
    runs, symbols = encode_runs(base, counts)
    del counts  # the trainer needs the room
    return replace(replay(base, train(runs, size), symbols, size), curve=curve)


def graft_bpe(tokenizer: Tokenizer, learned: Learned) -> Tokenizer:
    """A copy of a BPE tokenizer with tokens and merges appended: ids follow the highest, merges the base's."""
    parts = json.loads(tokenizer.to_str())
    vocab: dict[str, int] = parts["model"]["vocab"]
    # Added tokens that the model lacks would be given the ids after the model's last when read, now the new tokens'.
    vocab.update({token["content"]: token["id"] for token in parts["added_tokens"]})
    first = 1 + max(vocab.values())
    vocab.update({token: first + position for position, token in enumerate(learned.tokens)})
    parts["model"]["merges"] += learned.merges
    return Tokenizer.from_str(json.dumps(parts, ensure_ascii=False))


def count_pretokens(base: Base, texts: Iterable[str]) -> dict[str, int]:
    """How often each pre-token with Hangul in it occurs, as the model gets to see it.

    SentencePiece-style tokenizers may have no pre-tokenizer: their texts are cut before each word's ``▁``.
    """
    return count_words(texts, partial(_pretokens, without_model(base.tokenizer), base.byte_level))


def _pretokens(reader: Tokenizer, byte_level: bool, texts: Iterable[str]) -> Counter[str]:
    """The pre-tokens of some texts."""
    normalizer, pre_tokenizer = reader.normalizer, reader.pre_tokenizer
    found = re.compile(_hangul_in_letters()).search if byte_level else HAS_HANGUL.search
    words = re.compile("▁*[^▁]+").findall
    counts: Counter[str] = Counter()
    for text in filter(HAS_HANGUL.search, texts):
        normal = normalizer.normalize_str(text) if normalizer else text
        pieces = [piece for piece, _ in pre_tokenizer.pre_tokenize_str(normal)] if pre_tokenizer else [normal]
        counts.update(filter(found, pieces if byte_level else (word for piece in pieces for word in words(piece))))
    return counts


def _hangul_in_letters() -> str:
    """A pattern for byte letters that finds all Hangul, and the little else that shares its first two bytes."""
    leads = {chr(code).encode()[:2] for first, last in BLOCKS for code in range(first, last + 1)}
    return "|".join(LETTERS[lead] + LETTERS[second] for lead, second in sorted(leads))


def add_words(base: Base, counts: dict[str, int], words: Sequence[str], size: int) -> None:
    """Count each word, alone and after a space, like a pre-token that merges surely lead to; in place.

    That is the one at a tenth of ``size`` in the order of frequency: merges reach far beyond it. On Qwen3 with 8,000
    new tokens 200 words of the rarest all became tokens, both forms, for 0.006 of the tokens-after-to-before ratio.
    """
    common = sorted(counts.values(), reverse=True)[: size // 10 + 1]
    weight = max(FREQUENCY, *common[-1:], 0)
    for pretoken, count in count_pretokens(base, words).items():
        bare = pretoken.lstrip(base.space)
        for form in (bare, base.space + bare):
            counts[form] = counts.get(form, 0) + count * weight


def encode_runs(base: Base, counts: Mapping[str, int]) -> tuple[dict[str, int], dict[str, Unit]]:
    """Write pre-tokens in private characters, cut where nothing may be joined.

    Returns:
        How often each run occurs, and the unit that each symbol (a run's one or two private characters) stands for.
    """
    runs: dict[str, int] = {}
    symbols: dict[Unit, str] = {}
    units_of = _byte_units if base.byte_level else _text_units
    for pretoken, count in counts.items():
        run = ""
        for unit in units_of(base, pretoken):
            symbol = symbols.get(unit)
            if symbol is None:
                symbol = symbols[unit] = _symbol(base, unit, len(symbols))
            if run and (not symbol or unit[0].startswith(base.space)):
                runs[run] = runs.get(run, 0) + count
                run = ""
            run += symbol
        if run:
            runs[run] = runs.get(run, 0) + count
    mergeable = {run: count for run, count in runs.items() if len(run) > 1}
    return mergeable, {symbol: unit for unit, symbol in symbols.items() if symbol}


def _byte_units(base: Base, pretoken: str) -> list[Unit]:
    """The base's tokens of a byte-level pre-token, those that share a character together."""
    units: list[Unit] = []
    for token in base.tokenizer.model.tokenize(pretoken):
        if units and token.value[0] in CONTINUATION:
            units[-1] = (*units[-1], token.value)
        else:
            units.append((token.value,))
    return units


def _text_units(base: Base, pretoken: str) -> list[Unit]:
    """The base's tokens of a pre-token, but for what it has bytes or ``<unk>`` for: that is given by characters."""
    data, missing = pretoken.encode(), b""
    units: list[Unit] = []
    for token in base.tokenizer.model.tokenize(pretoken):
        span = data[slice(*token.offsets)]
        if span == token.value.encode():
            units += [*((char,) for char in missing.decode()), (token.value,)]
            missing = b""
        else:
            missing += span
    return [*units, *((char,) for char in missing.decode())]


def _symbol(base: Base, unit: Unit, number: int) -> str:
    """The private characters of a unit; empty for one that must not be joined with others.

    A unit that is no single token of the base (a syllable cut into bytes) is broken: it gets two characters of its
    own, so that the trainer finds the merge that mends it when its frequency is due, before any merge across its edge.
    """
    text = base.text("".join(unit))
    if not JOINABLE.fullmatch(text):
        return ""
    if len(unit) == 1 and unit[0] in base.vocab:
        return chr(PLAIN + base.vocab[unit[0]])
    # What mends it comes about from left to right, and must not be found in another script.
    steps = [bytes(map(BYTES.__getitem__, "".join(unit[:end]))) for end in range(2, len(unit))]
    if text == " " or number >= TAIL - HEAD or not all(map(HANGUL_BYTES.search, steps)):
        return ""
    return chr(HEAD + number) + chr(TAIL + number)


def train(runs: Mapping[str, int], size: int) -> list[Pair]:
    """The merges that Rust's trainer makes of runs, a quarter more than ``size``: some will not become tokens.

    The most frequent pair is merged first. Of equals, the one whose left side, then whose right side, is older:
    heads, tails and tokens of the base (by id) in this order, then merges by age.
    """
    learner = Tokenizer(BPE())
    learner.pre_tokenizer = WhitespaceSplit()
    alphabet = len(set().union(*runs))
    trainer = BpeTrainer(vocab_size=alphabet + size + size // 4, min_frequency=FREQUENCY, show_progress=False)
    learner.train_from_iterator(repeated(runs), trainer)
    return [(left, right) for left, right in json.loads(learner.to_str())["model"]["merges"]]


def replay(base: Base, pairs: Sequence[Pair], symbols: Mapping[str, Unit], size: int) -> Learned:
    """Put the trainer's merges in the base's terms, leaving out those that would not fire.

    The trainer takes two ways to one string for two tokens, and does not know that a string may be a token of the
    base. Here they are one token, and merges are tried on the base's own tokens of each new token's text.
    """
    ranks = {pair: rank for rank, pair in enumerate(base.merges)}
    spelled = {symbol: list(unit) for symbol, unit in symbols.items() if len(symbol) == 1}
    tokens: dict[str, None] = {}
    merges: list[Pair] = []
    for left, right in pairs:
        unit = symbols.get(left + right)
        if unit is None and not (left in spelled and right in spelled):
            continue  # a part of it was left out
        start = list(unit) if unit else spelled[left] + spelled[right]
        cuts = range(1, len(start)) if unit else [len(spelled[left])]
        steps = [("".join(start[:cut]), start[cut] if unit else "".join(start[cut:])) for cut in cuts]
        made = ["".join(step) for step in steps] or start  # a character needs no merge: the model looks it up
        new = [token for token in made if token not in base.vocab and token not in tokens]
        added = [step for step in steps if step not in ranks]
        if len(tokens) + len(new) > size:
            continue
        ranks.update({step: len(ranks) + position for position, step in enumerate(added)})
        if merged(start, ranks) != [made[-1]]:
            for step in added:
                del ranks[step]
            continue
        spelled[left + right] = start
        tokens.update(dict.fromkeys(new))
        merges += added
    return Learned(list(tokens), [base.text(token).removeprefix(" ") for token in tokens], merges)


def merged(tokens: Sequence[str], ranks: Mapping[Pair, int]) -> list[str]:
    """What BPE leaves of some tokens.

    >>> merged(["a", "b", "c"], {("b", "c"): 0, ("a", "bc"): 1})
    ['abc']
    """
    left = list(tokens)
    for _ in merging(left, ranks):
        pass
    return left


def merging(tokens: list[str], ranks: Mapping[Pair, int]) -> Iterator[int]:
    """Merge neighbours in place, the pair of lowest rank first, of equals the leftmost, as BPE encodes.

    Yields:
        The rank of each merge, after it is made.
    """
    while True:
        found = [(ranks[pair], at) for at, pair in enumerate(itertools.pairwise(tokens)) if pair in ranks]
        if not found:
            break
        rank, at = min(found)
        tokens[at : at + 2] = [tokens[at] + tokens[at + 1]]
        yield rank


def compression(base: Base, learned: Learned, counts: Mapping[str, int]) -> Curve:
    """Tokens that counted pre-tokens take with the first tokens learned and the merges that these need.

    BPE makes the merge of lowest rank first. With fewer merges a pre-token is therefore cut as it stands before the
    first merge that is left out, and one encoding, merge by merge, gives its tokens at every size. (Of SentencePiece
    style: given byte fallback.)
    """
    number = {token: place for place, token in enumerate(learned.tokens, start=1)}
    made = (number.get(left + right, 0) for left, right in learned.merges)
    needs = [0] * len(base.merges) + list(itertools.accumulate(made, max))  # by rank: the size that has the merge
    ranks = {pair: rank for rank, pair in enumerate([*base.merges, *learned.merges])}
    total, saved = 0, np.zeros(len(number) + 1, np.int64)
    for pretoken, count in counts.items():
        tokens = [token.value for token in base.tokenizer.model.tokenize(pretoken)]
        total += count * len(tokens)
        if not base.byte_level:
            tokens = [token for unit in _text_units(base, pretoken) for token in unit]
            for letter in filter(number.__contains__, tokens):  # it was bytes, and is a token without a merge
                saved[number[letter]] += count * (len(letter.encode()) - 1)
        for size in itertools.accumulate((needs[rank] for rank in merging(tokens, ranks)), max):
            saved[size] += count
    sizes = points(len(learned.tokens))
    return Curve(sizes, (total - np.cumsum(saved)[sizes]).tolist())
