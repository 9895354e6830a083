"""Words of a text become others, one by one, so that a score rises or falls: what all such attacks share."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mogrid.attacks.base import Attack, Target
from mogrid.data.domain import Role
from mogrid.errors import ConfigError, EvaluationError
from mogrid.flops import crafting
from mogrid.retrieval.encode import Kind, comparable, encode, input_module, prompt_of
from mogrid.retrieval.search import search

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["Flips", "Words", "climb", "told_progress"]

_TRIES = 8
"""First-order guesses a flip that a forward pass then checks."""

_TEXTS_AT_ONCE = 64

_told: ContextVar[Callable[[float], None]] = ContextVar("told", default=lambda share: None)


@contextmanager
def told_progress(progress: Callable[[float], None]) -> Iterator[None]:
    """Tell, of an attack that is crafted in the meantime, the share that is done after each flip."""
    token = _told.set(progress)
    try:
        yield
    finally:
        _told.reset(token)


class Flips(Attack):
    """Replace up to `flips` words of each document so that its query ranks it higher, or of each query to lose one.

    Greedy and guided by gradients (Ebrahimi et al., HotFlip, arXiv 1712.06751): each flip ranks all allowed
    substitutions by the first-order change of the score, ∇s·(e' − e), checks the best eight by a forward pass over the
    substituted *text*, and keeps the best if the score rose (of queries: fell). All texts advance together, so a flip
    costs one batched forward and backward and eight forwards a text.

    What may change: words that are one token, letters only, within what the model reads; each once. Into what: words
    that are one token again when read as text, of those that `candidates` allows. The rest of the text, case and
    spacing included, stays as it was.

    Attributes
    ----------
    over : "document" or "query"
        What is changed.

    Parameters
    ----------
    flips : int
        Words changed at most; fewer where nothing raises the score.
    role : Role
        What the attack may be used for: what is trained against is not tested with.
    """

    white_box = True
    over: Kind = "document"

    def __init__(self, flips: int = 5, role: Role = Role.TEST) -> None:
        if flips < 1:
            raise ConfigError(f"flips must be at least 1, got {flips}")
        self.flips = flips
        self.role = role

    @abstractmethod
    def candidates(self, words: Words, tokens: Sequence[int]) -> NDArray[np.int64]:
        """Return the ids that each of m tokens may become, shape (m, c)."""

    def perturb(self, texts: Sequence[str], victim: Any, rng: np.random.Generator) -> list[str]:
        """Return the texts as attacked.

        Parameters
        ----------
        texts : sequence of str
            What is rewritten; texts without a word that could be exchanged stay as they are.
        victim : Target
            The model, and one query a document, or one document a query.
        rng : numpy.random.Generator
            Not drawn from: the attack is deterministic.

        Raises
        ------
        ConfigError
            The victim is not a `Target`, or its tower is no transformer with a fast tokenizer.
        """
        other: Kind = "query" if self.over == "document" else "document"
        if not isinstance(victim, Target) or len(victim.texts) != len(texts):
            raise ConfigError(f"attack {self.name!r} needs a Target: the victim, and one {other} for each {self.over}")
        if not texts:
            return []
        with crafting():
            directions = encode(victim.model, victim.texts, other) * (1 if self.over == "document" else -1)
            return climb(Words(victim.model, self.over), texts, directions, self.flips, self.candidates)


def climb(
    words: Words,
    texts: Sequence[str],
    directions: NDArray[np.float32],
    flips: int,
    candidates: Callable[[Words, Sequence[int]], NDArray[np.int64]],
    *,
    again: bool = False,
) -> list[str]:
    """Return texts whose embeddings' inner products with their directions were raised, word by word.

    Parameters
    ----------
    words : Words
        Of the model, and of the kind of text.
    texts : sequence of n str
        What is climbed from, one text a row.
    directions : ndarray, shape (n, d)
        Embeddings to come near to, or centres of several; negated ones to get away from.
    flips : int
        Words of a text that may be exchanged, at most.
    candidates : callable of (words, tokens)
        See `Flips.candidates`.
    again : bool
        Whether a word may be changed more than once.
    """
    model = words.model
    scores = np.einsum("nd,nd->n", directions, encode(model, texts, words.kind))
    attacked = list(texts)
    flipped: list[set[int]] = [set() for _ in texts]
    training = model.training
    model.eval()
    try:
        for flip in range(flips):
            _told.get()(flip / flips)
            guesses = _guess(words, attacked, directions, flipped, candidates)
            _keep_best(words, attacked, directions, scores, flipped, guesses)
            if again:
                for places in flipped:
                    places.clear()
    finally:
        model.train(training)
    return attacked


@dataclass(frozen=True)
class _Guess:
    """One substitution to try: the text number `row` with its word number `word` replaced."""

    row: int
    word: int
    text: str


class Words:
    """The victim's words that are one token and stay it when read as text.

    Parameters
    ----------
    model : SentenceTransformer
        Whose word embeddings say what is near to what.
    kind : "document" or "query"
        Of the texts that are to be changed: whose tower and prompt it is.

    Attributes
    ----------
    table : Tensor, shape (V, d)
        The word embeddings.
    ids : ndarray, shape (w,)
    text_of : dict of id to word
    """

    def __init__(self, model: SentenceTransformer, kind: Kind = "document") -> None:
        self.model = model
        self.kind: Kind = kind
        reader = input_module(model, kind)
        self.tokenizer = getattr(reader, "tokenizer", None)
        encoder = getattr(reader, "auto_model", None)
        if encoder is None or not getattr(self.tokenizer, "is_fast", False):
            raise ConfigError(f"this white-box attack needs a transformer with a fast tokenizer as {kind} encoder")
        self.embedding = encoder.get_input_embeddings()
        self.table: Tensor = self.embedding.weight.detach().float()
        self.text_of = self._surviving()
        if len(self.text_of) < 2:
            raise ConfigError("the victim's vocabulary has no two words that are one token each: nothing to substitute")
        self.ids = np.array(sorted(self.text_of))
        self._near: dict[tuple[int, int], NDArray[np.int64]] = {}

    def _surviving(self) -> dict[int, str]:
        tokenizer: Any = self.tokenizer
        special = set(tokenizer.all_special_ids)
        ids = [i for i in range(min(len(tokenizer), len(self.table))) if i not in special]
        written = {i: tokenizer.decode([i]).strip() for i in ids}
        words = {i: word for i, word in written.items() if word.isalpha()}
        # Read after another word, as it will be: some tokenizers spell a word otherwise at the start of a text.
        reader = tokenizer.backend_tokenizer
        reader.no_padding()
        reader.no_truncation()
        before = reader.encode("a", add_special_tokens=False).ids
        read = reader.encode_batch_fast([f"a {word}" for word in words.values()], add_special_tokens=False)
        return {i: word for (i, word), found in zip(words.items(), read, strict=True) if found.ids == [*before, i]}

    def near(self, tokens: Sequence[int], count: int) -> NDArray[np.int64]:
        """Return the ids (len(tokens), count) of the nearest words to each token by cosine, itself not among them."""
        new = sorted({token for token in tokens if (token, count) not in self._near})
        if new:
            table = torch.nn.functional.normalize(self.table, dim=1).cpu().numpy()
            _, found = search(table[new], table[self.ids], count + 1)
            for token, places in zip(new, found, strict=True):
                others = self.ids[places]
                self._near[token, count] = others[others != token][:count]
        return np.stack([self._near[token, count] for token in tokens])


def _guess(
    words: Words,
    texts: Sequence[str],
    queries: NDArray[np.float32],
    flipped: Sequence[set[int]],
    candidates: Callable[[Words, Sequence[int]], NDArray[np.int64]],
) -> list[_Guess]:
    """Return, for every text, the substitutions of largest first-order gain."""
    prompt = prompt_of(words.model, words.kind)
    guesses: list[_Guess] = []
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        some = texts[start : start + _TEXTS_AT_ONCE]
        ids, gradients = _gradients(words, some, queries[start : start + _TEXTS_AT_ONCE])
        read: Any = words.tokenizer
        # The same reading once more, for where each token stands in the text.
        width = ids.shape[1]
        places = read([prompt + t for t in some], truncation=True, max_length=width, padding="max_length").encodings
        if not np.array_equal(ids, [place.ids for place in places]):
            raise EvaluationError(f"the victim reads a {words.kind} otherwise than its tokenizer: cannot be attacked")
        for row, text in enumerate(some, start=start):
            place = places[row - start]
            positions = _flippable(place, words, len(prompt), flipped[row])
            if not positions:
                continue
            tokens = [place.ids[p] for p in positions]
            near = candidates(words, tokens)
            gains = _gains(words, gradients[row - start, positions], tokens, near)
            for best in gains.topk(min(_TRIES, len(gains))).indices.tolist():
                position, choice = positions[best // near.shape[1]], near[best // near.shape[1], best % near.shape[1]]
                first, last = (offset - len(prompt) for offset in place.offsets[position])
                substituted = text[:first] + words.text_of[int(choice)] + text[last:]
                guesses.append(_Guess(row, place.word_ids[position], substituted))
    return guesses


def _gains(words: Words, gradients: Tensor, tokens: Sequence[int], near: NDArray[np.int64]) -> Tensor:
    """Return first-order changes (m · c,) of the score for m tokens of gradients (m, d) and their candidates (m, c)."""
    own = (gradients * words.table[list(tokens)]).sum(dim=1, keepdim=True)
    # A product with the whole table is cheaper than gathering many rows of it for every token.
    if near.shape[1] * 4 > len(words.table):
        reached = (gradients @ words.table.T).gather(1, torch.as_tensor(near, device=gradients.device))
    else:
        reached = torch.einsum("pd,pnd->pn", gradients, words.table[torch.as_tensor(near)])
    gains = reached - own
    gains[torch.as_tensor(near == np.asarray(tokens)[:, None], device=gains.device)] = -torch.inf
    return gains.flatten()


def _gradients(words: Words, texts: Sequence[str], queries: NDArray[np.float32]) -> tuple[NDArray[np.int64], Tensor]:
    """Return token ids (B, T) as the model reads them, and the scores' gradients (B, T, d) at their word embeddings."""
    model = words.model
    features = model.preprocess(list(texts), prompt=prompt_of(model, words.kind) or None, task=words.kind)
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
            vectors = comparable(model, model(features, task=words.kind)["sentence_embedding"])
            score = (vectors * torch.as_tensor(queries, device=vectors.device)).sum()
            (gradient,) = torch.autograd.grad(score, caught)
    finally:
        handle.remove()
    if gradient.shape[:2] != ids.shape:
        raise EvaluationError(f"word embeddings of shape {tuple(gradient.shape)} for tokens of shape {ids.shape}")
    return ids, gradient.float()


def _flippable(place: Any, words: Words, prompt_length: int, flipped: set[int]) -> list[int]:
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
    words: Words,
    texts: list[str],
    queries: NDArray[np.float32],
    scores: NDArray[np.float32],
    flipped: Sequence[set[int]],
    guesses: Sequence[_Guess],
) -> None:
    """Encode the guesses as text and put, for each text, the best into `texts` if it raises the score."""
    if not guesses:
        return
    rows = np.array([guess.row for guess in guesses])
    reached = np.einsum("nd,nd->n", queries[rows], encode(words.model, [guess.text for guess in guesses], words.kind))
    best = {guesses[index].row: index for index in np.argsort(reached, kind="stable")}
    for row, index in best.items():
        if reached[index] > scores[row]:
            texts[row], scores[row] = guesses[index].text, reached[index]
            flipped[row].add(guesses[index].word)
