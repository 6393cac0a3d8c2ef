"""Texts: labelled data sets, their splits, corpora and made-up sets. No model is run here.

`labelled` reads published data sets as `TextRow`s, `splits` cuts them for fine-tuning; `sentence_pairs` has pairs of
sentences with a class, `corpus` plain English with a tokenizer, and `synthetic_toxicity` a made-up labelled set.
"""

from mas_hooks.data.text.corpus import byte_pairs, pack_tokens, read_corpus, read_texts, split_corpus
from mas_hooks.data.text.labelled import LABELS, READERS, Label, TextRow, read_labelled
from mas_hooks.data.text.sentence_pairs import (
    WORDS,
    PairRow,
    make_overlap_rows,
    make_shifted_rows,
    read_pairs,
    write_example,
    write_pairs,
)
from mas_hooks.data.text.splits import PreparedTexts, SplitSettings, load_splits, save_splits, split_texts
from mas_hooks.data.text.synthetic_toxicity import INSULTS, MOST, make_synthetic_rows

__all__ = [
    "INSULTS",
    "LABELS",
    "MOST",
    "READERS",
    "WORDS",
    "Label",
    "PairRow",
    "PreparedTexts",
    "SplitSettings",
    "TextRow",
    "byte_pairs",
    "load_splits",
    "make_overlap_rows",
    "make_shifted_rows",
    "make_synthetic_rows",
    "pack_tokens",
    "read_corpus",
    "read_labelled",
    "read_pairs",
    "read_texts",
    "save_splits",
    "split_corpus",
    "split_texts",
    "write_example",
    "write_pairs",
]
