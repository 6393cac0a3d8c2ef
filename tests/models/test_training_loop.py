"""The training loop against a slow one written out here; its checks, its end and its errors."""

import math

import pytest
import torch
from torch import nn

from mas_hooks.core.errors import DivergedError
from mas_hooks.models.training_loop import Schedule, TrainingCheck, run_training

STEPS = 23


def rate(step):
    return 1e-2 / (1 + step)


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Dropout(0.2), nn.Linear(5, 2))


def losses(module, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return lambda: (module(torch.randn(4, 3, generator=draw)) - 3).square().sum()


def run(module, next_loss=None, schedule=None, **keywords):
    optimizer = torch.optim.Adam(module.parameters(), lr=1.0)
    schedule = schedule or Schedule(STEPS, rate)
    return run_training(module, optimizer, next_loss or losses(module), schedule, "x", progress=False, **keywords)


def slow_adam(module, next_loss, clip):
    """Adam (Kingma & Ba, 2015) after clipping, one parameter at a time."""
    parameters = list(module.parameters())
    first, second = ([torch.zeros_like(parameter) for parameter in parameters] for _ in range(2))
    for step in range(STEPS):
        gradients = torch.autograd.grad(next_loss(), parameters)
        length = torch.stack([gradient.norm() for gradient in gradients]).norm()
        with torch.no_grad():
            for parameter, gradient, mean, square in zip(parameters, gradients, first, second, strict=True):
                clipped = gradient * (clip / (length + 1e-6)).clamp(max=1.0)
                mean.lerp_(clipped, 1 - 0.9)
                square.mul_(0.999).addcmul_(clipped, clipped, value=1 - 0.999)
                bias = 1 - 0.9 ** (step + 1), math.sqrt(1 - 0.999 ** (step + 1))
                parameter.addcdiv_(mean, square.sqrt() / bias[1] + 1e-8, value=-rate(step) / bias[0])


@pytest.mark.parametrize("clip", [0.5, 1e6])
def test_it_is_adam_with_that_schedule_and_clip(clip):
    ours, reference = model(), model()
    torch.manual_seed(1)
    assert run(ours, schedule=Schedule(STEPS, rate, clip)) == STEPS
    torch.manual_seed(1)
    slow_adam(reference, losses(reference), clip)
    torch.testing.assert_close(dict(ours.named_parameters()), dict(reference.named_parameters()), rtol=1e-5, atol=1e-7)
    assert not torch.equal(ours[0].weight, model()[0].weight)


def test_a_check_sees_every_few_steps_and_may_end_it():
    module, seen = model(), []

    def check(loss):
        module.eval()
        seen.append((loss, module[0].weight.clone()))
        return TrainingCheck("text", finished=len(seen) == 3)

    torch.manual_seed(1)
    assert run(module, schedule=Schedule(STEPS, rate, check_every=4), check=check) == 12
    assert torch.equal(seen[-1][1], module[0].weight)
    assert not torch.equal(seen[-2][1], module[0].weight)
    unchecked = model()
    torch.manual_seed(1)
    run(unchecked, schedule=Schedule(12, rate))
    assert torch.equal(unchecked[0].weight, module[0].weight)  # train mode comes back after a check


def test_it_ends_in_eval_mode_without_gradients():
    module = model()
    run(module)
    assert not module.training
    assert all(parameter.grad is None for parameter in module.parameters())


@pytest.mark.parametrize(("check_every", "step"), [(1, 3), (5, 5)])
def test_a_loss_that_is_not_finite_ends_it_at_the_next_check(check_every, step):
    module, taken = model(), []

    def next_loss():
        taken.append(1)
        return losses(module)() * (math.nan if len(taken) == 3 else 1.0)

    message = f"the training loss of x stopped being a finite number at step {step}; lower the learning rate"
    with pytest.raises(DivergedError, match=message):
        run(module, next_loss, Schedule(STEPS, rate, check_every=check_every))
    assert len(taken) == step
