"""The state of a module: compiled, quantized, offloaded, recomputing. Refuses by name where hooks would go wrong.

Nothing is imported to find out: the library of a module is in `sys.modules`, or in the names of its classes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from mas_hooks.core.errors import UnsupportedError

QUANTIZED_CLASSES = {
    "bitsandbytes.nn.modules.Linear4bit": "bitsandbytes 4-bit",
    "bitsandbytes.nn.modules.Linear8bitLt": "bitsandbytes 8-bit",
    "bitsandbytes.nn.modules.Params4bit": "bitsandbytes 4-bit",
    "bitsandbytes.nn.modules.Int8Params": "bitsandbytes 8-bit",
    "bitsandbytes.": "bitsandbytes",
    "torch.ao.nn.quantized.dynamic.": "torch dynamic quantization",
    "torch.ao.nn.quantized.": "torch static quantization",
    "torch.ao.nn.intrinsic.quantized.": "torch static quantization",
    "auto_gptq.": "GPTQ",
    "gptqmodel.": "GPTQModel",
    "awq.": "AWQ",
    "hqq.": "HQQ",
    "optimum.quanto.": "quanto",
    "torchao.": "torchao, in modules of its own",
}
"""By what the dotted name of a class begins with (the first that fits counts): what the class quantizes with."""

METHODS = {"gptq": "GPTQ", "awq": "AWQ", "hqq": "HQQ"}
"""How to write the names of transformers' quantization methods, where they differ from its strings."""

UNQUANTIZED = (
    "load it without quantization (dtype=torch.bfloat16 halves the memory), "
    "or with torchao's int8 weights: TorchAoConfig(Int8WeightOnlyConfig())"
)

CHECKPOINTING = "gradient_checkpointing"


def check_model(module: nn.Module, name: str) -> None:
    """Raise UnsupportedError when a module was compiled, or quantized in an untested way. For wrap time.

    Of the quantized kinds only torchao's int8 weights pass: some others cut part of the gradient in silence.
    """
    _refuse_compiled(module, name, "")
    kind = _quantization_of(module)
    if kind is not None:
        raise UnsupportedError(f"hooking {name}, which is quantized by {kind},", UNQUANTIZED)


def check_place(root: nn.Module, path: str, states: bool = False) -> None:
    """Check that hooks of a module would work. For attach time: cheap.

    A hook on a compiled module itself works; one below it only if it was there at the first run.

    Args:
        root: The module that runs.
        path: The dotted path inside it to the module to hook.
        states: Whether the states inside a fused recurrent module are hooked, which are computed again from its
            weights.

    Raises:
        UnsupportedError: The hooks would be ignored or fail.
    """
    module, walked = root, ""
    for key in path.split(".") if path else ():
        _refuse_compiled(module, type(root).__name__, walked)
        module, walked = getattr(module, key), f"{walked}.{key}".removeprefix(".")
    if isinstance(module, torch.jit.ScriptModule):
        _refuse_compiled(module, type(root).__name__, walked)
    if states and any(parameter.is_meta for parameter in module.parameters(recurse=False)):
        kind = type(module).__name__
        raise UnsupportedError(f"hooking the states of {kind} {path!r}, whose weights are offloaded,", "keep it loaded")


def execution_device(module: nn.Module) -> torch.device:
    """The device on which a module computes: where accelerate moves its inputs to, else that of its weights.

    The first submodule with one of the two decides, as that is where the inputs go; the CPU for a module without
    weights.
    """
    for part in module.modules():
        device = _offload_device(part)
        if device is not None:
            return device
        for parameter in part.parameters(recurse=False):
            if not parameter.is_meta:
                return parameter.device
    return next(module.parameters(), torch.empty(0)).device


@contextmanager
def checkpointing_off(module: nn.Module) -> Iterator[None]:
    """Turn off gradient checkpointing inside the block: its second forward would run without the hooks, or past them.

    Turns off the `gradient_checkpointing` flags that transformers reads; each is as it was afterwards. The forward
    keeps all its activations meanwhile. Checkpointing that a module does by itself is not noticed.
    """
    with ExitStack() as undo:
        for part in module.modules():
            attributes = vars(part)
            if attributes.get(CHECKPOINTING, getattr(type(part), CHECKPOINTING, False)) is True:
                if CHECKPOINTING in attributes:
                    undo.callback(setattr, part, CHECKPOINTING, True)
                else:
                    undo.callback(delattr, part, CHECKPOINTING)
                setattr(part, CHECKPOINTING, False)
        yield


def _offload_device(part: nn.Module) -> torch.device | None:
    """The device that accelerate's hook of this very module (or the last of several) names."""
    hook = getattr(part, "_hf_hook", None)
    devices = [getattr(each, "execution_device", None) for each in getattr(hook, "hooks", (hook,))]
    return next((torch.device(device) for device in reversed(devices) if device is not None), None)


def _refuse_compiled(module: nn.Module, root: str, path: str) -> None:
    how = _compiled_name(module)
    if how is None:
        return
    by, remedy = how
    what = f"hooking {root}, compiled by {by}," if not path else f"hooking inside {path!r} of {root}, compiled by {by},"
    raise UnsupportedError(what, f"{remedy}; a model may be compiled again inside the `with` block of its hooks")


def _compiled_name(module: nn.Module) -> tuple[str, str] | None:
    """How a module was compiled, and how to reach what can be hooked; None for one that is not compiled."""
    if isinstance(module, torch.jit.ScriptModule):
        return "TorchScript", "hook the module that it was compiled from"
    dynamo = sys.modules.get("torch._dynamo.eval_frame")
    if dynamo is not None and isinstance(module, dynamo.OptimizedModule):
        return "torch.compile(…)", "use the module inside it, ._orig_mod"
    if getattr(module, "_compiled_call_impl", None) is not None:
        return ".compile()", "undo that by ._compiled_call_impl = None"
    forward = getattr(module, "forward", None)
    if hasattr(forward, "_torchdynamo_orig_callable") and not getattr(forward, "_torchdynamo_disable", False):
        return ".forward = torch.compile(…)", "put its own forward back"
    return None


def _quantization_of(module: nn.Module) -> str | None:
    """By what a module is quantized; None where it is not, or in the tested way."""
    parts, weights = list(module.modules()), list(module.parameters())
    for kind in dict.fromkeys(map(type, (*parts, *weights))):
        said = _quantization_of_class(kind)
        if said is not None:
            return said
    method = next((vars(part)["quantization_method"] for part in parts if "quantization_method" in vars(part)), None)
    if method is not None and str(getattr(method, "value", method)) != "torchao":
        method = str(getattr(method, "value", method))
        return METHODS.get(method, method)
    return next((said for said in map(_quantization_of_weight, weights) if said is not None), None)


def _quantization_of_class(kind: type) -> str | None:
    """By what modules or weights of a class are quantized; each of torchao's weights is looked at by itself."""
    names = [f"{base.__module__}.{base.__qualname__}" for base in kind.__mro__]
    if issubclass(kind, Tensor) and names[0].startswith("torchao."):
        return None
    return next((said for begin, said in QUANTIZED_CLASSES.items() for name in names if name.startswith(begin)), None)


def _quantization_of_weight(weight: Tensor) -> str | None:
    """By what one weight is quantized, as torchao's class for it or its dtype says."""
    kind = type(weight)
    if kind.__module__.partition(".")[0] == "torchao":
        activations = getattr(weight, "act_quant_kwargs", None) is not None
        if kind.__name__ == "Int8Tensor" and not activations:
            return None
        return f"torchao's {kind.__name__}" + (" with quantized activations" if activations else "")
    return f"weights stored as {str(weight.dtype).removeprefix('torch.')}" if weight.dtype.itemsize == 1 else None
