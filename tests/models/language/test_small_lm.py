"""Small language models: SoLU as it is defined, weights that come back from the cache, names that load."""

import json

import pytest
import torch
from torch.nn import functional

from mas_hooks.core.errors import CheckpointError, SettingError
from mas_hooks.hooks.wrap import wrap
from mas_hooks.models.language.load import block_count, check_same_tokens, load_language_model
from mas_hooks.models.language.small_lm import (
    SmallModel,
    SoLU,
    load_small_lm,
    pack_texts,
    token_losses,
    untrained_small_lm,
)

TINY = SmallModel(layers=2, width=8, heads=2, context=16, vocabulary=300, steps=12, batch=4)


@pytest.fixture(scope="module")
def tiny():
    """A GELU and a SoLU model, trained for a moment and kept in the cache of this session."""
    return [load_small_lm(TINY.model_copy(update={"activation": kind}), progress=False) for kind in ("gelu", "solu")]


def test_solu_is_x_times_its_softmax_then_a_norm():
    x = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0))
    shares = x.exp() / x.exp().sum(-1, keepdim=True)
    expected = functional.layer_norm(x * shares, (8,))
    torch.testing.assert_close(SoLU(8)(x), expected)


def test_each_kind_has_its_activation_and_our_names(tiny):
    gelu, solu = (wrap(one.module, name="model") for one in tiny)
    assert not any(isinstance(part, SoLU) for part in gelu.module.modules())
    assert sum(isinstance(part, SoLU) for part in solu.module.modules()) == 2
    assert gelu.hook_points()[:4] == solu.hook_points()[:4]
    assert block_count(solu) == 2
    ids = pack_texts(300, 16).test[:3]
    _, cache = solu.run_with_cache(ids, ["blocks.1.hook_mlp_out"])
    assert cache["blocks.1.hook_mlp_out"].shape == (3, 16, 8)


def test_training_lowers_the_loss(tiny):
    rows = pack_texts(300, 16).test[:512]
    for one, kind in zip(tiny, ("gelu", "solu"), strict=True):
        first = float(token_losses(untrained_small_lm(TINY.model_copy(update={"activation": kind})), rows).mean())
        assert one.losses["test"] == pytest.approx(float(token_losses(one.module, rows).mean()), rel=1e-5)
        assert one.losses["test"] < first - 0.05


def test_the_cache_gives_the_same_weights_back(tiny):
    for one, kind in zip(tiny, ("gelu", "solu"), strict=True):
        again = load_small_lm(TINY.model_copy(update={"activation": kind}), progress=False)
        assert again.from_cache
        assert again.losses == one.losses
        for (name, a), (_, b) in zip(one.module.state_dict().items(), again.module.state_dict().items(), strict=True):
            assert torch.equal(a, b), name


def test_equal_settings_train_the_same_model(tiny, tmp_path):
    other = load_small_lm(TINY, tmp_path, progress=False)
    assert not other.from_cache
    assert torch.equal(other.module.lm_head.weight, tiny[0].module.lm_head.weight)
    assert not torch.equal(
        untrained_small_lm(TINY.model_copy(update={"seed": 1})).lm_head.weight, untrained_small_lm(TINY).lm_head.weight
    )


def test_a_damaged_cache_is_refused(tmp_path):
    settings = TINY.model_copy(update={"steps": 1})
    load_small_lm(settings, tmp_path, progress=False)
    config = tmp_path / "small_models" / settings.key / "config.json"
    told = json.loads(config.read_text())
    config.write_text(json.dumps({**told, "settings": {**told["settings"], "batch": 5}}))
    with pytest.raises(
        CheckpointError, match=r"holds a model of other settings; delete it, and the model is trained again"
    ):
        load_small_lm(settings, tmp_path, progress=False)


def test_names():
    assert [TINY.name, SmallModel(activation="solu", seed=2).name] == ["gelu-2l", "solu-3l-2"]
    assert len({TINY.key, TINY.model_copy(update={"steps": 13}).key}) == 2
    with pytest.raises(SettingError, match=r"SmallModel.heads is 3, but must be a divisor of the width, 64"):
        SmallModel(heads=3)


def test_a_folder_is_loaded_with_its_tokenizer(tiny, tmp_path):
    tiny[0].module.save_pretrained(tmp_path / "gelu")
    with pytest.raises(CheckpointError, match=r"gelu: holds no tokenizer; save the tokenizer into the same folder"):
        load_language_model(str(tmp_path / "gelu"))
    tiny[0].tokenizer.save_pretrained(tmp_path / "gelu")
    model = load_language_model(str(tmp_path / "gelu"))
    ids = pack_texts(300, 16).test[:2]
    assert model.name == "gelu"
    assert torch.equal(model.forward(ids), wrap(tiny[0].module).forward(ids))
    check_same_tokens(model, load_language_model(TINY, progress=False))
    other = load_language_model(TINY.model_copy(update={"vocabulary": 290, "steps": 1}), progress=False)
    with pytest.raises(SettingError, match=r"the tokenizer of gelu-2l differs from that of gelu; give models that"):
        check_same_tokens(model, other)


def test_what_is_no_model_is_told():
    with pytest.raises(CheckpointError, match=r"no-such-model: is no folder here and no name on the hub"):
        load_language_model("no-such-model")


def test_a_repo_of_transformer_lens_is_asked_for_by_its_loader(tiny, monkeypatch):
    """The real repos need the hub; what comes from their loader is wrapped, its errors are told."""
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.model_bridge import sources

    def boot(name):
        assert name == "NeelNanda/SoLU_2L_small"
        config = TransformerBridgeConfig(
            d_model=8, n_layers=2, n_heads=2, d_head=4, n_ctx=16, d_vocab=300, d_mlp=32, act_fn="solu_ln",
            normalization_type="LN", architecture="TransformerLensNative",
        )  # fmt: skip
        return sources.native.boot(config, tokenizer=tiny[0].tokenizer)

    monkeypatch.setattr(sources, "boot_tl_legacy", boot)
    model = load_language_model("NeelNanda/SoLU_2L_small")
    assert (model.name, block_count(model), model.at("blocks.1.hook_resid_post").width) == ("SoLU_2L_small", 2, 8)

    def unreachable(name):
        raise OSError("no network")

    monkeypatch.setattr(sources, "boot_tl_legacy", unreachable)
    with pytest.raises(CheckpointError, match=r"SoLU_2L_small: cannot be had \(OSError: no network\); look whether"):
        load_language_model("NeelNanda/SoLU_2L_small")
