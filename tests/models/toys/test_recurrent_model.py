import pytest
import torch
from torch.nn import functional

from mas_hooks.core.errors import SettingError
from mas_hooks.hooks.wrap import wrap
from mas_hooks.models.toys.recurrent import RecurrentModel

IDS = torch.tensor([[1, 2, 3, 4, 5], [1, 6, 2, 0, 0]])


@pytest.mark.parametrize(("cell", "gates", "hidden"), [("gru", 3, 12), ("lstm", 4, 6)])
def test_parameters_counted_by_hand(cell, gates, hidden):
    vocabulary, width = 7, 12
    recurrence = gates * hidden * (width + hidden) + 2 * gates * hidden
    head = hidden * 4 * width + 4 * width + 4 * width * vocabulary + vocabulary
    model = RecurrentModel(vocabulary, width, cell)
    assert sum(parameter.numel() for parameter in model.parameters()) == vocabulary * width + recurrence + head


def test_gru_step_by_step():
    model = RecurrentModel(7, 12).eval()
    w, u, b, c = (getattr(model.rnn, f"{name}_l0") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    state, logits = torch.zeros(2, 12), []
    for column in range(5):
        x = functional.linear(model.embedding(IDS[:, column]), w, b).chunk(3, 1)
        h = functional.linear(state, u, c).chunk(3, 1)
        reset, update = torch.sigmoid(x[0] + h[0]), torch.sigmoid(x[1] + h[1])
        state = (1 - update) * torch.tanh(x[2] + reset * h[2]) + update * state
        hidden = functional.gelu(functional.linear(state, model.head[0].weight, model.head[0].bias))
        logits.append(functional.linear(hidden, model.head[3].weight, model.head[3].bias))
    torch.testing.assert_close(model(IDS), torch.stack(logits, 1), rtol=1e-5, atol=1e-6)


def test_lstm_state_is_h_then_c():
    model = RecurrentModel(7, 12, "lstm").eval()
    states = wrap(model).run_with_cache(IDS, "state")[1]["state"]
    _, (h, c) = model.rnn(model.embedding(IDS))
    assert states.shape == (2, 5, 12)
    torch.testing.assert_close(states[:, -1], torch.cat([h[0], c[0]], dim=1))
    torch.testing.assert_close(model.head(states[..., :6]), model(IDS))  # the prediction is read from h alone


def test_a_position_sees_only_what_came_before():
    model = RecurrentModel(7, 12).eval()
    changed = IDS.clone()
    changed[:, 3:] = 6
    torch.testing.assert_close(model(changed)[:, :3], model(IDS)[:, :3])
    assert not torch.equal(model(changed)[:, 3:], model(IDS)[:, 3:])


def test_dropout_acts_in_training_only():
    model = RecurrentModel(7, 12, dropout=0.5)
    assert not torch.equal(model(IDS), model(IDS))
    assert torch.equal(model.eval()(IDS), model(IDS))


def test_an_lstm_needs_two_halves():
    with pytest.raises(SettingError, match="width of an LSTM is 13, but must be even: half of it is h"):
        RecurrentModel(7, 13, "lstm")
