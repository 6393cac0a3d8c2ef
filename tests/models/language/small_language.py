"""A tiny random language model with a real tokenizer of the embedded texts; nothing is downloaded."""

import torch
import transformers
from tiny_tokenizers import wrapped
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from mas_hooks.data.text.synthetic_toxicity import make_synthetic_rows


def tokenizer(pad=True):
    """A word-level tokenizer of the embedded set, with an end token."""
    made = Tokenizer(models.WordLevel(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    special = ["<pad>", "<unk>", "<end>"]
    texts = [row.text for row in make_synthetic_rows(400)]
    made.train_from_iterator(texts, trainers.WordLevelTrainer(special_tokens=special, show_progress=False))
    own = wrapped(made)
    own.eos_token = "<end>"
    if not pad:
        own.pad_token = None
    return own


def model(family="Qwen2", seed=0, **settings):
    """A causal language model of two layers and width 32, dropout where the family has some."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    if family == "GPT2":
        sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
    else:
        sizes |= {"intermediate_size": 48, "max_position_embeddings": 64}
    ids = {"vocab_size": len(tokenizer()), "pad_token_id": 0, "eos_token_id": 2, "bos_token_id": 2}
    config = getattr(transformers, f"{family}Config")(**(ids | sizes | settings))
    head = "GPT2LMHeadModel" if family == "GPT2" else f"{family}ForCausalLM"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return getattr(transformers, head)(config).eval()
