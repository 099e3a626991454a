import numpy as np

from conftest import PAIRS
from koembed.adapters.model import AdapterSpec, adapted
from koembed.corpus import kopairs
from koembed.evaluation.suites.stages import Suite, measure
from koembed.metrics import encode, retrieval_accuracy


def test_translations_are_found_with_the_retrieval_adapter(bert_directory):
    """The similarities of pairs are those of the first task."""
    model = adapted(bert_directory)
    for name in ("sts", "retrieval"):
        model[0].add_adapter(AdapterSpec(name, 8, task=True))
    for site in model[0].sublayer_sites:
        site.adapters["retrieval"].up.weight.data.normal_()
    model[0].select()
    before = adapted(bert_directory)
    suite = Suite(kopairs.pairs("test")[:200], kopairs.probes()[:20], PAIRS, resamples=10)
    found = measure(model, suite)
    english, korean = (encode(model, list(side), task="retrieval") for side in zip(*PAIRS, strict=True))
    assert found["queries"]["ko_en"] == retrieval_accuracy(korean, english).tolist()
    assert found["queries"]["en_ko"] == retrieval_accuracy(english, korean).tolist()
    assert not np.allclose(korean, encode(model, [korean for _, korean in PAIRS]))
    assert found["cosines"] == measure(before, suite)["cosines"]
