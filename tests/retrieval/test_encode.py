from __future__ import annotations

import numpy as np
import pytest
import torch

from mogrid.errors import EvaluationError
from mogrid.retrieval import encode
from mogrid.retrieval.encode import reading
from mogrid.retrieval.models import build_retriever


@pytest.mark.parametrize("towers", [1, 2])
@pytest.mark.parametrize("batch_tokens", [1, 40, 4096])
def test_same_as_the_model_encodes(tokenizer, texts, towers, batch_tokens):
    model = build_retriever("1x32", tokenizer, towers=towers)
    if towers == 2:
        with torch.no_grad():
            for parameter in model[0].sub_modules["document"].parameters():
                parameter.add_(0.05)
    written = [text for pair in texts for text in pair] + ["", "river " * 50]
    for kind, own in (("query", model.encode_query), ("document", model.encode_document)):
        np.testing.assert_allclose(encode(model, written, kind, batch_tokens=batch_tokens), own(written), atol=1e-5)


def test_left_padding(model, texts):
    model.tokenizer.padding_side = "left"
    written = [document[: 5 + 3 * i] for i, (_, document) in enumerate(texts[:20])]
    np.testing.assert_allclose(encode(model, written, "query"), model.encode_query(written), atol=1e-5)


def test_prompts_and_truncated_dimensions_are_the_models(model, texts):
    written = [query for query, _ in texts[:5]]
    model.prompts = {"query": "stone stone "}
    np.testing.assert_allclose(encode(model, written, "query"), model.encode_query(written), atol=1e-5)
    assert np.abs(encode(model, written, "query") - encode(model, written, "document")).max() > 0.01
    model.truncate_dim = 8
    assert encode(model, written, "document").shape == (5, 8)


@pytest.mark.parametrize("training", [True, False])
def test_leaves_the_mode_and_forgets_dropout(tokenizer, texts, training):
    model = build_retriever("1x32", tokenizer, dropout=0.5).train(training)
    first, second = (encode(model, [texts[0][0]], "query") for _ in range(2))
    assert model.training is training
    assert np.array_equal(first, second)


def test_names_the_first_text_without_a_finite_embedding(model, texts):
    with torch.no_grad():
        model[0].auto_model.embeddings.word_embeddings.weight[model.tokenizer.convert_tokens_to_ids("eagle")] = np.nan
    with pytest.raises(EvaluationError, match="document 2 is not finite"):
        encode(model, ["river", "stone", "eagle stone", "eagle"], "document")


@pytest.mark.parametrize(("texts_in", "message"), [([], "no query"), (["a", None], "query 1 is not a string")])
def test_bad_input(model, texts_in, message):
    with pytest.raises(EvaluationError, match=message):
        encode(model, texts_in, "query")


def test_reading_ends_at_the_maximum_length(model):
    texts = ["river " * 20 + "stone", "River   " * 40, "river " * 5]
    first, second, third = reading(model, texts, "document")
    assert first == second != third
