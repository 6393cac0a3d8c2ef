"""Plain texts: a small corpus of real English that every Python has, texts from files, and a tokenizer for both.

The corpus is the help topics of the language, cut into disjoint parts.
"""

from __future__ import annotations

import platform
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from mas_hooks.core.errors import DataSetError, EmptyError, SettingError
from mas_hooks.core.files import read_json_lines

PAD, END = "<pad>", "<end>"


@dataclass(frozen=True)
class Corpus:
    """Texts in three parts that share none. name: what a record calls it, with the version the texts came from."""

    name: str
    train: tuple[str, ...]
    valid: tuple[str, ...]
    test: tuple[str, ...]


def read_corpus(seed: int = 0) -> Corpus:
    """The help topics of this Python (`pydoc_data.topics`, 465,000 characters in Python 3.11), parts drawn by seed.

    Each topic is cut into pieces of about 2,000 characters at its paragraphs; every tenth piece in drawn order is for
    validation, every tenth for the test. The texts differ a little between versions of Python.

    Example:
        >>> from mas_hooks.data.text import read_corpus
        >>> corpus = read_corpus()
        >>> corpus.name.startswith("help topics of Python 3"), len(corpus.valid) == len(corpus.test)
        (True, True)
    """
    from pydoc_data.topics import topics

    pieces = [piece for name in sorted(topics) for piece in paragraphs(topics[name])]
    name = f"help topics of Python {platform.python_version()}"
    return Corpus(name, *split_corpus(pieces, seed))


def split_corpus(texts: Sequence[str], seed: int = 0, share: float = 0.1) -> tuple[tuple[str, ...], ...]:
    """Texts in three parts, for training, validation and test, drawn by seed; equal texts go into one part.

    Args:
        texts: all of them; blank ones are left out.
        seed: of the draw.
        share: of the validation and of the test part.

    Returns:
        Training, validation and test texts.

    Raises:
        SettingError: the share is out of range.
        EmptyError: there are fewer than three different texts.

    Example:
        >>> from mas_hooks.data.text import split_corpus
        >>> [len(part) for part in split_corpus([f"text {i}" for i in range(10)])]
        [8, 1, 1]
    """
    if not 0 < share < 0.5:
        raise SettingError("share", share, "above 0 and below 0.5")
    different = sorted({text for text in texts if text.strip()})
    if len(different) < 3:
        raise EmptyError("one of the three parts of the texts", "give three different texts or more")
    random.Random(f"{seed} corpus").shuffle(different)
    held = max(1, round(share * len(different)))
    return tuple(different[2 * held :]), tuple(different[:held]), tuple(different[held : 2 * held])


def paragraphs(text: str, length: int = 2_000) -> list[str]:
    """A text in pieces of whole paragraphs, each as long as it may be, or one paragraph."""
    pieces: list[str] = []
    for paragraph in text.strip().split("\n\n"):
        if pieces and len(pieces[-1]) + len(paragraph) <= length:
            pieces[-1] += f"\n\n{paragraph}"
        else:
            pieces.append(paragraph)
    return pieces


def read_texts(path: Path | str) -> list[str]:
    """The texts of a file, or of all files in a folder, by name: .txt in pieces of paragraphs, .jsonl by line.

    A line of .jsonl is an object with a `text`. Raises DataSetError, naming file and line, for anything else, and
    EmptyError where there is no text.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from mas_hooks.data.text import read_texts
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = (Path(folder) / "a.jsonl").write_text('{"text": "one"}\\n{"text": "two"}')
        ...     read_texts(folder)
        ['one', 'two']
    """
    path = Path(path)
    files = sorted(path.glob("*.txt")) + sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    texts = [text for file in files for text in _read_file(file) if text.strip()]
    if not texts:
        raise EmptyError(f"the text in {path}", "give a .txt or .jsonl file, or a folder of them")
    return texts


def _read_file(file: Path) -> Iterator[str]:
    remedy = 'give .txt, or .jsonl with one {"text": "…"} a line'
    if file.suffix == ".jsonl":
        for where, values in read_json_lines(file, partial(DataSetError, remedy=remedy)):
            if "text" not in values:
                raise DataSetError(where, "lacks a text", remedy)
            yield str(values["text"])
        return
    try:
        yield from paragraphs(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataSetError(file, f"cannot be read ({error})", remedy) from error


def byte_pairs(texts: Sequence[str], vocabulary: int = 512) -> Any:
    """A byte-level BPE tokenizer trained on texts: no text is out of its vocabulary, the same texts make the same.

    vocabulary: how many tokens at most, 258 for the bytes alone with the two special ones (pad, end of a text). Raises
    SettingError for fewer.

    Example:
        >>> from mas_hooks.data.text import byte_pairs
        >>> tokenizer = byte_pairs(["the cat sat on the mat"], 300)
        >>> tokenizer.decode(tokenizer("a cat")["input_ids"])
        'a cat'
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    alphabet = pre_tokenizers.ByteLevel.alphabet()
    least = len(alphabet) + 2
    if vocabulary < least:
        raise SettingError("vocabulary", vocabulary, f"{least} or more: the bytes, and two special tokens")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[PAD, END], initial_alphabet=sorted(alphabet), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, eos_token=END)


def pack_tokens(
    tokenizer: Any, texts: Sequence[str], length: int, name: str = "the set of texts"
) -> Int[Tensor, "n length"]:
    """Texts as rows of `length` tokens without padding: one after the other, each behind an end; the rest is left out.

    Args:
        tokenizer: of `transformers`.
        texts: in their order.
        length: of a row, 2 tokens or more.
        name: what an error calls the texts.

    Returns:
        Ids, (n, length).

    Raises:
        SettingError: the length is below 2.
        EmptyError: there are fewer than `length` tokens.

    Example:
        >>> from mas_hooks.data.text import byte_pairs, pack_tokens
        >>> tokenizer = byte_pairs(["abab"], 258)
        >>> tokenizer.decode(pack_tokens(tokenizer, ["abc", "de"], length=7)[0])
        '<end>abc<end>de'
    """
    if length < 2:
        raise SettingError("length", length, "2 tokens or more: one to read and one to predict")
    end = tokenizer.eos_token_id
    # Long texts are what packing is for; the tokenizer's own limit is that of a model.
    encoded = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"] if texts else []
    ids = [token for row in encoded for token in (*([] if end is None else [end]), *row)]
    rows = len(ids) // length
    if rows == 0:
        raise EmptyError(f"{name}, in rows of {length} tokens,", f"it has {len(ids)} tokens: give more text")
    return torch.tensor(ids[: rows * length]).reshape(rows, length)
