import numpy as np
from scipy.stats import spearmanr

from koembed.evaluation.significance import gains, paired_gain


def found_of(rng, *sts):
    """What is measured of a model, at random: 40 pairs and 40 queries of each kind."""
    return {
        "cosines": {name: rng.random(40) for name in ("similar", "hard", "plain", "graded", *sts)},
        "queries": {name: rng.random(40) for name in ("ko_en", "en_ko", "petitions")},
    }


def test_a_small_gain_on_the_same_rows_is_seen():
    rng = np.random.default_rng(0)
    hard_to_tell = rng.normal(0, 1, 300)
    better = hard_to_tell + 0.05 + rng.normal(0, 0.01, 300)
    gain = paired_gain(lambda values: float(values.mean()), [hard_to_tell], [better], 500)
    assert 0.04 < gain.low < gain.value < gain.high < 0.06


def test_equal_models_gain_exactly_nothing():
    model = found_of(np.random.default_rng(1), "klue")
    found = gains(model, model, {"graded": np.arange(40.0), "klue": np.arange(40.0)}, 50)
    for interval in (found["discrimination"], found["auc"], found["spearman"], found["sts"]["klue"], found["ko_en"]):
        assert interval == {"value": 0, "low": 0, "high": 0}


def test_values_equal_the_formulas():
    rng = np.random.default_rng(2)
    before, after = (found_of(rng) for _ in range(2))
    scores = {"graded": rng.random(40)}
    found = gains(before, after, scores, 20)

    def gap(side):
        cosines = side["cosines"]
        return cosines["similar"].mean() - np.concatenate([cosines["hard"], cosines["plain"]]).mean()

    assert np.isclose(found["discrimination"]["value"], gap(after) - gap(before))
    rho = [spearmanr(side["cosines"]["graded"], scores["graded"])[0] for side in (before, after)]
    assert np.isclose(found["spearman"]["value"], rho[1] - rho[0])
    rise = after["queries"]["petitions"].mean() - before["queries"]["petitions"].mean()
    assert np.isclose(found["passages"]["petitions"]["value"], rise)
    assert found["passages"]["petitions"]["low"] < rise < found["passages"]["petitions"]["high"]
