"""Every method as a Plan in a few lines: which maps, which directions are trained, by which loss.

Example:
    >>> from mas_hooks import MapSpec, methods
    >>> plans = [methods.das(), methods.mas(MapSpec(rank=4)), methods.stitch(kind="orthogonal")]
    >>> [plan.method for plan in plans]
    ['das', 'mas', 'orthogonal_stitching']
"""

from __future__ import annotations

from typing import Any, Literal

from mas_hooks.alignment.maps import MapSpec
from mas_hooks.alignment.plan import Plan
from mas_hooks.alignment.transports import TransportSpec


def das(maps: MapSpec | None = None) -> Plan:
    """Distributed Alignment Search: the map of one model, trained on swaps within it (Geiger et al. 2023).

    Example:
        >>> from mas_hooks import methods
        >>> [str(direction) for direction in methods.das().directions(1)]
        ['0→0']
    """
    return Plan(method="das", models="one", maps=maps)


def mas(maps: MapSpec | None = None) -> Plan:
    """Model Alignment Search: one map per model, trained on every ordered pair, i→i included (Grant 2025, eq. 6).

    Example:
        >>> from mas_hooks import methods
        >>> [str(direction) for direction in methods.mas().directions(2)]
        ['0→0', '1→0', '0→1', '1→1']
    """
    return Plan(method="mas", maps=maps)


def stepwise(maps: MapSpec | None = None) -> Plan:
    """MAS on pairs that swap every position up to the intervened one: their `target_where` names all of them.

    Example:
        >>> from mas_hooks import methods
        >>> methods.stepwise().method
        'stepwise_mas'
    """
    return Plan(method="stepwise_mas", maps=maps)


def unimas(accessible: int = 0, maps: MapSpec | None = None) -> Plan:
    """MAS trained only on swaps into the accessible model (Grant 2025, eq. 7).

    Example:
        >>> from mas_hooks import methods
        >>> [str(direction) for direction in methods.unimas(accessible=1).directions(2)]
        ['0→1', '1→1']
    """
    return Plan(method="unimas", into="accessible", accessible=accessible, maps=maps)


def clmas(
    accessible: int = 0,
    maps: MapSpec | None = None,
    *,
    latent_weight: float = 0.5,
    latent_reduction: Literal["sum", "mean"] = "sum",
) -> Plan:
    """UniMAS with a counterfactual latent loss on swaps into the other models (Grant 2025, eq. 8–9).

    Args:
        accessible: the number of the model whose behaviour is used.
        maps: the map specification; None keeps that of the alignment.
        latent_weight: λ in λ · latent + (1 − λ) · behaviour.
        latent_reduction: the squared distance is summed over dims (paper) or averaged.

    Returns:
        The plan.

    Raises:
        SettingError: the weight is not from 0 to 1, or the reduction is unknown.

    Example:
        >>> from mas_hooks import methods
        >>> [str(direction) for direction in methods.clmas().latent_directions(2)]
        ['0→1', '1→1']
    """
    return Plan(
        method="clmas",
        into="accessible",
        latent_into="inaccessible",
        accessible=accessible,
        maps=maps,
        latent_weight=latent_weight,
        latent_reduction=latent_reduction,
    )


def linear_map(accessible: int = 0, maps: MapSpec | None = None) -> Plan:
    """One map per model, trained only on swaps from the others into one (the early paper's baseline).

    Example:
        >>> from mas_hooks import methods
        >>> [str(direction) for direction in methods.linear_map().directions(3)]
        ['1→0', '2→0']
    """
    return Plan(method="linear_map", into="accessible", within=False, accessible=accessible, maps=maps)


def stitch(accessible: int | None = None, **transport: Any) -> Plan:
    """Model stitching: a transport per ordered pair replaces the whole vector, trained by the target's behaviour.

    accessible: train only into that model; None trains every cross direction. transport: fields of TransportSpec
    (kind, rank, layer_norm, init, …); default a free linear map.

    Example:
        >>> from mas_hooks import methods
        >>> plan = methods.stitch(kind="affine", init="identity")
        >>> plan.method, [str(direction) for direction in plan.directions(2)]
        ('affine_stitching', ['1→0', '0→1'])
    """
    into = "every" if accessible is None else "accessible"
    spec = TransportSpec(**transport)
    name = "stitching" if spec.kind == "linear" else f"{spec.kind}_stitching"
    return Plan(method=name, into=into, within=False, accessible=accessible or 0, transport=spec)


def identity_stitch() -> Plan:
    """The whole vector replaced as it is, in every cross direction; nothing is trained (Brown et al. 2023).

    Example:
        >>> from mas_hooks import methods
        >>> methods.identity_stitch().transport.kind
        'identity'
    """
    return Plan(method="identity_stitching", within=False, transport=TransportSpec(kind="identity"))


def latent_fit(accessible: int = 0, *, latent_reduction: Literal["sum", "mean"] = "sum", **transport: Any) -> Plan:
    """Latent stitching: a transport from the accessible model into the others, fitted to counterfactual latents.

    Args:
        accessible: the number of the model that gives.
        latent_reduction: the squared distance is summed over dims or averaged.
        transport: fields of TransportSpec; default orthogonal.

    Returns:
        The plan.

    Raises:
        SettingError: the reduction is unknown, or the fields of the transport do not fit its kind.
        UnknownNameError: TransportSpec has no field of that name.

    Example:
        >>> from mas_hooks import methods
        >>> plan = methods.latent_fit()
        >>> plan.directions(2), [str(direction) for direction in plan.latent_directions(2)]
        ([], ['0→1'])
    """
    return Plan(
        method="latent_fit",
        into="none",
        latent_into="inaccessible",
        within=False,
        accessible=accessible,
        transport=TransportSpec(**{"kind": "orthogonal", **transport}),
        latent_weight=1.0,
        latent_reduction=latent_reduction,
    )
