"""The same weights as other libraries hand them over: TransformerLens bridges, nnsight models, PEFT adapters."""

import copy
import warnings
from contextlib import contextmanager

import tiny_tokenizers
import torch
from hooks.conformance.tiny import TINY

FAMILIES = ("gpt2", "qwen2", "gemma2")


def hf(family="qwen2"):
    return TINY[family]()


def bridge(model):
    """A TransformerLens bridge that takes over this very model."""
    from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module

    kind = type(model).__name__
    return build_bridge_from_module(
        model, architecture=kind, hf_config=model.config, tokenizer=None, device="cpu", dtype=torch.float32
    )


def native_bridge():
    """A bridge of TransformerLens' own model, which transformers does not have."""
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.model_bridge.transformer_bridge import TransformerBridge

    sizes = {"d_model": 32, "d_head": 8, "n_heads": 4, "n_layers": 2, "n_ctx": 32, "d_vocab": 80}
    torch.manual_seed(0)
    config = TransformerBridgeConfig(**sizes, act_fn="gelu", architecture="TransformerLensNative")
    return TransformerBridge.boot_native(config)


def envoy(model):
    from nnsight import NNsight

    return NNsight(model)


def pipeline_envoy(model):
    from nnsight import TransformersModel

    return TransformersModel(model, task="text-generation", tokenizer=tiny_tokenizers.words())


@contextmanager
def quiet_peft():
    """peft reads a name that transformers 5.23 calls deprecated, and warns of second adapters."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", "You are trying to modify|Already found", UserWarning)
        yield


def lora(model, *, untrained=True, targets=None):
    """PEFT's LoRA on attention and mlp; untrained adapters change nothing."""
    from peft import LoraConfig, get_peft_model

    gpt2 = getattr(getattr(model, "config", None), "model_type", None) == "gpt2"
    targets = targets or (["c_attn", "c_proj"] if gpt2 else ["q_proj", "o_proj", "down_proj"])
    settings = LoraConfig(target_modules=targets, r=3, init_lora_weights=untrained, fan_in_fan_out=gpt2)
    with quiet_peft():
        torch.manual_seed(3)
        return get_peft_model(model, settings).eval()


BACKENDS = {
    "bridge": bridge,
    "nnsight": envoy,
    "nnsight-transformers": pipeline_envoy,
    "peft": lora,
    "nnsight-of-peft": lambda model: envoy(lora(model)),
    "nnsight-of-bridge": lambda model: envoy(bridge(model)),
    "bridge-of-peft": lambda model: bridge(lora(model).get_base_model()),
}


def made(backend, family):
    """A model of the backend with the weights of `hf(family)`."""
    return BACKENDS[backend](copy.deepcopy(hf(family)))
