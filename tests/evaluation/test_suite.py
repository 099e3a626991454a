import pytest

from koembed.adapters.model import AdapterSpec, adapted
from koembed.corpus import kopairs
from koembed.evaluation.suites.stages import Suite, measure
from koembed.metrics import encode, retrieval_accuracy


@pytest.mark.parametrize("name", ["retrieval", "chat"])
def test_translations_are_found_with_the_retrieval_adapter_alone(bert_directory, name):
    """Similarities are measured with the first task, and so is all where no task is called retrieval."""
    model = adapted(bert_directory)
    for task in ("sts", name):
        model[0].add_adapter(AdapterSpec(task, 8, task=True))
    for site in model[0].sublayer_sites:
        site.adapters[name].up.weight.data.normal_()
    model[0].select()
    pairs = kopairs.pairs("test")[:200]
    translations = [(pair.sentence1, pair.sentence2) for pair in pairs]
    suite = Suite(pairs, kopairs.probes()[:20], translations, resamples=10)
    found, plain = measure(model, suite), measure(adapted(bert_directory), suite)
    assert found["cosines"] == plain["cosines"]
    english, korean = (encode(model, list(side), task=name) for side in zip(*translations, strict=True))
    by_adapter = {"ko_en": retrieval_accuracy(korean, english), "en_ko": retrieval_accuracy(english, korean)}
    for direction, hits in by_adapter.items():
        assert hits.tolist() != plain["queries"][direction]
        expected = hits.tolist() if name == "retrieval" else plain["queries"][direction]
        assert found["queries"][direction] == expected
