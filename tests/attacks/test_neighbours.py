from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch

from mogrid.attacks.base import Attack
from mogrid.attacks.flips import Target
from mogrid.attacks.neighbours import EmbeddingNeighbourFlips
from mogrid.data.domain import Domain, Role, Split
from mogrid.errors import ConfigError, DataError, EvaluationError, RoleError
from mogrid.evaluation.attacked import AttackResult, attack_success, perturbed_share
from mogrid.flops import FlopLedger
from mogrid.retrieval import encode, encode_split
from mogrid.retrieval.models import build_retriever

RNG = np.random.default_rng(0)


class Nothing(Attack):
    """Adds a space that no model reads."""

    name = "nothing"
    role = Role.TEST
    white_box = False

    def perturb(self, texts, victim, rng):
        return [f"{text} " for text in texts]


class RandomWords(Attack):
    """Replaces the first five words by any others."""

    name = "random"
    role = Role.TEST
    white_box = False

    def perturb(self, texts, victim, rng):
        words = sorted({word.strip(".,").lower() for text in texts for word in text.split()})
        return [" ".join([*rng.choice(words, 5), *text.split()[5:]]) for text in texts]


@pytest.mark.parametrize("towers", [1, 2])
def test_beats_random_flips_and_nothing(tokenizer, domain, towers):
    model = build_retriever("1x32", tokenizer, towers=towers, dropout=0.0)
    rates = {
        attack.name: attack_success(model, domain, Role.TEST, attack, targets=30)
        for attack in (EmbeddingNeighbourFlips(), RandomWords(), Nothing())
    }
    assert rates["nothing"].success_rate == 0
    assert rates["nothing"].median_boost == rates["nothing"].perturbed == 0
    assert rates["embedding_neighbour_flips"].success_rate > rates["random"].success_rate + 0.2
    assert rates["embedding_neighbour_flips"].median_boost > 40
    assert rates["embedding_neighbour_flips"].knowledge == "white-box"


def test_every_rank_follows_from_the_text(model, domain):
    encoded = encode_split(model, domain, Role.TEST)
    result = attack_success(model, domain, Role.TEST, EmbeddingNeighbourFlips(), targets=40, encoded=encoded)
    assert result.targets == 40
    assert result.band == (51, 100)
    queries = domain.splits[Role.TEST].queries
    texts = [domain.corpus[outcome.document] for outcome in result.outcomes]
    attacked = EmbeddingNeighbourFlips().perturb(texts, Target(model, [queries[o.query] for o in result.outcomes]), RNG)
    for outcome, text in zip(result.outcomes, attacked, strict=True):
        corpus = {**domain.corpus, outcome.document: text}
        scores = dict(
            zip(
                corpus,
                model.encode_document(list(corpus.values())) @ model.encode_query(queries[outcome.query]),
                strict=True,
            )
        )
        assert sum(scores[d] > scores[outcome.document] + 1e-5 for d in corpus) < outcome.after
        assert sum(scores[d] > scores[outcome.document] - 1e-5 for d in corpus) >= outcome.after
        assert outcome.before >= 51
        assert outcome.document not in domain.splits[Role.TEST].qrels[outcome.query]


def test_keeps_to_its_budget_and_leaves_the_rest_alone(model, domain):
    texts = list(domain.corpus.values())[:20]
    queries = list(domain.splits[Role.TEST].queries.values())[20:40]
    for flips, neighbours in ((1, 20), (3, 2)):
        attacked = EmbeddingNeighbourFlips(flips, neighbours).perturb(texts, Target(model, queries), RNG)
        table = torch.nn.functional.normalize(model[0].auto_model.get_input_embeddings().weight.detach(), dim=1)
        spelled = model.tokenizer.convert_ids_to_tokens(range(len(table)))
        words_only = table[[i for i, token in enumerate(spelled) if token.isalpha()]]
        for before, after in zip(texts, attacked, strict=True):
            words, changed = before.replace(",", " ,").split(), after.replace(",", " ,").split()
            assert len(words) == len(changed)
            flipped = [(a, b) for a, b in zip(words, changed, strict=True) if a != b]
            assert len(flipped) <= flips
            assert perturbed_share(before, after) == pytest.approx(len(flipped) / 14)
            for a, b in flipped:
                old, new = (model.tokenizer.convert_tokens_to_ids(word.strip(".").lower()) for word in (a, b))
                nearer = (words_only @ table[old] > table[old] @ table[new] + 1e-6).sum()
                assert nearer <= neighbours  # itself among them


def test_scores_never_fall_and_more_flips_do_more(model, domain):
    texts = list(domain.corpus.values())
    asked = list(domain.splits[Role.TEST].queries.values())[::-1]
    queries = encode(model, asked, "query")
    scores = [
        (queries * encode(model, t, "document")).sum(axis=1)
        for t in (texts, *(EmbeddingNeighbourFlips(n).perturb(texts, Target(model, asked), RNG) for n in (1, 4)))
    ]
    assert (scores[1] >= scores[0] - 1e-5).all()
    assert scores[0].mean() < scores[1].mean() < scores[2].mean()


def test_deterministic_and_independent_of_the_batch(model, domain):
    texts, asked = list(domain.corpus.values())[:6], list(domain.splits[Role.TEST].queries.values())[6:12]
    attack = EmbeddingNeighbourFlips(2)
    together = attack.perturb(texts, Target(model, asked), RNG)
    assert together == attack.perturb(texts, Target(model, asked), np.random.default_rng(9))
    assert together == [attack.perturb([t], Target(model, [q]), RNG)[0] for t, q in zip(texts, asked, strict=True)]


def test_leaves_no_trace_on_the_model(tokenizer, domain):
    model = build_retriever("1x32", tokenizer, dropout=0.3).train()
    before = copy.deepcopy(model.state_dict())
    texts, asked = list(domain.corpus.values())[:4], list(domain.splits[Role.TEST].queries.values())[4:8]
    EmbeddingNeighbourFlips(1).perturb(texts, Target(model, asked), RNG)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not model[0].auto_model.get_input_embeddings()._forward_hooks
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_the_ledger_sees_the_cost_as_crafting(model, domain):
    texts, asked = list(domain.corpus.values())[:8], list(domain.splits[Role.TEST].queries.values())[8:16]
    with FlopLedger(model) as ledger:
        EmbeddingNeighbourFlips(1).perturb(texts, Target(model, asked), RNG)
    assert ledger.crafting > 0
    assert ledger.forward == ledger.backward == 0


def test_prompts_and_padding_side(model, domain):
    model.prompts = {"document": "bridge tower: "}
    model.tokenizer.padding_side = "left"
    texts = [text[: 20 + 3 * i] for i, text in enumerate(list(domain.corpus.values())[:10])]
    asked = list(domain.splits[Role.TEST].queries.values())[20:30]
    attacked = EmbeddingNeighbourFlips(2).perturb(texts, Target(model, asked), RNG)
    queries = encode(model, asked, "query")
    gains = (queries * (encode(model, attacked, "document") - encode(model, texts, "document"))).sum(axis=1)
    assert (gains >= -1e-5).all()
    assert gains.max() > 0
    assert all(len(a.split()) == len(b.split()) for a, b in zip(texts, attacked, strict=True))


def test_texts_with_nothing_to_flip_stay(model):
    texts = ["", "?!", "qwrtz 12345", "[MASK] [SEP]"]
    assert EmbeddingNeighbourFlips().perturb(texts, Target(model, ["river"] * 4), RNG) == texts
    assert EmbeddingNeighbourFlips().perturb([], Target(model, []), RNG) == []


def test_transfer_is_black_box(tokenizer, model, domain):
    other = build_retriever("1x32", tokenizer, seed=7)
    result = attack_success(model, domain, Role.TEST, EmbeddingNeighbourFlips(), targets=10, crafted_on=other)
    assert result.knowledge == "black-box"


def test_json_round_trip_and_seed(model, domain):
    first, again, other = (
        attack_success(model, domain, Role.TEST, EmbeddingNeighbourFlips(1), targets=5, seed=s) for s in (0, 0, 1)
    )
    assert first.outcomes == again.outcomes
    assert [o.query for o in first.outcomes] != [o.query for o in other.outcomes]
    record = json.loads(json.dumps(first.to_json()))
    assert AttackResult.from_json(record) == first
    with pytest.raises(DataError, match="band"):
        AttackResult.from_json({k: v for k, v in record.items() if k != "band"})


def test_more_targets_than_queries(model, domain):
    few = Domain("few", domain.corpus, {Role.TEST: Split(Role.TEST, {"q": "river stone"}, {"q": {"d0": 1}})})
    assert attack_success(model, few, Role.TEST, Nothing(), targets=20).targets == 20
    assert attack_success(model, few, Role.TEST, Nothing(), targets=99).targets == 46  # ranks 51 to 96


def test_perturbed_share():
    assert perturbed_share("a b c d", "A  b. c, d") == 0
    assert perturbed_share("a b c d", "a x c d") == 0.25
    assert perturbed_share("a b", "a b c d") == 1.0
    assert perturbed_share("a b c d", "a b") == 0.5
    assert perturbed_share("", "") == 0
    assert perturbed_share("a b c a b c", "a b x a b c") == pytest.approx(1 / 6)


def test_roles_and_bad_input(model, domain):
    with pytest.raises(RoleError, match="role test"):
        attack_success(model, domain, Role.SELECT, EmbeddingNeighbourFlips())
    assert (
        attack_success(model, domain, Role.SELECT, EmbeddingNeighbourFlips(1, role=Role.SELECT), targets=2).targets == 2
    )
    with pytest.raises(EvaluationError, match="beyond 10"):
        attack_success(model, domain, Role.TEST, Nothing(), band=(5, 100))
    with pytest.raises(EvaluationError, match="no document to attack"):
        attack_success(model, domain, Role.TEST, Nothing(), band=(500, 600))
    with pytest.raises(ConfigError, match="at least 1"):
        EmbeddingNeighbourFlips(0)
    with pytest.raises(ConfigError, match="needs a Target"):
        EmbeddingNeighbourFlips().perturb(["river"], model, RNG)
    with pytest.raises(ConfigError, match="one query for each document"):
        EmbeddingNeighbourFlips().perturb(["river"], Target(model, []), RNG)
