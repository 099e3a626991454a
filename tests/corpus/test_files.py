import gzip
import json
import lzma

import pyarrow
import pyarrow.parquet
import pytest

from koembed.config import Config, Data, Evaluation
from koembed.corpus import kopairs
from koembed.corpus.data import grade_triplets, load_bitext, load_corpus, load_pairs, load_sts, load_texts
from koembed.corpus.files import rows
from koembed.errors import InputError

TEXTS = ["창문을 열어 주세요.", "기차가 늦게 왔다.", "사과가 맛있네요."]


@pytest.fixture(params=["txt", "jsonl", "tsv", "csv", "parquet", "tsv.xz", "jsonl.gz"])
def text_file(request, tmp_path):
    """The same three texts in every format."""
    path = tmp_path / f"texts.{request.param}"
    kind = request.param.split(".")[0]
    if kind == "parquet":
        pyarrow.parquet.write_table(pyarrow.table({"text": TEXTS}), path)
        return path
    content = {
        "txt": "\n".join(TEXTS),
        "jsonl": "\n".join(json.dumps({"text": text}) for text in TEXTS),
        "tsv": "\n".join(["text\tdomain", *(f"{text}\tx" for text in TEXTS)]),
        "csv": "\n".join(["text,domain", *(f'"{text}",x' for text in TEXTS)]),
    }[kind]
    opener = {".xz": lzma.open, ".gz": gzip.open}.get(path.suffix, open)
    with opener(path, "wt", encoding="utf-8") as file:
        file.write(content)
    return path


def test_every_format_gives_the_same_texts(text_file):
    assert load_texts(Data(texts=[str(text_file)])) == TEXTS


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    """Excel puts one before the CSV files that it writes as UTF-8."""
    (tmp_path / "marked.csv").write_text("text\n창문을 열어 주세요.\n", encoding="utf-8-sig")
    assert list(rows(str(tmp_path / "marked.csv"), ("text",))) == [{"text": TEXTS[0]}]


def test_plain_text_has_the_column_text_whatever_tables_have(tmp_path):
    (tmp_path / "plain.txt").write_text(TEXTS[0], encoding="utf-8")
    (tmp_path / "table.tsv").write_text(f"body\n{TEXTS[1]}\n", encoding="utf-8")
    sources = [str(tmp_path / name) for name in ("plain.txt", "table.tsv")]
    assert load_texts(Data(texts=sources, text_column="body")) == TEXTS[:2]


def test_nothing_of_the_corpus_is_selected_or_measured_on(tmp_path):
    def write(name: str, *lines: str) -> str:
        (tmp_path / name).write_text("\n".join(lines), encoding="utf-8")
        return str(tmp_path / name)

    graded = kopairs.pairs("test")[0]
    sts = write("sts.tsv", "sentence1\tsentence2\tscore", "기차가 늦게 왔다.\t버스가 왔다.\t3")
    bitext = [
        write(f"{split}.tsv", "en\tko", f"open the window {split}\t{korean}")
        for split, korean in (("select", "창문을 열어 주세요."), ("test", "문을 닫아 주세요."))
    ]
    month = write("month.tsv", "query\tpassage", "주차\t주차장을 늘려 주세요. 차 댈 곳이 없습니다.")
    data = {
        "texts": [write("t.txt", *TEXTS, graded.sentence1)],
        "bitext": [write("b.tsv", "en\tko", "open the window\t창문을 열어주세요", "a late train\t늦은 기차")],
        "bitext_select": bitext[:1],
        "bitext_test": bitext[1:],
        "pairs": [write("p.tsv", "sentence1\tsentence2\tscore", "버스가 왔다\t배가 온다\t1", "해가 진다\t노을이다\t4")],
        "passages": [write("q.tsv", "query\tpassage", "주차\t주차 단속", "급식\t급식을 바꿔 주세요.")],
        "passages_select": [month],
    }
    config = Config(data=Data(**data), evaluation=Evaluation(sts=[sts]))
    corpus = load_corpus(config)
    assert corpus.texts == ["사과가 맛있네요."]
    assert corpus.bitext == [("a late train", "늦은 기차")]
    assert corpus.scored == [("해가 진다", "노을이다", 0.8)]
    assert corpus.passages == [("급식", "급식을 바꿔 주세요.")]
    with pytest.raises(InputError, match=r"data\.pairs: every row holds a sentence that is selected or measured on"):
        load_corpus(config.model_copy(update={"data": Data(**{**data, "pairs": [sts]})}))


def test_what_is_wrong_with_a_file_is_said(tmp_path):
    latin = tmp_path / "latin.txt"
    latin.write_bytes("한국어".encode("euc-kr"))
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "bad.jsonl").write_text("{not json}\n")
    (tmp_path / "other.tsv").write_text("body\n글\n")
    (tmp_path / "torn.txt.gz").write_bytes(gzip.compress(b"text" * 99)[:-12] + b"\xff" * 12)
    (tmp_path / "endless.csv").write_text(f'text\n"{"x" * 200_000}"\n')
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 and nothing else PAR1")
    for name, message in {
        "none.txt": "no such file",
        "latin.txt": "cannot be read as UTF-8",
        "empty.txt": "no rows",
        "bad.jsonl": "line 1: not JSON",
        "other.tsv": "no column text; it has: body",
        "picture.png": "no such file",
        "torn.txt.gz": "cannot be read as UTF-8",
        "endless.csv": r"cannot be read as UTF-8 text or table \(field larger than field limit",
        "torn.parquet": "not a parquet file",
    }.items():
        with pytest.raises(InputError, match=message):
            list(rows(str(tmp_path / name), ("text",)))


def test_texts_without_korean_are_an_error(tmp_path):
    (tmp_path / "english.txt").write_text("only English here\n")
    with pytest.raises(InputError, match="no Korean text left"):
        load_texts(Data(texts=[str(tmp_path / "english.txt")]))


def test_pairs_files_are_told_apart_by_their_columns(tmp_path):
    (tmp_path / "t.tsv").write_text("anchor\tpositive\thard_negative\n가\t나\t다\n")
    (tmp_path / "s.tsv").write_text("sentence1\tsentence2\tscore\n가\t나\t2.5\n")
    triplets, scored = load_pairs([str(tmp_path / "t.tsv"), str(tmp_path / "s.tsv")])
    assert triplets == [("가", "나", "다")]
    assert scored == [("가", "나", 0.5)]
    (tmp_path / "x.tsv").write_text("a\tb\n1\t2\n")
    with pytest.raises(InputError, match="needs columns"):
        load_pairs([str(tmp_path / "x.tsv")])


def test_balanced_sources_weigh_alike(tmp_path):
    (tmp_path / "few.tsv").write_text("sentence1\tsentence2\tscore\n가\t나\t5\n다\t라\t0\n")
    (tmp_path / "one.tsv").write_text("sentence1\tsentence2\tscore\n마\t바\t5\n")
    files = [str(tmp_path / name) for name in ("few.tsv", "one.tsv")]
    _, scored = load_pairs(files, balance=True)
    assert scored == [("가", "나", 1.0), ("다", "라", 0.0), ("마", "바", 1.0), ("마", "바", 1.0)]
    assert load_pairs(files)[1] == scored[:3]


def test_a_score_off_the_scale_is_named(tmp_path):
    (tmp_path / "s.tsv").write_text("sentence1\tsentence2\tscore\n가\t나\t7\n")
    with pytest.raises(InputError, match="row 1: score '7'"):
        load_sts(str(tmp_path / "s.tsv"))


def test_bitext_of_a_file_and_of_kopairs(tmp_path):
    (tmp_path / "b.tsv").write_text("en\tko\nOpen the window.\t창문을 열어 주세요.\n")
    expected = [("Open the window.", "창문을 열어 주세요.")]
    assert load_bitext([str(tmp_path / "b.tsv")]) == expected
    assert load_bitext(["kopairs", str(tmp_path / "b.tsv")]) == kopairs.translations() + expected


def test_held_out_translations_have_each_sentence_once(tmp_path):
    """Else the second of two right translations counts as a miss."""
    (tmp_path / "b.tsv").write_text("en\tko\nCancel the order\t주문 취소\nCancel the order\t주문을 취소하기\n")
    file = [str(tmp_path / "b.tsv")]
    assert load_bitext(file, "test") == [("Cancel the order", "주문 취소")]
    assert len(load_bitext(file)) == 2


def test_triplets_are_graded_without_calling_a_positive_a_stranger(rng):
    triplets = [(f"a{i}", f"p{i}", f"h{i}") for i in range(50)]
    graded = grade_triplets(triplets, rng)
    assert {(first, second) for first, second, score in graded if score == 1} == {(a, p) for a, p, _ in triplets}
    assert all(first[1:] != second[1:] for first, second, score in graded if score == 0)
