"""What a model reads of a text."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding

from conftest import KOREAN
from koembed import models
from koembed.models import as_read, open_model, token_lengths, vectors_by_length

words = st.lists(st.sampled_from([*" ".join(KOREAN).split(), "  ", "읽지못할낱말", "English", "!?"]), max_size=30)


@pytest.fixture(scope="module", params=["bert", "qwen3"])
def model(request) -> SentenceTransformer:
    return SentenceTransformer(str(request.getfixturevalue(f"{request.param}_directory")), device="cpu")


def ids(model: SentenceTransformer, text: str, max_length: int) -> list[int]:
    return model.tokenizer(text, truncation=True, max_length=max_length)["input_ids"]


@settings(deadline=None)  # the first use of a tokenizer takes its time
@given(texts=st.lists(words.map(" ".join), min_size=1, max_size=5), max_length=st.integers(4, 20))
def test_what_is_cut_off_was_not_read(model, texts, max_length):
    for text, read in zip(texts, as_read(model, texts, max_length), strict=True):
        assert text.startswith(read)
        assert ids(model, read, max_length) == ids(model, text, max_length)
        assert read == text or len(ids(model, read, 1_000)) >= max_length  # the last syllable may be several tokens


@settings(deadline=None)
@given(texts=st.lists(words.map(" ".join), min_size=1, max_size=12), batch_size=st.integers(1, 5))
def test_vectors_are_those_of_encode_whatever_the_batches(model, texts, batch_size):
    expected = model.encode(texts, normalize_embeddings=True)
    found = vectors_by_length(model, model.encode, texts, batch_size)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.dtype == np.float32


def test_batches_are_sorted_by_tokens_and_bounded_by_them(model, monkeypatch):
    """Korean is jamo to this tokenizer: seven of its letters are more tokens than seventeen English ones."""
    monkeypatch.setattr(models, "TOKENS_AT_ONCE", 30)
    texts = ["the open window .", "비가 오는 날", "rain", "시장에서 산 사과"]
    batches: list[list[str]] = []

    def encode(batch: list[str], **options):
        batches.append(batch)
        return model.encode(batch, **options)

    vectors_by_length(model, encode, texts, batch_size=2)
    assert [text for batch in batches for text in batch] == [texts[3], texts[1], texts[0], texts[2]]
    lengths = dict(zip(texts, token_lengths(model, texts), strict=True))
    assert all(len(batch) == 1 or len(batch) * lengths[batch[0]] <= 30 for batch in batches)
    assert len(batches) == 3  # the longest alone, since two of them would be over 30 tokens


def test_lengths_are_the_tokens_that_a_model_reads(bert_directory, wordpiece):
    model = SentenceTransformer(str(bert_directory), device="cpu")
    model.max_seq_length = 12
    assert token_lengths(model, ["rain", "the open window", KOREAN[0], ""]).tolist() == [3, 5, 12, 2]
    static = SentenceTransformer(modules=[StaticEmbedding(wordpiece, embedding_dim=4)], device="cpu")
    assert token_lengths(static, KOREAN).tolist() == [1] * 6
    assert vectors_by_length(static, static.encode, KOREAN).shape == (6, 4)


def test_prompts_reach_texts_queries_and_documents(bert_directory, tmp_path):
    model = open_model(bert_directory, prompt="모두: ")
    assert model.prompts == {"query": "모두: ", "document": "모두: ", "default": "모두: "}
    model = open_model(bert_directory, prompt="모두: ", document_prompt="글: ")
    assert (model.prompts["query"], model.prompts["document"]) == ("모두: ", "글: ")
    SentenceTransformer(str(bert_directory), prompts={"query": "물음: "}).save(str(tmp_path))
    assert open_model(tmp_path, prompt="모두: ").prompts == {
        "query": "물음: ",
        "document": "모두: ",
        "default": "모두: ",
    }
    assert open_model(tmp_path).default_prompt_name is None


def test_a_prompt_takes_its_place(model):
    text = " ".join(KOREAN)
    bare = as_read(model, [text], 20)[0]
    model.prompts["default"], model.default_prompt_name = "확인: ", "default"
    prompted = as_read(model, [text, KOREAN[0][:3]], 20)
    model.default_prompt_name = None
    assert text.startswith(prompted[0]) and len(prompted[0]) < len(bare) < len(text)
    assert prompted[1] == KOREAN[0][:3]


def test_a_prompt_that_takes_all_the_room_leaves_none(model):
    model.prompts["default"], model.default_prompt_name = " ".join(KOREAN), "default"
    read = as_read(model, [KOREAN[0], ""], 5)
    model.default_prompt_name = None
    assert read == ["", ""]
