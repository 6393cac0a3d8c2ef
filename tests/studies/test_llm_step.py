"""The language-model benchmark at a tiny size, with the libraries that are installed."""

import importlib.util
import sys
from dataclasses import replace

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from mas_hooks.core.errors import DeviceError, SettingError, UnknownNameError
from mas_hooks.studies import registry

# The other libraries warn of their own affairs when they are imported and used.
pytestmark = pytest.mark.filterwarnings("ignore")

STUDY = registry.load_study("benchmarks", "llm-step")
BENCHMARK = sys.modules[STUDY.main.__module__]
FORWARDS = ["bare forward", "identity edit, over bare forward"]


def installed(peer):
    return importlib.util.find_spec(peer.package.replace("-", "_")) is not None


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    path = tmp_path_factory.mktemp("model")
    Qwen2ForCausalLM(config).save_pretrained(path)
    return str(path)


@pytest.fixture(scope="module")
def settings(folder):
    return STUDY.settings(model=folder, batch=4, length=16, rank=8, repeats=2, threads=1)


@pytest.fixture(scope="module")
def rows(settings):
    return {row.variant: row for row in STUDY.main(settings)}


@pytest.fixture(scope="module")
def bench(settings):
    return BENCHMARK.make(settings)


def test_every_installed_library_has_a_row(rows):
    libraries = [peer.variant for peer in BENCHMARK.PEERS.values() if installed(peer)]
    ours = ["ours", "ours, no prefix reuse", "ours, whole forward"]
    assert set(rows) == {"plain hooks", *ours, *libraries, *FORWARDS}
    for row in rows.values():
        assert (row.bench, row.batch, row.length, row.width, row.rank, row.layer) == ("llm-step", 4, 16, 32, 8, 1)
        assert (row.device, row.dtype) == ("cpu", "float32")
        assert row.ms_min <= row.ms_median <= row.ms_max


def test_all_steps_start_from_one_loss_which_is_not_that_of_the_model_as_it_is(rows):
    steps = [row.loss for variant, row in rows.items() if variant not in FORWARDS]
    assert steps == pytest.approx([rows["plain hooks"].loss] * len(steps), rel=1e-5)
    for variant in FORWARDS:
        assert abs(rows[variant].loss - steps[0]) > 1e-3
    assert rows[FORWARDS[1]].loss == pytest.approx(rows[FORWARDS[0]].loss, rel=1e-6)


def test_ratios_are_over_ours_and_for_forwards_over_the_bare_one(rows):
    for variant, row in rows.items():
        base = rows["bare forward" if variant in FORWARDS else "ours"]
        assert row.ratio == row.ms_median / base.ms_median
        assert row.tokens_per_s == pytest.approx(1e3 * 4 * 16 / row.ms_median)


def test_all_steps_have_one_floor(rows):
    floors = [row.floor_share * row.ms_median for variant, row in rows.items() if variant not in FORWARDS]
    assert floors == pytest.approx([floors[0]] * len(floors))
    assert floors[0] > 0
    assert all(rows[variant].floor_share is None for variant in FORWARDS)


def test_our_paths_and_plain_hooks_train_alike(bench):
    made = [BENCHMARK.steps.plain(bench), *(BENCHMARK.steps.ours_step(bench, path) for path in BENCHMARK.OURS.values())]
    losses = torch.tensor([[step() for _ in range(3)] for step in made])
    torch.testing.assert_close(losses, losses[:1].expand_as(losses), rtol=1e-5, atol=0)
    assert (losses[0].diff() < 0).all()


def test_our_paths_are_run_as_asked(monkeypatch, capsys, bench):
    BENCHMARK.steps.ours_step(bench, "auto")
    BENCHMARK.steps.ours_step(bench, "tail")
    assert capsys.readouterr().out == ""
    monkeypatch.setattr("mas_hooks.engine.runner._is_proven", lambda *_: False)
    BENCHMARK.steps.ours_step(bench, "tail")
    assert "ours runs whole forwards in place of path 'tail'" in capsys.readouterr().out


def test_every_library_trains_its_map(bench):
    for peer in BENCHMARK.PEERS.values():
        if installed(peer):
            step = peer.make(bench)
            first, second, third = (step() for _ in range(3))
            assert first > second > third, peer.variant


def test_positions_are_in_the_second_half_and_labels_from_them_on(bench):
    assert bench.target_at.min() >= 8
    assert bench.target_at.max() < 16
    assert bench.scored.sum(1).tolist() == (16 - bench.target_at).tolist()
    assert all(bench.scored[row, column:].all() for row, column in enumerate(bench.target_at))


def one_column_early(bench):
    return BENCHMARK.steps.plain(replace(bench, target_at=bench.target_at - 1))


def failing(bench):
    raise RuntimeError("a traceback\nno such kernel")


def peers(monkeypatch, make, package="torch"):
    monkeypatch.setitem(BENCHMARK.PEERS, "other", BENCHMARK.Peer("other library", make, package, "other-library"))
    return ("other",)


def test_another_loss_is_an_error_that_names_the_variant(monkeypatch, settings):
    chosen = settings.model_copy(update={"peers": peers(monkeypatch, one_column_early)})
    with pytest.raises(
        BENCHMARK.UnequalLossError, match=r"the first loss of 'other library' is .* that of plain hooks"
    ):
        STUDY.main(chosen)


def test_a_loss_that_is_no_number_is_an_error(monkeypatch, settings, bench):
    chosen = settings.model_copy(update={"peers": peers(monkeypatch, lambda bench: lambda: float("nan"))})
    with pytest.raises(BENCHMARK.UnequalLossError, match="nan"):
        BENCHMARK.first_losses(chosen, bench)


@pytest.mark.parametrize(
    ("package", "line"),
    [
        ("torch", "other library is left out: it raised RuntimeError: no such kernel\n"),
        ("no-such-library", "other library is left out: it is not installed; pip install other-library\n"),
    ],
)
def test_a_library_that_cannot_is_left_out_by_name(monkeypatch, capsys, settings, bench, package, line):
    chosen = settings.model_copy(update={"peers": peers(monkeypatch, failing, package)})
    made, losses = BENCHMARK.first_losses(chosen, bench)
    assert "other library" not in made | losses
    assert capsys.readouterr().out == line


def test_a_swap_too_small_to_see_is_told(monkeypatch, capsys, settings, bench):
    monkeypatch.setitem(BENCHMARK.TOLERANCE, torch.float32, 1.0)
    BENCHMARK.first_losses(settings.model_copy(update={"peers": ()}), bench)
    assert "proves little" in capsys.readouterr().out


def test_floor_by_hand():
    """One block of width 2: queries 2 × 2, keys and values 2 × 1 each, out 2 × 2, feed-forward 3 × 2 × 3; 5 tokens.

    Four positions, swapped at the third: two tokens pass 30 + 10 entries, 4 operations each = 320. They see 3 + 4
    keys: scores and values forward, the gradients of queries and probabilities, 2 × 2 operations each = 28 × 4 = 112,
    and of 1 + 2 keys and values 4 × 2 × 3 = 24.
    """
    flops = BENCHMARK.cost.floor_flops
    assert flops(weights=30, vocabulary=10, blocks=1, queries=2, columns=[2], length=4) == 320 + 112 + 24
    assert flops(30, 10, 1, 2, [2, 3], 4) == 456 + 4 * 40 + 4 * 2 * (2 * 4 + 1)


def test_floor_counts_the_blocks_above_the_site(bench):
    config = bench.model.config
    block = 32 * 32 * 2 + 2 * 32 * 16 + 3 * 32 * 48
    expected = BENCHMARK.cost.floor_flops(2 * block, 50 * 32, 2, 32, bench.target_at.tolist(), 16)
    assert config.num_hidden_layers == 4
    assert BENCHMARK.cost.floor_of(bench) == expected


@pytest.mark.parametrize(
    ("wrong", "error", "sentence"),
    [
        ({"model": "qwen2-smal"}, SettingError, "--model is 'qwen2-smal', but must be qwen2-small, qwen2-1.5b, or a"),
        ({"device": "cuda:99"}, DeviceError, "'cuda:99' is not available here"),
        ({"peers": ("pyvne",)}, UnknownNameError, "Did you mean 'pyvene'"),
    ],
)
def test_wrong_settings_are_one_sentence(wrong, error, sentence):
    with pytest.raises(error, match=sentence):
        STUDY.main(STUDY.settings(**wrong))


def test_the_named_shapes_are_those_of_qwen2():
    shape = Qwen2Config(**BENCHMARK.models.SHAPES["qwen2-1.5b"])
    assert shape.num_hidden_layers == 28
    assert shape.hidden_size // shape.num_attention_heads == 128
    with torch.device("meta"):
        small = Qwen2ForCausalLM(Qwen2Config(**BENCHMARK.models.SHAPES["qwen2-small"], tie_word_embeddings=True))
    matrices = sum(weight.numel() for weight in small.parameters() if weight.ndim == 2)
    assert len(small.model.layers) == 12
    assert small.lm_head.weight.numel() / matrices == pytest.approx(0.15, abs=0.01)
