"""Many sites of two models, streamed into a similarity of all layer pairs: one pass, nothing kept of a minibatch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import torch

from mas_hooks.core import inputs as model_inputs
from mas_hooks.core.errors import EmptyError, SettingError, ShapeError, UnsupportedError
from mas_hooks.core.inputs import Inputs
from mas_hooks.core.progress import progress_bar
from mas_hooks.core.sites import Site, Where
from mas_hooks.hooks.hooked_model import HookedModel
from mas_hooks.hooks.outputs import describe_output
from mas_hooks.hooks.read import read_sites
from mas_hooks.similarity.layers.accumulate import LayerPairs
from mas_hooks.similarity.layers.grid import LayerGrid

Sites: TypeAlias = Sequence[str | Site]
AFTER_A_BLOCK = ".hook_resid_post"


def compare_layers(
    a: HookedModel,
    b: HookedModel,
    inputs: Inputs | tuple[Inputs, Inputs],
    *,
    sites_a: Sites | None = None,
    sites_b: Sites | None = None,
    measure: str = "cka_linear_unbiased",
    average: str = "terms",
    batch_size: int = 8,
    progress: bool = True,
) -> LayerGrid:
    """Compare every layer of one model with every layer of another, in one pass over the inputs.

    A row is a real token, so that `batch_size` sequences of 64 tokens are 512 rows; a short last minibatch joins the
    one before. Memory is that of one minibatch. Kernels are float32 under any narrower dtype, sums float64; no logits
    are computed.

    Args:
        a, b: wrapped models.
        inputs: the whole data set, or one for each model where they read different ones, whose real tokens belong
            together row by row.
        sites_a, sites_b: names or sites, default what follows each block (`blocks.{i}.hook_resid_post`).
        measure: a name of `similarity.MEASURES` that compares layers. The default is linear CKA by the unbiased HSIC₁
            over minibatches (Nguyen 2021; Brown 2023, App. C).
        average: `terms` divides means over minibatches, `ratios` is the mean of what each minibatch gives; RSA always
            takes `ratios`.
        batch_size: sequences of a minibatch.
        progress: whether to show a progress bar.

    Returns:
        The grid of layers by layers, with its standard error over minibatches.

    Raises:
        EmptyError: there is no site, no real token or no sequence.
        NotFiniteError: an activation is NaN or infinite.
        SettingError, ShapeError: sites, inputs or batch size do not fit.
        UnknownNameError, UnsupportedError: the measure does not compare layers; a site is not there, or its rows are
            all alike.

    Example:
        >>> import torch
        >>> import mas_hooks as mh
        >>> from mas_hooks.models.toys import RecurrentModel
        >>> a, b = (mh.wrap(RecurrentModel(10, 8).eval(), name=name) for name in "ab")
        >>> ids = torch.randint(10, (16, 6), generator=torch.Generator().manual_seed(0))
        >>> mh.compare_layers(a, b, ids, sites_a=["embed", "state"], sites_b=["state"], progress=False).values.shape
        (2, 1)
    """
    from_a, from_b = _find_sites(a, sites_a, "sites_a"), _find_sites(b, sites_b, "sites_b")
    both = _pair_inputs(a, b, inputs)
    pairs = LayerPairs(_name_sites(a, from_a), _name_sites(b, from_b), measure, average)
    same = a is b and both[0] is both[1] and _name_sites(a, from_a) == _name_sites(b, from_b)
    minibatches = list(_cut_minibatches(len(model_inputs.leading_tensor(both[0])), batch_size))
    with progress_bar(len(minibatches), f"layers of {a.name} × {b.name}", shown=progress) as shown:
        for index in minibatches:
            rows_a = _read_rows(a, from_a, model_inputs.select_rows(both[0], index))
            pairs.add(rows_a, rows_a if same else _read_rows(b, from_b, model_inputs.select_rows(both[1], index)))
            shown.update()
    return pairs.result()


cka_layers = compare_layers
"""The name of 0.1.0, kept for one release."""


def _name_sites(model: HookedModel, sites: Sequence[Site]) -> tuple[str, list[str]]:
    return model.name, [str(site).removeprefix(f"{model.name}:") for site in sites]


def _find_sites(model: HookedModel, sites: Sites | None, what: str) -> list[Site]:
    if not isinstance(model, HookedModel):
        raise SettingError("a model of compare_layers", describe_output(model), "a wrapped model, from mas_hooks.wrap")
    if sites is None:
        sites = [name for name in model.hook_points() if name.startswith("blocks.") and name.endswith(AFTER_A_BLOCK)]
        if not sites:
            raise EmptyError(f"the list of blocks of {model.name}", f"name sites of its hook_points() as {what}")
    if isinstance(sites, str | Site):
        raise SettingError(what, str(sites), "a list of sites or of their names")
    if not sites:
        raise EmptyError(what, "name one site or more")
    for site in sites:
        if isinstance(site, Site) and site.model is not model:
            raise SettingError(f"a site of {what}", str(site), f"a site of {model.name}: {model.name}.at(…)")
    # A width is asked for where a module does not tell; here nobody needs it, the rows are as wide as they come.
    return [site if isinstance(site, Site) else model.at(site, width=1) for site in sites]


def _pair_inputs(a: HookedModel, b: HookedModel, inputs: Inputs | tuple[Inputs, Inputs]) -> tuple[Inputs, Inputs]:
    """What each model reads, checked to be the same rows and the same number of real tokens in each."""
    if not isinstance(inputs, tuple):
        _check_tokenizers(a, b)
        inputs = (inputs, inputs)
    if len(inputs) != 2:
        raise SettingError("the length of a tuple of inputs", len(inputs), "2: inputs of a, inputs of b")
    real_a, real_b = (_real_tokens(read, model.name) for read, model in zip(inputs, (a, b), strict=True))
    if not real_a.any():
        raise EmptyError("inputs", "give one sequence with a real token (attention_mask 1) or more")
    if len(real_a) != len(real_b):
        raise ShapeError(f"the inputs of {b.name}", (len(real_b), "…"), f"{len(real_a)} rows, as {a.name} reads,")
    counts_a, counts_b = real_a.sum(1), real_b.sum(1)
    if unequal := (counts_a != counts_b).nonzero()[:, 0].tolist():
        row = unequal[0]
        what = f"the number of real tokens that {b.name} reads in row {row}"
        raise SettingError(what, int(counts_b[row]), f"{int(counts_a[row])}, as {a.name} reads there")
    return inputs


def _real_tokens(inputs: Inputs, name: str) -> torch.Tensor:
    """(batch, position) bool on the CPU, True on real tokens."""
    shape, mask = tuple(model_inputs.leading_tensor(inputs).shape), model_inputs.padding_mask(inputs)
    if len(shape) < 2:
        raise ShapeError(f"the inputs of {name}", shape, "(batch, position, …)")
    if mask is not None and tuple(mask.shape) != shape[:2]:
        raise ShapeError(f"the attention_mask of {name}", tuple(mask.shape), f"{shape[:2]}, as the inputs have,")
    return torch.ones(shape[:2], dtype=torch.bool) if mask is None else mask.cpu()


def _check_tokenizers(a: HookedModel, b: HookedModel) -> None:
    """The same ids must be the same tokens, where both models say what their ids are."""
    vocabularies: list[Any] = [getattr(model.tokenizer, "get_vocab", None) for model in (a, b)]
    if a.tokenizer is not b.tokenizer and None not in vocabularies and vocabularies[0]() != vocabularies[1]():
        remedy = "give a pair (inputs of a, inputs of b), token for token"
        raise UnsupportedError(f"one set of ids for {a.name} and {b.name}, whose tokenizers differ,", remedy)


def _cut_minibatches(rows: int, size: int) -> Iterator[slice]:
    """The rows of each minibatch, `size` or, of the last one, up to twice as many less one."""
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise SettingError("batch_size", size, "a whole number of sequences, 1 or more")
    count = max(1, rows // size)
    for number in range(count):
        yield slice(number * size, rows if number == count - 1 else (number + 1) * size)


def _read_rows(model: HookedModel, sites: Sequence[Site], inputs: Inputs) -> list[torch.Tensor]:
    """The rows of the real tokens at every site, (n, width) each."""
    real = _real_tokens(inputs, model.name)
    if not real.any():
        raise EmptyError("a minibatch of the inputs (attention_mask is 0 everywhere)", "leave its rows out")
    return read_sites(model, sites, inputs, Where.from_mask(real))
