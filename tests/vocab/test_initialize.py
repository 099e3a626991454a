import numpy as np
import torch

from koembed.vocab.initialize import initialize_mean, initialize_random, initialize_semantic


def test_semantic_rows_equal_the_formula_in_float64(wordpiece):
    torch.manual_seed(0)
    weight = torch.randn(wordpiece.get_vocab_size(), 8)
    angles = {word: i for i, word in enumerate(w for w in wordpiece.get_vocab() if w.isascii() and w.isalpha())}

    def circle(texts):
        turns = np.array([angles.get(text, 2.3) / 50 for text in texts])
        return np.stack([np.cos(turns), np.sin(turns)], axis=1).astype(np.float32)

    rows = initialize_semantic(wordpiece, weight, ["물", "불", "물"], circle, top_k=2, temperature=0.1)
    words = [word for word in angles if len(word) > 1]
    cosines = np.array([np.cos((angles[word] - 2.3) / 50) for word in words])
    best = cosines.argsort()[-2:]
    weights = np.exp(cosines[best] / 0.1) / np.exp(cosines[best] / 0.1).sum()
    expected = weights @ weight[[wordpiece.token_to_id(words[i]) for i in best]].double().numpy()
    np.testing.assert_allclose(rows[0].double().numpy(), expected, atol=1e-4)
    assert torch.equal(rows[0], rows[2])


def test_mean_rows_equal_the_formula(wordpiece):
    weight = torch.randn(wordpiece.get_vocab_size(), 8)
    ids = wordpiece.encode("사과", add_special_tokens=False).ids
    row = initialize_mean(weight, [ids])[0]
    np.testing.assert_allclose(row.numpy(), weight[ids].double().mean(0).numpy(), atol=1e-6)


def test_random_rows_have_the_moments_of_the_base():
    weight = torch.randn(4000, 4) * torch.tensor([0.5, 1.0, 2.0, 3.0]) + torch.tensor([1.0, 0.0, -1.0, 2.0])
    rows = initialize_random(weight, 4000, seed=1)
    np.testing.assert_allclose(rows.mean(0), weight.mean(0), atol=0.2)
    np.testing.assert_allclose(rows.std(0), weight.std(0), rtol=0.1)
    assert torch.equal(rows, initialize_random(weight, 4000, seed=1))
