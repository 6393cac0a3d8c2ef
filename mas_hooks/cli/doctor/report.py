"""The report: versions, every check on a model, and a verdict with what to do."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.markup import escape

from mas_hooks.cli import site_table
from mas_hooks.cli.doctor import packages
from mas_hooks.cli.doctor.checks import CHECKS, DiffersError, Patient
from mas_hooks.core.errors import MasHooksError
from mas_hooks.hooks.hooked_model import HookedModel
from mas_hooks.hooks.wrap import wrap

LOADS = "loads and runs"
BROKEN = (ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, OSError, RuntimeError)
BROKEN += (MasHooksError, TypeError, ValueError)
"""What a model, or a library of another version, may raise: the check fails and the others go on."""


@dataclass(frozen=True)
class Check:
    """One line of the report."""

    name: str
    passed: bool
    said: str
    seconds: float


def make_tiny_model() -> HookedModel:
    """A small Qwen2 with random weights, for a look at the installation alone."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=80,
        hidden_size=32,
        intermediate_size=56,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.25,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return wrap(Qwen2ForCausalLM(config).eval(), name="a small random Qwen2")


def _run_check(name: str, look: Callable[[], str]) -> Check:
    begin = time.perf_counter()
    try:
        passed, said = True, look()
    except DiffersError as difference:
        passed, said = False, str(difference)
    except BROKEN as error:
        passed, said = False, f"{type(error).__name__}: {error}" if not isinstance(error, MasHooksError) else str(error)
    return Check(name, passed, said, time.perf_counter() - begin)


def examine(load: Callable[[], HookedModel], show: Callable[[Check], None]) -> list[Check]:
    """Run every check on a model and show each as it ends; a model that does not load or run ends them."""
    held: list[Patient] = []

    def arrive() -> str:
        held.append(Patient.of(load()))
        return site_table.model_title(held[0].model)

    done = [_run_check(LOADS, arrive)]
    show(done[0])
    for name, check in CHECKS.items() if held else ():
        done.append(_run_check(name, lambda check=check: check(held[0])))
        show(done[-1])
    return done


def examine_and_print(folder: Path | None, layer_path: str | None, device: str) -> bool:
    """Print versions, checks and a verdict.

    Args:
        folder: a saved model; None for a small random one.
        layer_path: the model's list of blocks, for families that the package does not know.
        device: where the model runs.

    Returns:
        Whether everything works.
    """
    console = Console(soft_wrap=True)
    with console.status("importing the packages"):
        installed = packages.find_packages()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    console.print(packages.package_table(installed))
    console.print(f"Python {platform.python_version()}, {platform.system()}, GPU: {escape(gpu)}\n", highlight=False)

    def load() -> HookedModel:
        from transformers.utils import logging

        logging.disable_progress_bar()
        model = make_tiny_model() if folder is None else wrap(folder, layer_path=layer_path)
        model.module.to(device)
        return model

    def show(check: Check) -> None:
        mark = "[green]✓[/]" if check.passed else "[red]✗[/]"
        console.print(f"{mark} {check.name:<32}{escape(check.said)}  [dim]{check.seconds:.1f} s[/]", highlight=False)

    console.print(f"[bold]{escape(str(folder or 'a small random Qwen2'))}[/] on {device}", highlight=False)
    failed = [check.name for check in examine(load, show) if not check.passed]
    broken = [package for package in installed if package.problem is not None]
    console.print("\n" + _verdict(failed, broken), highlight=False)
    return not failed and not broken


def _verdict(failed: list[str], broken: list[packages.Package]) -> str:
    if not failed and not broken:
        return "[bold green]everything works[/]"
    lines = [f"{package.name} does not import; install it anew: {escape(package.remedy)}" for package in broken]
    if LOADS in failed:
        lines.append("this model could not be looked at: see above for why and what to do")
    elif failed:
        tested = (
            "see above; constraints.txt names the versions that are tested together (pip install -c constraints.txt …)"
        )
        lines.append(f"not right on this model: {', '.join(failed)}; {tested}")
    return "\n".join(f"[bold red]{line}[/]" for line in lines)
