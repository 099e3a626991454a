import json

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, StaticEmbedding
from tokenizers import Tokenizer, normalizers, processors
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from conftest import ENGLISH, KOREAN
from koembed.cli import main
from koembed.errors import InputError
from koembed.models import backbone, input_rows
from koembed.vocab.graft import compose_hangul, graft_model
from koembed.vocab.inspect import (
    Subject,
    compare,
    decoded_worse,
    drift,
    inspect,
    korean_texts,
    measure_pooling,
    pooling_gate,
    rows_gate,
    special_changes,
)
from koembed.vocab.learned import Learned
from koembed.vocab.trim import trim, trim_model
from koembed.vocab.vocabulary import read_vocabulary
from koembed.vocab.wordpiece import graft_wordpiece, learn_wordpiece


def opened(directory) -> SentenceTransformer:
    return SentenceTransformer(str(directory), device="cpu")


def grafted(directory, wordpiece: Tokenizer, learned: Learned) -> SentenceTransformer:
    """The model with these tokens added, and rows of ones."""
    model = opened(directory)
    graft_model(model, graft_wordpiece(compose_hangul(wordpiece), learned), torch.ones(len(learned.tokens), 32))
    return model


def subject(model: SentenceTransformer) -> Subject:
    return Subject(model, read_vocabulary(model.tokenizer.backend_tokenizer))


def failed(gates) -> dict[str, str]:
    """What failed, with its example."""
    return {gate.what: gate.example for gate in gates if gate.count}


def test_an_expanded_model_holds_all_gates(bert_directory, wordpiece):
    learned = learn_wordpiece(compose_hangul(wordpiece), KOREAN * 5, 100, ["사과"])
    base, model = opened(bert_directory), grafted(bert_directory, wordpiece, learned)
    found = inspect(model, KOREAN, base)
    assert found.passed
    assert len(found.gates) == 7
    assert found.change["added"] == len(learned.tokens)
    assert found.change["dropped"] == found.change["added_unreachable"] == found.change["added_dead_rows"] == 0
    used = {token for text in KOREAN for token in model.tokenizer.tokenize(text)} & set(learned.tokens)
    assert found.change["added_used"] == len(used) / len(learned.tokens) > 0
    assert found.model["text"]["tokens_per_word"] < found.base["text"]["tokens_per_word"]
    assert json.loads(json.dumps(found.figures()))["passed"]


def test_damage_is_named_with_an_example(bert_directory, wordpiece):
    learned = Learned(["##tion", "NO한국"], ["tion", "NO한국"])
    base, model = subject(opened(bert_directory)), subject(grafted(bert_directory, wordpiece, learned))
    with torch.no_grad():
        input_rows(model.model)[-1] = 0
    change, gates = compare(model, base, KOREAN)
    found = failed(gates)
    assert found.keys() == {
        "English texts with other ids",
        "lines of code with other ids",
        "added tokens that no text produces",
        "texts that decode worse than with the base",  # Hangul is composed, but its syllables have no tokens
    }
    assert "tion" in found["English texts with other ids"].lower()
    assert found["added tokens that no text produces"] == "NO한국"
    assert (change["added_unreachable"], change["added_dead_rows"]) == (1 / 2, 1)
    assert 0 < change["english_changed"] < 1


def test_trimmed_models_are_compared_by_tokens(bert_directory, wordpiece):
    base, model = opened(bert_directory), opened(bert_directory)
    trim_model(model, *trim(wordpiece, [*ENGLISH[2:], *KOREAN]))
    change, gates = compare(subject(model), subject(base), KOREAN)
    assert change["renumbered"]
    assert change["dropped"] > 0
    assert failed(gates) == {}
    assert 0 < change["english_dropped"] < 1  # "the", "open"
    assert "English texts with other tokens" in {gate.what for gate in gates}


def test_drift_sets_texts_of_dropped_tokens_apart(wordpiece):
    base = read_vocabulary(wordpiece)
    small = read_vocabulary(trim(wordpiece, ["window", "water"])[0])
    assert drift(small, base, ["open window", "the water", "window"], True) == ([], ["open window", "the water"])
    without = json.loads(wordpiece.to_str())
    without["post_processor"] = None
    assert drift(read_vocabulary(Tokenizer.from_str(json.dumps(without))), base, ["rain"], False) == (["rain"], [])


def test_longer_inputs_fail_for_bpe_only(qwen3_directory):
    def bpe(merges: list[tuple[str, str]]) -> Subject:
        vocab = {"[SEP]": 0, "가": 1, "나": 2, "가나": 3, "다": 4}
        model = opened(qwen3_directory)
        model[0].processor = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(BPE(vocab, merges)), eos_token="[SEP]")
        return subject(model)

    whole, cut = bpe([("가", "나")]), bpe([])
    assert failed(compare(cut, whole, ["다", "가나다"])[1]) == {"texts with more tokens than in the base": "가나다"}
    assert failed(compare(whole, cut, ["다", "가나다"])[1]) == {}


def test_text_that_decodes_worse_is_found(wordpiece):
    base = read_vocabulary(compose_hangul(wordpiece))
    tokens = [*dict.fromkeys("창문물"), *(f"##{letter}" for letter in "창문물")]
    grown = graft_wordpiece(base.tokenizer, Learned(tokens, tokens))
    assert decoded_worse(read_vocabulary(grown), base, ["창문", "the 물", "뷁"]) == []
    assert decoded_worse(base, read_vocabulary(grown), ["창문", "the 물", "뷁", "The"]) == ["창문", "the 물"]
    grown.normalizer = normalizers.Sequence([grown.normalizer, normalizers.Replace("a", "")])
    assert decoded_worse(read_vocabulary(grown), base, ["water", "the"]) == ["water"]


def test_special_tokens_keep_ids_and_roles(bert_directory):
    base, model = subject(opened(bert_directory)), opened(bert_directory)
    assert special_changes(subject(model), base, renumbered=False) == []
    model.tokenizer.pad_token = "[MASK]"
    assert special_changes(subject(model), base, renumbered=False) == ["pad_token: [PAD] → [MASK]"]
    parts = json.loads(model.tokenizer.backend_tokenizer.to_str())
    parts["added_tokens"] = [token for token in parts["added_tokens"] if token["content"] != "[CLS]"]
    bare = Subject(base.model, read_vocabulary(Tokenizer.from_str(json.dumps(parts))))
    assert special_changes(bare, base, renumbered=True) == ["[CLS]: id 2 → None"]


def test_ids_without_rows_are_found_and_nothing_breaks(bert_directory):
    model = opened(bert_directory)
    backbone(model).resize_token_embeddings(len(model.tokenizer) - 5)
    assert rows_gate(subject(model)).count == 5
    found = inspect(model, KOREAN)
    assert not found.passed
    assert found.model["pooling"]["padding_changes"] is None


def test_the_pooling_of_both_kinds_of_model_is_consistent(model_directory):
    pooling = measure_pooling(subject(opened(model_directory)))
    assert (pooling["first"], pooling["last"]) == ("[CLS]", "[SEP]")
    assert pooling["padding_changes"] < 1e-4
    assert pooling_gate(pooling).count == 0


def test_pooling_that_misses_its_token_is_found(bert_directory):
    model = opened(bert_directory)
    bare = model.tokenizer.backend_tokenizer
    bare.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])  # adds nothing
    model[0].processor = PreTrainedTokenizerFast(tokenizer_object=bare, pad_token="[PAD]")
    assert pooling_gate(measure_pooling(subject(model))).count == 0  # the mean takes any token
    for mode, reason in (("cls", "no special token begins"), ("lasttoken", "no EOS ends a text")):
        model[1] = Pooling(32, mode)
        assert reason in pooling_gate(measure_pooling(subject(model))).example


def test_padding_that_moves_positions_is_found(bert_directory):
    model = opened(bert_directory)
    model.tokenizer.padding_side = "left"  # BERT counts positions from the left end, padding included
    assert "changes a vector" in pooling_gate(measure_pooling(subject(model))).example


def test_what_has_no_tokenizer_to_inspect_is_refused(wordpiece):
    static = SentenceTransformer(modules=[StaticEmbedding(wordpiece, embedding_dim=8)], device="cpu")
    with pytest.raises(InputError, match="begins with StaticEmbedding"):
        inspect(static, KOREAN)


def test_texts_of_a_file_or_of_kopairs(tmp_path):
    (tmp_path / "texts.txt").write_text("\n".join(KOREAN), encoding="utf-8")
    assert korean_texts(str(tmp_path / "texts.txt")) == KOREAN
    assert len(korean_texts(None)) == len(set(korean_texts(None))) > 500


def test_the_command_prints_a_table_or_json_and_exits_by_the_gates(bert_directory, wordpiece, tmp_path, capsys):
    texts = tmp_path / "texts.jsonl"
    texts.write_text(json.dumps({"text": KOREAN[0]}), encoding="utf-8")
    with pytest.raises(SystemExit, match="0"):
        main(["inspect", str(bert_directory), "--text", str(texts)])
    printed = capsys.readouterr().out.splitlines()
    assert max(map(len, printed)) <= 80
    assert printed[-1].startswith("ok")
    grafted(bert_directory, wordpiece, Learned(["NO한국"], ["NO한국"])).save(str(tmp_path / "model"))
    command = ["inspect", str(tmp_path / "model"), "--against", str(bert_directory), "--text", str(texts), "--json"]
    with pytest.raises(SystemExit, match="1"):
        main(command)
    *lines, last = capsys.readouterr().out.splitlines()
    assert "FAILED  1 added tokens that no text produces, for example: NO한국" in lines
    found = json.loads(last)
    assert (found["passed"], found["change"]["added"], found["model"]["text"]["texts"]) == (False, 1, 1)
