import pytest
import torch

from mas_hooks.alignment.transports import TransportSpec
from mas_hooks.alignment.transports.affine import Affine
from mas_hooks.alignment.transports.linear import Identity, Linear, LowRank, Orthogonal
from mas_hooks.core.errors import RankError, SettingError, UnknownNameError, UnsupportedError

WHERE = "a:state → b:state"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"kind": "liner"},
            "TransportSpec.kind is 'liner', but must be 'linear', 'orthogonal', 'affine' or 'identity'.",
        ),
        (
            {"init": "procrustes"},
            "the init of a transport of kind 'linear' is 'procrustes', but must be 'random', 'identity' or "
            "'least_squares'.",
        ),
        (
            {"kind": "orthogonal", "init": "least_squares"},
            "the init of a transport of kind 'orthogonal' is 'least_squares', but must be 'random', 'identity' or "
            "'procrustes'.",
        ),
        (
            {"kind": "identity", "init": "random"},
            "the init of a transport of kind 'identity' is 'random', but must be 'identity'.",
        ),
        (
            {"kind": "orthogonal", "rank": 3},
            "the rank of a transport of kind 'orthogonal' is 3, but must be None: only 'linear' has one.",
        ),
        (
            {"layer_norm": "after"},
            "layer_norm of a transport of kind 'linear' is 'after', but must be 'none': only 'affine' has one.",
        ),
        (
            {"kind": "affine", "layer_norm": True},
            "TransportSpec.layer_norm is True, but must be 'none', 'before' or 'after'.",
        ),
        (
            {"kind": "affine", "layer_norm": "after", "init": "least_squares"},
            "the init of a transport with layer_norm='after' is 'least_squares', but must be 'random' or 'identity': "
            "it has no closed fit.",
        ),
        (
            {"kind": "identity", "centre": True},
            "the calibration of an identity transport is {'centre': True, 'zscore': False}, but must be off: it passes "
            "everything as it is.",
        ),
    ],
)
def test_settings_that_cannot_be(spec, message):
    with pytest.raises(SettingError) as caught:
        TransportSpec(**spec)
    assert str(caught.value) == message


def test_an_unknown_setting_is_answered_with_the_nearest():
    with pytest.raises(
        UnknownNameError, match=r"^TransportSpec has no setting 'layernorm'\. Did you mean 'layer_norm'"
    ):
        TransportSpec(kind="affine", layernorm="after")


@pytest.mark.parametrize("rank", [0, -1, 7])
def test_a_rank_that_does_not_fit_names_both_sites(rank):
    with pytest.raises(RankError, match=rf"^rank {rank} does not fit a:state → b:state: choose 1 to 6 dims\.$"):
        TransportSpec(rank=rank).make(9, 6, WHERE)


@pytest.mark.parametrize("spec", [{"kind": "identity"}, {"init": "identity"}, {"kind": "affine", "init": "identity"}])
def test_no_identity_between_unequal_widths(spec):
    said = (
        r"^the identity from 9 to 6 units \(a:state → b:state\) is not supported; use another kind or init, or sites "
        r"of one width\.$"
    )
    with pytest.raises(UnsupportedError, match=said):
        TransportSpec(**spec).make(9, 6, WHERE)


@pytest.mark.parametrize(
    ("spec", "cls"),
    [
        ({}, Linear),
        ({"rank": 3}, LowRank),
        ({"rank": 6}, LowRank),
        ({"kind": "orthogonal"}, Orthogonal),
        ({"kind": "affine"}, Affine),
        ({"kind": "affine", "layer_norm": "before"}, Affine),
        ({"kind": "identity"}, Identity),
    ],
)
def test_which_transport_is_made(spec, cls):
    made = TransportSpec(**spec).make(6, 6, WHERE)
    assert type(made) is cls
    assert (made.width_s, made.width_t) == (6, 6)


def test_which_starts_need_rows():
    assert TransportSpec(init="least_squares").needs_rows
    assert TransportSpec(kind="orthogonal", init="procrustes").needs_rows
    assert not TransportSpec().needs_rows
    assert not TransportSpec(kind="identity").needs_rows


def test_the_identity_says_how_it_starts():
    assert TransportSpec(kind="identity").init == "identity"


@pytest.mark.parametrize("spec", [{"kind": "affine", "layer_norm": "after"}, {"kind": "identity"}, {"rank": 4}])
def test_a_specification_survives_json(spec):
    spec = TransportSpec(**spec)
    assert TransportSpec.model_validate_json(spec.model_dump_json()) == spec
    assert TransportSpec.model_validate(spec) == spec


@pytest.mark.parametrize("kind", ["linear", "orthogonal", "identity"])
def test_what_is_a_matrix_alone_takes_no_shift(kind):
    made = TransportSpec(kind=kind).make(4, 4, WHERE)
    with pytest.raises(UnsupportedError, match=r"^a shift of a transport that is a matrix alone is not supported; use"):
        made.start(torch.eye(4), torch.ones(4))


def test_the_identity_starts_nowhere_else():
    made = TransportSpec(kind="identity").make(4, 4, WHERE)
    made.start(torch.eye(4))
    with pytest.raises(
        UnsupportedError, match=r"^another start of an identity transport is not supported; use kind='l"
    ):
        made.start(torch.ones(4, 4))
