"""Language models and classifiers: loading, small ones trained here, fine-tuning, and what they answer."""

from mas_hooks.models.language.classifier_set import (
    ClassifierMember,
    PairTexts,
    check_labels,
    check_same_shape,
    count_right,
    encode_examples,
    load_member,
)
from mas_hooks.models.language.encoders import Classifier, load_classifier, load_encoder
from mas_hooks.models.language.finetune import CURVE, MODEL, FinetuneSettings, accumulation_steps, finetune_model
from mas_hooks.models.language.generate import WHOLE as WHOLE_RESPONSES
from mas_hooks.models.language.generate import Responses, ResponseSettings, generate_responses, load_responses
from mas_hooks.models.language.load import (
    block_count,
    block_sites,
    check_blocks,
    check_context,
    check_same_tokens,
    find_model_folder,
    load_language_model,
    load_weightless,
)
from mas_hooks.models.language.memory import (
    GIB,
    MemoryNeed,
    ModelShape,
    aligning_memory,
    answering_memory,
    finetuning_memory,
)
from mas_hooks.models.language.small_lm import SmallModel, load_small_lm, pack_texts
from mas_hooks.models.language.tiny_base import BaseSettings, load_tiny_base, texts_apart, untrained_base
from mas_hooks.models.language.toxicity_score import classified_share, insult_share
from mas_hooks.models.language.with_responses import TextModel, TextSettings, load_text_models

__all__ = [
    "CURVE",
    "GIB",
    "MODEL",
    "WHOLE_RESPONSES",
    "BaseSettings",
    "Classifier",
    "ClassifierMember",
    "FinetuneSettings",
    "MemoryNeed",
    "ModelShape",
    "PairTexts",
    "ResponseSettings",
    "Responses",
    "SmallModel",
    "TextModel",
    "TextSettings",
    "accumulation_steps",
    "aligning_memory",
    "answering_memory",
    "block_count",
    "block_sites",
    "check_blocks",
    "check_context",
    "check_labels",
    "check_same_shape",
    "check_same_tokens",
    "classified_share",
    "count_right",
    "encode_examples",
    "find_model_folder",
    "finetune_model",
    "finetuning_memory",
    "generate_responses",
    "insult_share",
    "load_classifier",
    "load_encoder",
    "load_language_model",
    "load_member",
    "load_responses",
    "load_small_lm",
    "load_text_models",
    "load_tiny_base",
    "load_weightless",
    "pack_texts",
    "texts_apart",
    "untrained_base",
]
