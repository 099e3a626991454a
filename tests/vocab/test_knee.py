"""The knee of a curve, and the plot that shows it."""

import math

import numpy as np
import pytest

from koembed.vocab.knee import HELD_OUT, WIDTH, Curve, bar, hold_out, points


@pytest.mark.parametrize("rate", [0.5, 2.0, 8.0, 20.0])
def test_the_knee_of_an_exponential_is_where_calculus_puts_it(rate):
    """Scaled to the unit square the curve is e^-rx less its end; its slope equals the chord's at one place."""
    sizes = list(range(1_001))
    tokens = [round(1e9 * math.exp(-rate * size / 1_000)) for size in sizes]
    expected = math.log(rate / -math.expm1(-rate)) / rate
    assert Curve(sizes, tokens).knee == pytest.approx(1_000 * expected, abs=1)


def test_the_knee_is_the_same_in_other_units():
    sizes, tokens = points(4_000), [round(1e6 / (1 + 0.01 * size)) for size in points(4_000)]
    knee = Curve(sizes, tokens).knee
    assert Curve([3 * size for size in sizes], [7 * count + 5 for count in tokens]).knee == 3 * knee


def test_nothing_saved_means_nothing_to_learn():
    assert Curve([0, 1, 2], [9, 9, 9]).knee == 0
    assert Curve([0], [0]).knee == 0
    assert "nan" not in Curve([0], [0]).plot()


def test_a_curve_that_bends_the_other_way_has_no_knee():
    assert Curve([0, 1, 2, 3], [9, 9, 8, 5]).knee == 3
    assert Curve([0, 1, 2, 3], [9, 8, 7, 6]).knee == 3


def test_the_plot_shows_the_ends_and_the_knee():
    curve = Curve(points(32_000), [round(1e6 / (1 + size / 1_000)) for size in points(32_000)])
    lines = curve.plot().splitlines()[1:]
    shown = [int(line.split()[0].replace(",", "")) for line in lines]
    assert shown == sorted({*shown, 0, curve.knee, 32_000})
    assert [line.endswith("knee") for line in lines].index(True) == shown.index(curve.knee)
    assert max(map(len, lines)) <= 80


def test_bars_are_as_long_as_their_share():
    eighths = {"█": 8} | {char: place for place, char in enumerate(" ▏▎▍▌▋▊▉")}
    for share in np.linspace(0, 1, 57):
        assert sum(eighths[char] for char in bar(share)) == pytest.approx(share * WIDTH * 8, abs=0.5)


def test_held_out_texts_and_the_others_are_the_corpus():
    held: list[str] = []
    texts = [str(number) for number in range(200_000)]
    rest = list(hold_out(texts, held))
    assert len(held) == HELD_OUT
    assert sorted(rest + held, key=int) == texts
