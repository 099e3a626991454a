"""What a model reads of a text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer

from conftest import KOREAN
from koembed.models import as_read, open_model

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
