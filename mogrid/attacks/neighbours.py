"""Embedding-neighbour substitution: a few words of a document become others that the victim itself holds for alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mogrid.attacks.base import Attack
from mogrid.data.domain import Role
from mogrid.errors import ConfigError
from mogrid.evaluation.encode import encode, input_module, prompt_of
from mogrid.evaluation.errors import EvaluationError
from mogrid.evaluation.search import search
from mogrid.scaling.ledger import crafting

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["EmbeddingNeighbourFlips", "Target"]

_TRIES = 8
"""First-order guesses a flip that a forward pass then checks."""

_TEXTS_AT_ONCE = 64


@dataclass(frozen=True)
class Target:
    """The victim of a targeted attack: the model, and for each text the query that it is to rank high for."""

    model: SentenceTransformer
    queries: Sequence[str]


class EmbeddingNeighbourFlips(Attack):
    """Replace up to `flips` words of each document so that its query ranks it higher.

    Greedy and guided by gradients (Ebrahimi et al., HotFlip, arXiv 1712.06751, with PRADA's restriction to neighbours,
    arXiv 2204.01321): each flip ranks all allowed substitutions by the first-order change of the score, ∇s·(e' − e),
    checks the best eight by a forward pass over the substituted *text*, and keeps the best if the score rose. All
    documents advance together, so a flip costs one batched forward and backward and eight forwards a document.

    What may change: words that are one token, letters only, within what the model reads; each once. Into what: one of
    the `neighbours` nearest words (cosine) of the victim's own word embeddings, if it too is one token again when
    read as text. Those are not synonyms, and nothing holds back a word of the query when it is such a neighbour:
    nearness is the whole budget. The rest of the document, case and spacing included, stays as it was.

    Parameters
    ----------
    flips : int
        Words changed at most; fewer where nothing raises the score.
    neighbours : int
    role : Role
    """

    name = "embedding_neighbour_flips"
    white_box = True

    def __init__(self, flips: int = 5, neighbours: int = 20, role: Role = Role.TEST) -> None:
        if flips < 1 or neighbours < 1:
            raise ConfigError(f"flips and neighbours must be at least 1, got {flips} and {neighbours}")
        self.flips = flips
        self.neighbours = neighbours
        self.role = role

    @property
    def budget(self) -> str:
        """What the attacker may do, in words, for records and tables."""
        return f"{self.flips} words, each to one of its {self.neighbours} nearest in the victim's word embeddings"

    def perturb(self, texts: Sequence[str], victim: Any, rng: np.random.Generator) -> list[str]:
        """Return the documents as attacked.

        Parameters
        ----------
        texts : sequence of str
            Documents.
        victim : Target
            The model, and one query a document.
        rng : numpy.random.Generator
            Not drawn from: the attack is deterministic.

        Raises
        ------
        ConfigError
            The victim is not a `Target`, or its document tower is no transformer with a fast tokenizer.
        """
        if not isinstance(victim, Target) or len(victim.queries) != len(texts):
            raise ConfigError("embedding-neighbour flips need a Target: the victim, and one query for each document")
        if not texts:
            return []
        model = victim.model
        with crafting():
            queries = encode(model, victim.queries, "query")
            scores = np.einsum("nd,nd->n", queries, encode(model, texts, "document"))
            words = _Words(model, self.neighbours)
            attacked = list(texts)
            flipped: list[set[int]] = [set() for _ in texts]
            training = model.training
            model.eval()
            try:
                for _ in range(self.flips):
                    guesses = _guess(model, words, attacked, queries, flipped)
                    _keep_best(model, attacked, queries, scores, flipped, guesses)
            finally:
                model.train(training)
        return attacked


@dataclass(frozen=True)
class _Guess:
    """One substitution to try: the text number `row` with its word number `word` replaced."""

    row: int
    word: int
    text: str


class _Words:
    """The victim's words that are one token and stay it when read as text, and each one's nearest neighbours."""

    def __init__(self, model: SentenceTransformer, neighbours: int) -> None:
        reader = input_module(model, "document")
        self.tokenizer = getattr(reader, "tokenizer", None)
        encoder = getattr(reader, "auto_model", None)
        if encoder is None or not getattr(self.tokenizer, "is_fast", False):
            raise ConfigError("this white-box attack needs a transformer with a fast tokenizer as document encoder")
        self.embedding = encoder.get_input_embeddings()
        self.table: Tensor = self.embedding.weight.detach().float()
        self.count = neighbours
        self.text_of = self._surviving()
        if len(self.text_of) < 2:
            raise ConfigError("the victim's vocabulary has no two words that are one token each: nothing to substitute")
        self.ids = np.array(sorted(self.text_of))
        self._near: dict[int, NDArray[np.int64]] = {}

    def _surviving(self) -> dict[int, str]:
        tokenizer: Any = self.tokenizer
        special = set(tokenizer.all_special_ids)
        ids = [i for i in range(min(len(tokenizer), len(self.table))) if i not in special]
        written = {i: tokenizer.decode([i]).strip() for i in ids}
        words = {i: word for i, word in written.items() if word.isalpha()}
        # Read after another word, as it will be: some tokenizers spell a word otherwise at the start of a text.
        before = tokenizer("a", add_special_tokens=False)["input_ids"]
        if not words:
            return {}
        read = tokenizer([f"a {word}" for word in words.values()], add_special_tokens=False)["input_ids"]
        return {i: word for (i, word), tokens in zip(words.items(), read, strict=True) if tokens == [*before, i]}

    def near(self, tokens: Sequence[int]) -> NDArray[np.int64]:
        """Return the ids (len(tokens), neighbours) of the nearest words to each token, itself not among them."""
        new = sorted({token for token in tokens if token not in self._near})
        if new:
            table = torch.nn.functional.normalize(self.table, dim=1).cpu().numpy()
            _, found = search(table[new], table[self.ids], self.count + 1)
            for token, places in zip(new, found, strict=True):
                others = self.ids[places]
                self._near[token] = others[others != token][: self.count]
        return np.stack([self._near[token] for token in tokens])


def _guess(
    model: SentenceTransformer,
    words: _Words,
    texts: Sequence[str],
    queries: NDArray[np.float32],
    flipped: Sequence[set[int]],
) -> list[_Guess]:
    """Return, for every text, the substitutions of largest first-order gain."""
    guesses: list[_Guess] = []
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        some = texts[start : start + _TEXTS_AT_ONCE]
        ids, gradients = _gradients(model, words, some, queries[start : start + _TEXTS_AT_ONCE])
        prompt = prompt_of(model, "document")
        read: Any = words.tokenizer
        # The same reading once more, for where each token stands in the text.
        width = ids.shape[1]
        places = read([prompt + t for t in some], truncation=True, max_length=width, padding="max_length").encodings
        if not np.array_equal(ids, [place.ids for place in places]):
            raise EvaluationError("the victim reads its documents otherwise than its tokenizer: cannot be attacked")
        for row, text in enumerate(some, start=start):
            place = places[row - start]
            positions = _flippable(place, words, len(prompt), flipped[row])
            if not positions:
                continue
            tokens = [place.ids[p] for p in positions]
            near = words.near(tokens)
            steps = words.table[torch.as_tensor(near)] - words.table[tokens][:, None]
            gains = torch.einsum("pd,pnd->pn", gradients[row - start, positions], steps).flatten()
            for best in gains.topk(min(_TRIES, len(gains))).indices.tolist():
                position, choice = positions[best // near.shape[1]], near[best // near.shape[1], best % near.shape[1]]
                first, last = (offset - len(prompt) for offset in place.offsets[position])
                substituted = text[:first] + words.text_of[int(choice)] + text[last:]
                guesses.append(_Guess(row, place.word_ids[position], substituted))
    return guesses


def _gradients(
    model: SentenceTransformer, words: _Words, texts: Sequence[str], queries: NDArray[np.float32]
) -> tuple[NDArray[np.int64], Tensor]:
    """Return token ids (B, T) as the model reads them, and the scores' gradients (B, T, d) at their word embeddings."""
    features = model.preprocess(list(texts), prompt=prompt_of(model, "document") or None, task="document")
    features = {k: v.to(model.device) if isinstance(v, Tensor) else v for k, v in features.items()}
    ids = features["input_ids"].cpu().numpy()
    caught: list[Tensor] = []

    def catch(module: torch.nn.Module, args: Any, output: Tensor) -> Tensor:
        # A leaf here: the graph starts at the embeddings, and no parameter gets a gradient.
        caught.append(output.detach().requires_grad_())
        return caught[-1]

    handle = words.embedding.register_forward_hook(catch)
    try:
        with torch.enable_grad():
            vectors = model(features, task="document")["sentence_embedding"]
            score = (vectors * torch.as_tensor(queries, device=vectors.device)).sum()
            (gradient,) = torch.autograd.grad(score, caught)
    finally:
        handle.remove()
    if gradient.shape[:2] != ids.shape:
        raise EvaluationError(f"word embeddings of shape {tuple(gradient.shape)} for tokens of shape {ids.shape}")
    return ids, gradient.float()


def _flippable(place: Any, words: _Words, prompt_length: int, flipped: set[int]) -> list[int]:
    """Return the token positions that are a whole word each, not of the prompt, and not flipped before."""
    pieces = Counter(place.word_ids)
    return [
        position
        for position, (token, word) in enumerate(zip(place.ids, place.word_ids, strict=True))
        if word is not None
        and pieces[word] == 1
        and word not in flipped
        and token in words.text_of
        and place.offsets[position][0] >= prompt_length
    ]


def _keep_best(
    model: SentenceTransformer,
    texts: list[str],
    queries: NDArray[np.float32],
    scores: NDArray[np.float32],
    flipped: Sequence[set[int]],
    guesses: Sequence[_Guess],
) -> None:
    """Encode the guesses as text and put, for each document, the best into `texts` if it raises the score."""
    if not guesses:
        return
    rows = np.array([guess.row for guess in guesses])
    reached = np.einsum("nd,nd->n", queries[rows], encode(model, [guess.text for guess in guesses], "document"))
    best = {guesses[index].row: index for index in np.argsort(reached, kind="stable")}
    for row, index in best.items():
        if reached[index] > scores[row]:
            texts[row], scores[row] = guesses[index].text, reached[index]
            flipped[row].add(guesses[index].word)
