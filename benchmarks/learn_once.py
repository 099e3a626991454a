"""Learn tokens from the first rows of a table, once: what `vocab.py` measures the memory of.

python benchmarks/learn_once.py TOKENIZER.json TABLE ROWS SIZE
"""

import sys

from tokenizers import Tokenizer

from koembed.corpus.files import rows
from koembed.vocab.bpe import learn_bpe

if __name__ == "__main__":
    tokenizer, table, count, size = sys.argv[1:]
    texts = (str(row["text"]) for row in rows(table, ("text",), int(count)))
    learned = learn_bpe(Tokenizer.from_file(tokenizer), texts, int(size))
    print(f"{len(learned.tokens)} tokens from {count} rows", flush=True)
