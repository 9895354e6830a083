"""Retrievers from scratch: a vocabulary learned from the training text, and a BERT in a grid of sizes."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import tokenizers
import torch
from filelock import FileLock
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import BertConfig, BertModel, BertTokenizer

from mogrid.errors import ConfigError, DataError
from mogrid.files import write_json
from mogrid.retrieval.pretrained import Style, load_retriever

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedTokenizerBase

__all__ = ["SIZES", "build_retriever", "parse_size", "train_tokenizer"]

#: Layers × width. Heads are 32 or 64 wide, the feed-forward layer is four times the width.
SIZES = ("1x64", "2x128", "4x256", "4x384", "6x384")

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_LETTERS = 1000  # distinct letters that may become pieces; words with rarer ones are unknown
_PLANE, _PLANE_SIZE = 0xF0000, 0xFFFE
_FORMAT = 1  # a change of what is learned from the same texts asks for another


def train_tokenizer(
    texts: Iterable[str], vocabulary: int = 8192, max_length: int = 64, cache: Path | None = None
) -> PreTrainedTokenizerBase:
    """Train a lower-casing WordPiece vocabulary on the training text; equal texts give equal vocabularies.

    Parameters
    ----------
    texts : iterable of str
        Training text only: a vocabulary trained on test text would leak it.
    vocabulary : int
        Number of pieces.
    max_length : int
        Tokens after which texts are cut.
    cache : Path, optional
        A folder that keeps vocabularies under the hash of their texts; processes that want the same one wait for the
        first.

    Raises
    ------
    DataError
        There is no text to learn from.
    """
    learned = _pieces(texts, vocabulary) if cache is None else _cached_pieces(list(texts), vocabulary, cache)
    pieces = [*_SPECIAL, *learned]
    model = models.WordPiece(vocab={piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]")
    tokenizer = Tokenizer(model)
    tokenizer.normalizer, tokenizer.pre_tokenizer = _splitting()
    tokenizer.decoder = decoders.WordPiece()
    return BertTokenizer(tokenizer_object=tokenizer, do_lower_case=True, model_max_length=max_length)


def _splitting() -> tuple[normalizers.BertNormalizer, pre_tokenizers.BertPreTokenizer]:
    return normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()


def _cached_pieces(texts: Sequence[str], vocabulary: int, cache: Path) -> list[str]:
    digest = hashlib.sha256(f"{_FORMAT} {tokenizers.__version__} {vocabulary}".encode())
    for text in texts:
        digest.update(b"\0" + text.encode("utf-8", "surrogatepass"))
    path = cache / "vocabularies" / f"{digest.hexdigest()[:20]}.json"
    with ExitStack() as stack:
        with suppress(OSError):  # a read-only home costs seconds a run, nothing else
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(f"{path}.lock"))
        with suppress(OSError, ValueError, KeyError, TypeError):
            return [str(piece) for piece in json.loads(path.read_text("utf-8"))["pieces"]]
        pieces = _pieces(texts, vocabulary)
        with suppress(OSError):
            write_json(path, {"pieces": pieces})
        return pieces


def _pieces(texts: Iterable[str], vocabulary: int) -> list[str]:
    """Return what a vocabulary has beside its special pieces."""
    normalizer, splitter = _splitting()
    words: Counter[str] = Counter()
    for text in texts:
        words.update(word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    pieces = _learn_pieces(words, vocabulary - len(_SPECIAL))
    if not pieces:
        raise DataError("the vocabulary came out empty: there is no training text")
    return pieces


def _learn_pieces(words: Counter[str], size: int) -> list[str]:
    """Return word pieces, learned by byte-pair merges in an order that does not depend on the process.

    The library's own WordPiece trainer numbers continuing letters (``##x``) in the order of a randomly seeded hash
    map and breaks ties of frequency by these numbers, so its vocabularies differ from process to process. Continuing
    letters are therefore moved to a private plane of Unicode, which makes them letters like any other to its
    byte-pair trainer; that one numbers letters by code point.
    """
    letters: Counter[str] = Counter()
    for word, count in words.items():
        for letter in word:
            letters[letter] += count
    common = sorted(letters, key=lambda letter: (-letters[letter], letter))[: min(_LETTERS, size // 4)]
    usable = {letter for letter in common if ord(letter) < _PLANE_SIZE}
    mapped = (
        " ".join([word[0] + "".join(chr(_PLANE + ord(letter)) for letter in word[1:])] * count)
        for word, count in sorted(words.items())
        if usable.issuperset(word)
    )
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    learner.train_from_iterator(mapped, trainers.BpeTrainer(vocab_size=size, show_progress=False))
    by_number = sorted(learner.get_vocab().items(), key=lambda item: item[1])
    return [_readable(piece) for piece, _ in by_number]


def _readable(piece: str) -> str:
    plain = "".join(chr(ord(c) - _PLANE) if ord(c) >= _PLANE else c for c in piece)
    return f"##{plain}" if ord(piece[0]) >= _PLANE else plain


def parse_size(size: str) -> tuple[int, int]:
    """Return (layers, width) of a size such as ``"2x128"``."""
    match = re.fullmatch(r"(\d+)[x×](\d+)", size)
    if not match or int(match[1]) < 1 or int(match[2]) < 32 or int(match[2]) % 32:
        raise ConfigError(f"size {size!r}: expected LAYERSxWIDTH with a width divisible by 32, such as {SIZES[1]!r}")
    return int(match[1]), int(match[2])


def build_retriever(
    size: str,
    tokenizer: PreTrainedTokenizerBase,
    *,
    dropout: float = 0.1,
    seed: int = 0,
    **style: Unpack[Style],
) -> SentenceTransformer:
    """Build an untrained BERT retriever with dot-product scores.

    Parameters
    ----------
    size : str
        ``LAYERSxWIDTH``; `SIZES` is the grid used for scaling.
    seed : int
        Of the weights; the global generators are left as they were.
    **style
        See `Style`.
    """
    layers, width = parse_size(size)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=max(width // 64, 2),
        intermediate_size=4 * width,
        max_position_embeddings=max(int(tokenizer.model_max_length), 64),
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        bert = BertModel(config)
    with tempfile.TemporaryDirectory(prefix="mogrid-") as folder:
        # Not the model's save_pretrained: in a process group that one writes on rank 0 alone.
        config.save_pretrained(folder)
        save_file(bert.state_dict(), Path(folder) / "model.safetensors", metadata={"format": "pt"})
        tokenizer.save_pretrained(folder)
        return load_retriever(folder, max_length=int(tokenizer.model_max_length), **style)
