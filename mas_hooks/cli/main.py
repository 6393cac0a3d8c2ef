"""The command line: `mas-hooks demo | ls | run | cp | report | sites | doctor | bench`.

What a command needs is imported inside its function, so that `--help`, `--version`, `ls` and `cp` answer without torch.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, NoReturn

import tyro

from mas_hooks.core.errors import CheckpointError, DeviceError, MasHooksError, SettingError, UnknownNameError
from mas_hooks.core.files import read_json
from mas_hooks.core.run_folder import SETTINGS, RunFolder, next_folder
from mas_hooks.core.settings import Options
from mas_hooks.studies import registry
from mas_hooks.studies.registry import Study


@dataclass(frozen=True)
class RunFlags:
    """Flags that every recipe has."""

    out: Path | None = None
    """Folder of the run (default: runs/RECIPE-001, -002, …)."""
    resume: bool = False
    """Go on with an interrupted run, with its settings: the one in --out, else the last one."""
    config: Path | None = None
    """Take the settings from this JSON file, such as an earlier run's settings.json; flags override it."""
    jobs: int = os.cpu_count() or 1
    """Processes for independent pieces of work, 1 or more; the numbers do not depend on it."""
    device: str = "cpu"
    """Where models run: cpu, cuda, cuda:1, or auto for the best there is. Toys are fastest on the CPU."""
    quiet: bool = False
    """No progress bars."""


@dataclass(frozen=True)
class BenchFlags:
    """Flags that every benchmark has."""

    json: Path | None = None
    """Write the rows to this file as well."""


def _parse(command: str, study: Study, arguments: Sequence[str], defaults: tuple[Any, Any]) -> tuple[Any, Any]:
    """Read flags and settings from the command line; each field of the settings is a flag."""
    nameless = tyro.conf.arg(name="")
    flags, settings = (Annotated[type(default), nameless] for default in defaults)
    asked = tuple[flags, settings]  # pyright: ignore[reportInvalidTypeForm]
    prog = f"mas-hooks {command}"
    return tyro.cli(asked, args=arguments, prog=prog, description=study.summary, default=defaults)


def _find_device(named: str) -> str:
    """The device of that name, or the best one for `auto`. Raise DeviceError for one that is not there."""
    import torch

    count = torch.cuda.device_count()
    known = ["cpu", *(["cuda"] if count else []), *(f"cuda:{number}" for number in range(count))]
    if named == "auto":
        return "cuda" if count else "cpu"
    if named not in known:
        raise DeviceError.missing(named)
    return named


def _read_flag(arguments: Sequence[str], flag: str) -> str | None:
    """The value of a flag, for flags that decide which defaults the others have."""
    for place, word in enumerate(arguments):
        name, equals, value = word.partition("=")
        if name == flag and (equals or place + 1 < len(arguments)):
            return value if equals else arguments[place + 1]
    return None


def _load_defaults(study: Study, arguments: Sequence[str]) -> Any:
    """The settings that flags override: those of --config, of the run to resume, or the study's defaults."""
    config, out = _read_flag(arguments, "--config"), _read_flag(arguments, "--out")
    if config is None and "--resume" in arguments:
        folder = Path(out) if out else next_folder(study.name, resume=True)
        config = str(folder / SETTINGS)
        if not Path(config).exists():
            raise CheckpointError(folder, "holds no run to go on with", "leave out --resume to start one")
    first = {name: value for name in study.deciding if (value := _read_flag(arguments, f"--{name}")) is not None}
    saved = {} if config is None else {key: value for key, value in read_json(Path(config)).items() if key != "recipe"}
    if (preset := saved.get("preset")) and preset != first.get("preset", preset):
        problem = f"{first['preset']!r} is not that of {config}, {preset!r}"
        raise SettingError.because("--preset", problem, "leave it out, as that file has all settings")
    return study.settings(**saved, **{name: value for name, value in first.items() if name not in saved})


def _run(name: str, arguments: Sequence[str]) -> None:
    study = registry.load_study("recipes", name)
    flags, settings = _parse(f"run {name}", study, arguments, (RunFlags(), _load_defaults(study, arguments)))
    device = _find_device(flags.device)
    if flags.jobs < 1:
        raise SettingError("--jobs", flags.jobs, "1 or more")
    folder = flags.out or next_folder(study.name, resume=flags.resume)
    run = RunFolder.open(folder, study.study, settings.model_dump(mode="json"), resume=flags.resume)
    print(f"{study.name} → {folder}", flush=True)
    try:
        with registry.name_line(study.path):
            study.main(settings, run, Options(flags.jobs, device, not flags.quiet))
    except KeyboardInterrupt:
        print(f"\ninterrupted; go on with: mas-hooks run {name} --resume --out {folder}", file=sys.stderr)
        raise


def run_command(arguments: Sequence[str]) -> None:
    """Run a recipe, or your copy of one: mas-hooks run RECIPE|FILE.py [--flags]."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: mas-hooks run RECIPE [--flags]      (mas-hooks run RECIPE --help for its flags)\n")
        ls_command([])
        return
    _run(arguments[0], arguments[1:])


def demo_command(arguments: Sequence[str]) -> None:
    """Train two GRUs, align them, show the answer: the same as `mas-hooks run demo`."""
    _run("demo", arguments)


def ls_command(arguments: Sequence[str]) -> None:
    """List the recipes and benchmarks."""
    tyro.cli(lambda: None, args=arguments, prog="mas-hooks ls")
    for kind in ("recipes", "benchmarks"):
        print(f"{kind}:")
        for name in registry.study_names(kind):
            print(f"  {name:<20}{registry.read_summary(kind, name)}")


def report_command(arguments: Sequence[str]) -> None:
    """Print the table of a run and draw its figures again, from its records alone: mas-hooks report RUN_DIR."""

    def parse_run_dir(run_dir: Annotated[Path, tyro.conf.Positional]) -> Path:
        return run_dir

    run_dir = tyro.cli(parse_run_dir, args=arguments, prog="mas-hooks report", description=report_command.__doc__)
    from mas_hooks.studies.stages import print_files, redraw_run

    print_files(redraw_run(run_dir))


def cp_command(arguments: Sequence[str]) -> None:
    """Copy a recipe to edit it: mas-hooks cp RECIPE FILE.py, then mas-hooks run FILE.py."""

    def copy(recipe: Annotated[str, tyro.conf.Positional], file: Annotated[Path, tyro.conf.Positional]) -> Path:
        return registry.copy_recipe(recipe, file)

    target = tyro.cli(copy, args=arguments, prog="mas-hooks cp", description=cp_command.__doc__)
    print(f"{target}: edit it, then: mas-hooks run {target}")


def bench_command(arguments: Sequence[str]) -> None:
    """Run a benchmark: mas-hooks bench NAME [--json FILE] [--flags]."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: mas-hooks bench NAME [--json FILE] [--flags]\n")
        ls_command([])
        return
    study = registry.load_study("benchmarks", arguments[0])

    flags, settings = _parse(f"bench {study.name}", study, arguments[1:], (BenchFlags(), study.settings()))
    from mas_hooks.studies import measurements

    if flags.json is not None:
        measurements.check_writable(flags.json)
    rows = study.main(settings)
    measurements.show_measurements(rows)
    if flags.json is not None:
        measurements.write_measurements(flags.json, rows)


def sites_command(arguments: Sequence[str]) -> None:
    """List the site names of a saved model, without its weights: mas-hooks sites MODEL_DIR [--all] [--json]."""

    def show(
        model_dir: Annotated[Path, tyro.conf.Positional],
        layer_path: str | None = None,
        everything: Annotated[bool, tyro.conf.arg(name="all")] = False,
        json: bool = False,
    ) -> None:
        from mas_hooks.cli import site_table

        site_table.show_sites(site_table.load_bare_model(model_dir, layer_path), everything=everything, as_json=json)

    tyro.cli(show, args=arguments, prog="mas-hooks sites", description=sites_command.__doc__)


def doctor_command(arguments: Sequence[str]) -> None:
    """Check versions, and hooks, swaps and gradients on a model: mas-hooks doctor [MODEL_DIR]. Status 1 on failure."""

    def check(
        model_dir: Annotated[Path | None, tyro.conf.Positional] = None,
        layer_path: str | None = None,
        device: str = "cpu",
    ) -> bool:
        from mas_hooks.cli.doctor.report import examine_and_print

        return examine_and_print(model_dir, layer_path, _find_device(device))

    if not tyro.cli(check, args=arguments, prog="mas-hooks doctor", description=doctor_command.__doc__):
        sys.exit(1)


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "demo": demo_command,
    "ls": ls_command,
    "run": run_command,
    "cp": cp_command,
    "report": report_command,
    "sites": sites_command,
    "doctor": doctor_command,
    "bench": bench_command,
}


def usage() -> str:
    """What `mas-hooks --help` prints."""
    lines = [f"  {name:<10}{(command.__doc__ or '').strip()}" for name, command in COMMANDS.items()]
    return "usage: mas-hooks COMMAND [--help] …\n\ncompare neural networks by cause\n\ncommands:\n" + "\n".join(lines)


def _end_like_ctrl_c(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line. Our errors end with one sentence and status 2, interruptions with status 130."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return
    if arguments[0] == "--version":
        print(f"mas-hooks {metadata.version('mas-hooks')}")
        return
    signal.signal(signal.SIGTERM, _end_like_ctrl_c)
    try:
        if arguments[0] not in COMMANDS:
            raise UnknownNameError("command", arguments[0], COMMANDS, "mas-hooks")
        COMMANDS[arguments[0]](arguments[1:])
    except MasHooksError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
