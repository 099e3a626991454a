import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from conftest import KOREAN, PAIRS
from koembed.errors import InputError
from koembed.metrics import encode
from koembed.models import in_bf16
from koembed.training import gate
from koembed.training.gate import Interpolation, Judge, Scores, choose, found_both_ways, snapshot, spread_pairs


def curve(*rows: tuple[float, float, float]):
    """score_at for rows of (spearman, discrimination, english) at equal steps."""

    def score_at(alpha: float) -> Scores:
        ranking, discrimination, english = rows[round(alpha * (len(rows) - 1))]
        return Scores(ranking, ranking, discrimination, retrieval=ranking, english=english)

    return score_at, len(rows) - 1


def test_the_best_strength_wins():
    score_at, steps = curve((0.5, 0.2, 1), (0.7, 0.3, 1), (0.6, 0.4, 1))
    assert choose(score_at, steps, english_floor=0.9).alpha == 0.5


def test_a_stage_that_only_loses_is_left_out():
    score_at, steps = curve((0.5, 0.2, 1), (0.4, 0.3, 1), (0.1, 0.4, 1))
    assert choose(score_at, steps, english_floor=0.9).alpha == 0


def test_a_better_ranking_with_less_discrimination_is_not_admitted():
    score_at, steps = curve((0.5, 0.2, 1), (0.9, 0.1, 1))
    assert choose(score_at, steps, english_floor=0.9).alpha == 0
    assert choose(score_at, steps, english_floor=0.9, purpose="retrieval").alpha == 1


def test_what_is_for_similarity_alone_may_cost_retrieval():
    before, after = Scores(0.5, 0.6, 0.2, retrieval=0.9, english=1), Scores(0.6, 0.7, 0.3, retrieval=0.6, english=1)
    scores = {0.0: before, 1.0: after}
    assert choose(scores.get, 1, english_floor=0.9, purpose="both").alpha == 0
    assert choose(scores.get, 1, english_floor=0.9, purpose="similarity").alpha == 1
    qualities = [before.quality(purpose) for purpose in ("both", "similarity", "retrieval")]
    assert qualities == pytest.approx([2 / 3, 0.55, 0.9])


def test_english_holds_a_stage_back():
    score_at, steps = curve((0.5, 0.2, 1), (0.6, 0.3, 0.95), (0.9, 0.5, 0.5))
    assert choose(score_at, steps, english_floor=0.9).alpha == 0.5


def test_of_equals_the_smallest_wins():
    score_at, steps = curve((0.5, 0.2, 1), (0.5, 0.2, 1), (0.5, 0.2, 1))
    assert choose(score_at, steps, english_floor=0.9).alpha == 0


def test_refused_strengths_carry_their_reasons():
    score_at, steps = curve((0.5, 0.2, 1), (0.6, 0.3, 0.95), (0.4, 0.3, 0.8), (0.7, 0.1, 1), (0.4, 0.1, 0.5))
    points = choose(score_at, steps, english_floor=0.9).as_dict()["curve"]
    assert [point["refused"] for point in points] == [
        None,
        None,
        "English fell below 0.90 and Spearman fell",
        "discrimination fell",
        "English fell below 0.90 and discrimination fell and Spearman fell",
    ]
    points = choose(score_at, steps, english_floor=0.9, purpose="retrieval").as_dict()["curve"]
    english = "English fell below 0.90"
    assert [point["refused"] for point in points] == [None, None, english, None, english]


def test_what_cannot_be_scored_is_refused():
    score_at, steps = curve((0.5, 0.2, 1), (float("nan"), 0.3, float("nan")))
    verdict = choose(score_at, steps, english_floor=0.9)
    assert verdict.alpha == 0
    assert verdict.refused[1.0] == "English fell below 0.90 and Spearman fell"


def test_english_that_was_lost_before_is_not_asked_for_again():
    score_at, steps = curve((0.5, 0.2, 0.8), (0.6, 0.3, 0.85), (0.7, 0.4, 0.79))
    verdict = choose(score_at, steps, english_floor=0.9)
    assert verdict.alpha == 0.5
    assert verdict.refused == {0.0: None, 0.5: None, 1.0: "English fell below 0.80"}


def test_interpolation_is_exact_at_both_ends_and_linear_between(bert_directory):
    model = SentenceTransformer(str(bert_directory), device="cpu")
    before, first = snapshot(model), model.encode(KOREAN)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    last = model.encode(KOREAN)
    weights = Interpolation(model, before)
    weights.set(0.25)
    mixed = snapshot(model)
    for name, value in before.items():
        expected = value.double() + 0.25 * (weights.after[name].double() - value.double())
        torch.testing.assert_close(mixed[name].double(), expected, atol=1e-6, rtol=1e-5)
    weights.set(0.0)
    np.testing.assert_array_equal(model.encode(KOREAN), first)
    weights.set(1.0)
    np.testing.assert_array_equal(model.encode(KOREAN), last)


def test_the_judge_finds_the_base_unchanged(bert_directory):
    base = SentenceTransformer(str(bert_directory), device="cpu")
    scored = [(KOREAN[i], KOREAN[i + 1], float(i)) for i in range(4)]
    judge = Judge(base, PAIRS, [scored], [(text, text) for text in KOREAN])
    scores = judge.score(base)
    retrieval = judge.score(base, "retrieval").retrieval
    with in_bf16(base):  # as the judge encodes
        english, korean = encode(base, judge.english), encode(base, judge.korean)
    translations = found_both_ways(korean @ english.T).mean()
    assert 0 < translations < 1
    assert retrieval == pytest.approx((1 + translations) / 2)  # each of the passages is its own query
    assert scores.english == pytest.approx(1)
    assert -1 <= scores.spearman <= 1
    assert 0 <= scores.auc <= 1


def test_sets_of_scored_pairs_weigh_alike_and_are_ranked_each_for_itself(bert_directory):
    """Pooled, two sets of different graders would be ranked by who graded."""
    base = SentenceTransformer(str(bert_directory), device="cpu")
    strict = [(KOREAN[i], KOREAN[i + 1], i / 5) for i in range(4)]
    lenient = [(KOREAN[i], KOREAN[i + 2], 4 + i % 2 / 5) for i in range(4)]
    none, one, other, both = (
        Judge(base, PAIRS, sets, []).score(base).spearman for sets in ([], [strict], [lenient], [strict, lenient])
    )
    assert one != other
    assert 3 * both == pytest.approx((2 * one - none) + (2 * other - none) + none)


def test_of_many_translations_a_sample_is_judged(bert_directory, monkeypatch):
    monkeypatch.setattr(gate, "MOST_TRANSLATIONS", 3)
    translations = [*PAIRS, ("a late train", "늦은 기차")]
    judge = Judge(SentenceTransformer(str(bert_directory), device="cpu"), translations, [], [])
    assert set(zip(judge.english, judge.korean, strict=True)) < set(translations)
    assert len(judge.english) == 3


def test_english_is_compared_at_all_degrees_of_similarity():
    texts = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
    texts[100:110] = texts[:10] + 0.1 * texts[10:20]  # ten pairs of near copies among thousands of strangers
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    similarities = texts @ texts.T
    first, second = spread_pairs(similarities, bands=10, most=5)
    assert (first < second).all()
    assert len(set(zip(first.tolist(), second.tolist(), strict=True))) == len(first)
    everything = similarities[np.triu_indices(200, 1)]
    edges = np.linspace(everything.min(), everything.max(), 11)
    most = np.minimum(np.histogram(everything, edges)[0], 5)
    assert np.histogram(similarities[first, second], edges)[0].tolist() == most.tolist()


def test_translations_too_few_to_correlate_are_refused(bert_directory):
    base = SentenceTransformer(str(bert_directory), device="cpu")
    with pytest.raises(InputError, match=r"data\.bitext_select: 2 held-out translations tell nothing"):
        Judge(base, PAIRS[:2], [], [])
