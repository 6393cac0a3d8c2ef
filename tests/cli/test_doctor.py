"""`mas-hooks doctor`: what it prints, and that every check can fail."""

import pytest
import torch
from command_line import lines_of, out, save, save_mamba
from hooks.conformance.tiny import TINY

import mas_hooks as mh
from mas_hooks.cli.doctor import checks, packages, report
from mas_hooks.hooks import attach, huggingface, taps


@pytest.fixture
def installed(monkeypatch):
    """No look at the packages: it takes seconds."""
    found = [packages.Package("torch", "2.13.0"), packages.Package("nnsight", None)]
    monkeypatch.setattr(packages, "find_packages", lambda: found)
    return found


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["sites", "gpt2"], "gpt2: is no folder here, and nothing is downloaded"),
        (["sites", ".", "--layer-path", "x"], "holds no config.json"),
        (["doctor", "--device", "cuda:9"], "device 'cuda:9' is not available here"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, monkeypatch, capsys, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    error = out(capsys, *arguments, status=2).err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert sentence in error


@pytest.mark.parametrize("family", [None, "qwen2", "gpt2", "falcon", "bert"])
def test_doctor_finds_nothing_wrong(tmp_path, installed, capsys, family):
    text = out(capsys, "doctor", *([] if family is None else [save(tmp_path, family)])).out
    assert text.count("✓") == 1 + len(checks.CHECKS)
    assert "✗" not in text
    assert text.splitlines()[-1] == "everything works"
    (tail,) = lines_of(text, "tail = whole forward")
    assert ("whole forwards" in " ".join(tail)) == (family == "bert")
    assert lines_of(text, "nnsight") == [
        ["nnsight", "–", "not", "installed:", "pip", "install", "'mas-hooks[nnsight]'"]
    ]


def test_doctor_takes_low_precision_and_families_that_it_does_not_know(tmp_path, installed, capsys):
    text = out(capsys, "doctor", save(tmp_path, "qwen2", torch.bfloat16)).out
    assert "bfloat16" in text
    assert "everything works" in text
    text = out(capsys, "doctor", save_mamba(tmp_path), "--layer-path", "backbone.layers").out
    assert "at embed, hook_resid_pre, hook_resid_post of block 1" in text
    assert "everything works" in text
    (tail,) = lines_of(text, "tail = whole forward")
    assert "within" in tail


def test_doctor_of_a_folder_that_does_not_load_says_so_and_ends_with_1(tmp_path, installed, capsys):
    text = out(capsys, "doctor", str(tmp_path / "nowhere"), status=1).out
    assert "✗ loads and runs" in text
    assert "is no folder here" in text
    assert "everything works" not in text
    assert text.splitlines()[-1] == "this model could not be looked at: see above for why and what to do"


def test_doctor_of_a_model_that_is_not_right_names_what_is_not(installed, monkeypatch, capsys):
    monkeypatch.setattr(taps.EditTap, "__call__", lambda self, h, offset: h)
    monkeypatch.setattr(taps.EditTap, "check", lambda self, seen: None)
    text = out(capsys, "doctor", status=1).out
    assert "✗ an edit that changes something" in text
    assert "not right on this model: an edit that changes something, gradient to the map" in text.splitlines()[-1]


def failing(model):
    """Which checks fail on a model, and what they say."""
    return {check.name: check.said for check in report.examine(lambda: model, lambda _check: None) if not check.passed}


def test_nothing_fails_on_a_sound_model():
    assert failing(report.make_tiny_model()) == {}


def test_a_model_that_answers_at_random_fails():
    model = report.make_tiny_model()
    model.module.lm_head.register_forward_hook(lambda _m, _a, out: out + 0.01 * torch.rand_like(out))
    found = failing(model)
    assert "the logits move by" in found["an edit that changes nothing"]
    assert "the logits move by" in found["padding"]


def test_edits_without_effect_fail(monkeypatch):
    monkeypatch.setattr(taps.EditTap, "__call__", lambda self, h, offset: h)
    monkeypatch.setattr(taps.EditTap, "check", lambda self, seen: None)
    found = failing(report.make_tiny_model())
    assert found["an edit that changes something"].endswith("has no effect")
    assert "gradient to the map" in found


def test_padding_that_shifts_positions_fails(monkeypatch):
    own = huggingface.prepare_inputs

    def without(inputs):
        return {name: one for name, one in own(inputs).items() if name != "position_ids"}

    monkeypatch.setattr(huggingface, "prepare_inputs", without)
    assert set(failing(mh.wrap(TINY["gpt2"]()))) == {"padding"}


def test_a_gradient_that_is_cut_fails():
    model = report.make_tiny_model()
    model.module.model.norm.register_forward_hook(lambda _m, _a, out: out.detach().requires_grad_())
    found = failing(model)
    assert found["gradient to the map"] == "none, or not a number, at embed"


@pytest.mark.parametrize(("proven", "said"), [(True, "logits differ by"), (False, "the tail gives other logits")])
def test_a_tail_that_gives_other_numbers_fails(monkeypatch, proven, said):
    from mas_hooks.engine import runner
    from mas_hooks.engine.tails import decoder

    own = decoder.run_decoder_tail
    monkeypatch.setattr(decoder, "run_decoder_tail", lambda *args, **kwargs: own(*args, **kwargs) * 1.1)
    if proven:
        monkeypatch.setattr(runner, "_is_proven", lambda *_: True)
    found = failing(report.make_tiny_model())
    assert set(found) == {"tail = whole forward"}
    assert said in found["tail = whole forward"]


def test_hooks_that_stay_fail(monkeypatch):
    monkeypatch.setattr(attach._Place, "drop", lambda self, point, own: None)
    assert "hooks are left on" in failing(report.make_tiny_model())["hooks removed"]


def test_an_error_of_another_library_is_told_and_the_other_checks_go_on(monkeypatch):
    def broken(_patient):
        raise AttributeError("transformers has no attribute 'DynamicCache'")

    monkeypatch.setitem(checks.CHECKS, "padding", broken)
    assert failing(report.make_tiny_model()) == {
        "padding": "AttributeError: transformers has no attribute 'DynamicCache'"
    }


def test_packages_are_imported_in_a_process_of_their_own(monkeypatch, tmp_path):
    (tmp_path / "nnsight.py").write_text("raise ImportError('needs another torch')")
    (tmp_path / "peft.py").write_text("import os\nos._exit(3)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    own = packages._version
    monkeypatch.setattr(packages, "_version", lambda name: None if name == "datasets" else own(name))
    found = {one.name: one for one in packages.find_packages(["numpy", "nnsight", "datasets", "peft", "safetensors"])}
    assert [found[name].problem for name in ("numpy", "datasets")] == [None, None]
    assert found["nnsight"].problem == "ImportError: needs another torch"
    assert found["peft"].problem == "importing it ends Python (exit status 3)"
    assert (found["datasets"].version, found["datasets"].remedy) == (None, "pip install 'mas-hooks[language]'")


def test_a_package_that_does_not_import_is_a_failure_with_its_remedy(installed, capsys):
    installed.append(packages.Package("peft", "0.1", "ImportError: no [torch]"))
    text = out(capsys, "doctor", status=1).out
    assert "does not import: ImportError: no [torch]" in text
    assert "✗" not in text
    assert text.splitlines()[-1] == "peft does not import; install it anew: pip install 'mas-hooks[language]'"


def test_every_optional_package_of_the_project_is_looked_for():
    from importlib import metadata

    wanted = {"lens": "transformer-lens", "nnsight": "nnsight"}
    extras = metadata.metadata("mas-hooks").get_all("Provides-Extra") or []
    assert {"lens", "nnsight", "language"} <= set(extras)
    assert all(packages.EXTRAS[name] == extra for extra, name in wanted.items())
    assert {name for name, extra in packages.EXTRAS.items() if extra == "language"} == {
        "peft",
        "accelerate",
        "datasets",
    }
