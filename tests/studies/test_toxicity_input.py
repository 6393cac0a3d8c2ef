"""The recipe `toxicity` told wrong things: one clear sentence each, before long work starts; and its presets."""

import json
import re
import shutil
from pathlib import Path

import datasets
import huggingface_hub
import pytest
import transformers
from command_line import out
from huggingface_hub.errors import LocalEntryNotFoundError
from sentences import refused

from mas_hooks.cli import main
from mas_hooks.core.errors import DataSetError, MemoryPlanError, SettingError, UnknownNameError
from mas_hooks.core.records import Record
from mas_hooks.core.settings import Options
from mas_hooks.hooks.loading import silence_transformers
from mas_hooks.models.language.finetune import FinetuneSettings
from mas_hooks.models.language.memory import GIB, ModelShape
from mas_hooks.models.language.tiny_base import BaseSettings, untrained_base
from mas_hooks.studies import registry
from mas_hooks.studies.toxicity import ToxicitySettings, align, behaviour, members, memory, places, sources
from mas_hooks.studies.toxicity import base as bases

EARLY = ("--stages", "data", "finetune", "responses")
PAPER = "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder of its own with its own cache; nothing asks the hub, and nothing is trained."""

    def never(*_, **__):
        raise LocalEntryNotFoundError("there is no network")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setenv("MAS_HOOKS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", never)
    monkeypatch.setattr("mas_hooks.models.language.finetune.run_trainer", lambda *_, **__: pytest.fail("trained"))
    return tmp_path


def said(capsys, *words):
    """The one sentence that a run ends with."""
    error = out(capsys, "run", "toxicity", "--quiet", "--out", "run", *words, status=2).err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


def saved_base(folder, pad=True, tokenizer=True):
    """A small base in a folder."""
    own = untrained_base(BaseSettings(rows=40, vocabulary=300, width=16, layers=1, heads=2, inner=16))
    with silence_transformers():
        own.model.save_pretrained(folder)
    if not pad:
        own.tokenizer.pad_token = None
    if tokenizer:
        own.tokenizer.save_pretrained(folder)
    return str(folder)


def own_rows(path, toxic, nontoxic):
    rows = [{"text": f"a rude text {i}", "label": "toxic"} for i in range(toxic)]
    rows += [{"text": f"a polite text {i}", "label": "nontoxic"} for i in range(nontoxic)]
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"own={path}"


def test_tiny_is_the_default_and_a_base_asks_for_the_papers_settings():
    tiny, paper = ToxicitySettings(), ToxicitySettings(base=PAPER)
    assert (tiny.preset, tiny.base, tiny.data) == ("tiny", "embedded", ("embedded",))
    assert (paper.preset, paper.data) == ("paper", ("hh-rlhf", "jigsaw", "toxic-chat"))
    assert paper == ToxicitySettings(preset="paper")
    assert (paper.finetune.tokens, paper.finetune.batch, paper.finetune.steps) == (64, 96, 600)
    assert (paper.finetune.learning_rate, paper.finetune.lora) == (5e-4, False)
    assert (paper.responses.prompt_tokens, paper.responses.tokens, paper.prompts) == (32, 64, 1000)
    assert (paper.prepare.splits, paper.align.sizes, paper.align.fit.batch_size) == (3, (10_000, 1_000, 1_000), 256)
    assert ToxicitySettings(base="/my/model", preset="tiny").finetune == tiny.finetune
    assert ToxicitySettings(finetune={"steps": 7}).finetune == tiny.finetune.model_copy(update={"steps": 7})


def test_a_default_written_anew_in_a_recipe_wins_over_the_preset():
    class Written(ToxicitySettings):
        prompts: int = 800
        seed: int = 3
        finetune: FinetuneSettings = FinetuneSettings(steps=7)

    class Based(Written):
        base: str = "/my/model"
        least_tokens: int = 10

    tiny, written, based = ToxicitySettings(), Written(), Based()
    assert (written.preset, written.prompts, written.seed) == ("tiny", 800, 3)
    assert written.finetune == FinetuneSettings(steps=7)
    assert (written.prepare, written.responses, written.align) == (tiny.prepare, tiny.responses, tiny.align)
    assert (Written(prompts=50).prompts, Written(preset="paper").prompts) == (50, 800)
    assert Written(finetune={"tokens": 9}).finetune == FinetuneSettings(steps=7, tokens=9)
    assert (based.preset, based.base, based.least_tokens) == ("paper", "/my/model", 10)
    assert based.data == ToxicitySettings(preset="paper").data
    assert Based(base="embedded").preset == "tiny"


def test_flags_override_a_preset_wherever_they_stand(here):
    study = registry.load_study("recipes", "toxicity")

    def parsed(*words):
        return main._parse("run toxicity", study, words, (main.RunFlags(), main._load_defaults(study, words)))[1]

    own = parsed("--finetune.steps", "9", "--splits", "4", "--preset", "paper", "--prompts", "50")
    assert (own.finetune.steps, own.prepare.splits, own.prompts, own.finetune.batch) == (9, 4, 50, 96)
    assert (own.preset, own.base) == ("paper", PAPER)
    assert parsed("--base=/my/model").preset == "paper"
    assert parsed("--base", "/my/model", "--preset=tiny").finetune.batch == 32
    assert parsed().model_dump() == ToxicitySettings().model_dump()
    Path("mine.json").write_text(json.dumps({"finetune": {"steps": 5}}))
    mixed = parsed("--config", "mine.json", "--base", "/my/model", "--finetune.tokens", "8")
    assert (mixed.preset, mixed.finetune.steps, mixed.finetune.tokens, mixed.finetune.batch) == ("paper", 5, 8, 96)


def test_a_preset_beside_the_settings_of_a_run_is_refused_rather_than_passed_over(here, capsys):
    told = {"recipe": "toxicity", **ToxicitySettings().model_dump(mode="json")}
    Path("settings.json").write_text(json.dumps(told))
    assert "--preset 'paper' is not that of settings.json, 'tiny'; leave it out" in said(
        capsys, "--config", "settings.json", "--preset", "paper"
    )
    study = registry.load_study("recipes", "toxicity")
    assert main._load_defaults(study, ["--config", "settings.json", "--preset", "tiny"]) == study.settings()


def test_stages_are_no_part_of_what_a_run_is_resumed_by():
    assert "stages" not in ToxicitySettings(stages=("data",)).model_dump()


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--preset", "papre"), "'tiny' or 'paper'"),
        (("--data", "hh-rhlf"), "no data set 'hh-rhlf'. Did you mean 'hh-rlhf'?"),
        (("--data", "embedded=x"), "data is ('embedded=x',), but must be different names"),
        (("--data", "own=a", "own=b"), "different names"),
        (("--data", "jigsaw"), "jigsaw: cannot be read from the hub; say where it is, --data jigsaw=FOLDER"),
        (("--data", "hh-rlhf", "own=absent.jsonl"), "absent.jsonl: is no file or folder here; give the one that holds"),
        (("--base", "absent", "--data", "embedded"), "absent: is no folder here and no name on the hub"),
        (("--base", PAPER, "--data", "embedded"), "cannot be had from the hub (LocalEntryNotFoundError"),
        (("--preset", "paper"), "jigsaw: cannot be read from the hub; say where it is"),
        (
            ("--base", "x", "--pretrain.width", "32"),
            "pretrain is set beside --base x, but makes the embedded base alone",
        ),
        (("--finetune.device-batch", "5"), "FinetuneSettings.batch is 32, but must be a multiple"),
        (("--prompts", "0"), "prompts is 0, but must be greater than or equal to 2"),
        (("--splits", "0"), "splits is 0, but must be greater than or equal to 1"),
        (("--splits", "2000"), "the class 'toxic' has 1580 usable rows"),
        (("--classifier", "absent"), "absent: is no folder here"),
    ],
)
def test_bad_flags_are_one_sentence(here, capsys, flags, sentence):
    stage = ("--stages", "data") if "--splits" in flags else EARLY
    assert sentence in said(capsys, *stage, *flags)
    assert not list(here.glob("cache/toxicity/[bfr]*"))


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--align.sites", "embed", "blocks.9.hook_resid_post"), "the base has no block '9'. There is: 0, 1, 2, 3."),
        (("--align.sites", "nonsense"), "the base has no site 'nonsense'"),
        (("--align.rank", "65"), "align.rank is 65, but must be 1 to 64, the width of its site"),
        (("--align.ranks", "4", "400"), "align.ranks is 400, but must be 1 to 64"),
        (("--align.margin", "24"), "align.margin is 24, but must be below 24, so that texts of 48 tokens have room"),
    ],
)
def test_what_cannot_be_aligned_is_told_before_anything_is_trained(here, capsys, flags, sentence):
    assert sentence in said(capsys, *flags)
    assert not list(here.glob("cache/toxicity/*"))


@pytest.mark.parametrize(
    ("toxic", "nontoxic", "sentence"),
    [
        (9, 30, "the class 'toxic' has 9 usable rows (none was dropped), but 3 splits"),
        (30, 0, "the class 'nontoxic' has no usable row"),
    ],
)
def test_too_few_texts_of_a_class_are_told(here, capsys, toxic, nontoxic, sentence):
    own = own_rows("mine.jsonl", toxic, nontoxic)
    assert sentence in said(capsys, "--stages", "data", "--data", own, "--prepare.test", "10")
    words = ["--stages", "data", "--data", own_rows("more.jsonl", 30, 30), "--prepare.test", "10"]
    main.main(["run", "toxicity", "--out", "good", *words])
    told = capsys.readouterr().out
    assert "data: 60 texts of own from more.jsonl" in told
    assert "data: 6 texts in each of 6 splits, 20 in the test" in told


def test_other_columns_and_a_missing_package_are_told(here, capsys, monkeypatch):
    Path("mine.csv").write_text("body,label\nhello,1\n")
    error = said(capsys, "--stages", "data", "--data", "own=mine.csv")
    assert "has the columns body, label, but own is read from text, label" in error
    shutil.rmtree("run")
    monkeypatch.setattr("mas_hooks.hooks.loading.importlib.util.find_spec", lambda _: None)
    error = said(capsys, "--stages", "data", "--data", "own=mine.csv")
    assert "reading own needs datasets, which is not installed; pip install 'mas-hooks[language]'" in error
    shutil.rmtree("run")
    assert "fine-tuning needs accelerate" in said(capsys, *EARLY)


def test_a_base_without_a_pad_token_or_a_tokenizer_is_told_before_anything_is_read(here, capsys):
    words = (*EARLY, "--preset", "tiny", "--base")
    base = saved_base(here / "bare", pad=False)
    error = said(capsys, *words, base)
    assert "the tokenizer in" in error
    assert "has no pad token; set one and save it with the base" in error
    assert "tokenizer.pad_token = tokenizer.eos_token" in error
    shutil.rmtree("run")
    assert "holds no tokenizer" in said(capsys, *words, saved_base(here / "none", tokenizer=False))
    assert not list(here.glob("cache/toxicity/*"))


def test_too_few_prompts_that_are_long_enough_are_told(here):
    settings = ToxicitySettings(prompts=60, least_tokens=20)
    ready = sources_ready(settings)
    with refused(SettingError, "prompts is 60", "the different prompts of 20 tokens or more", "--prepare.test"):
        bases.draw_prompts(settings, Path(saved_base(here / "base")), ready)
    few = settings.model_copy(update={"prompts": 5, "least_tokens": 2})
    drawn = bases.draw_prompts(few, here / "base", ready)
    assert len({*drawn}) == 5
    assert {*drawn} <= {row.prompt for row in ready.test}
    assert drawn != bases.draw_prompts(few.model_copy(update={"seed": 1}), here / "base", ready)


def sources_ready(settings):
    from mas_hooks.data.text.splits import SplitSettings, split_texts

    rows = {name: list(own)[:400] for name, own in sources.read_sources(settings).items()}
    return split_texts(rows, SplitSettings(test=20))


def test_a_member_with_another_tokenizer_is_told_before_any_fit(here, capsys, monkeypatch):
    own = [
        members.ToxicityMember(f"toxic-{i}", "toxic", Path(saved_base(here / f"m{i}")), here / f"r{i}") for i in (1, 2)
    ]
    other = transformers.PreTrainedTokenizerFast.from_pretrained(own[1].model)
    other.add_tokens(["<other>"])
    other.save_pretrained(own[1].model)
    with refused(SettingError, "the tokenizer of toxic-2", "that of toxic-1"):
        align.run_alignments(ToxicitySettings(align={"sites": ("embed",)}), own, main.RunFolder(here), Options())


def test_a_card_by_number_is_refused_for_fine_tuning(here):
    from mas_hooks.core.errors import UnsupportedError

    with refused(UnsupportedError, "fine-tuning on cuda:1", "CUDA_VISIBLE_DEVICES"):
        bases.check_base(ToxicitySettings(), Options(device="cuda:1"))


def test_the_base_is_trained_on_one_thread_whatever_there_are(here, monkeypatch):
    import torch

    seen = []

    def made(folder, **_):
        seen.append(torch.get_num_threads())
        return folder

    monkeypatch.setattr(bases, "load_tiny_base", made)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    settings = ToxicitySettings()
    found = places.StageFolders.of(settings, Options())
    assert bases.prepare_base(settings, found, Options(jobs=2)) == found.base
    assert (seen, torch.get_num_threads()) == ([1], 2)
    torch.set_num_threads(threads)


def test_a_foreign_set_in_a_tuple_is_told_in_python_too():
    with refused(UnknownNameError, "no data set 'jigsa'", "jigsaw"):
        ToxicitySettings(data=("jigsa",))
    with refused(DataSetError, "jigsaw", "--data hh-rlhf toxic-chat"):
        sources.check_sources(ToxicitySettings(preset="paper"))


R1 = ModelShape(1_777_088_000, 1_543_569_408, 1536, 8960, 256, 28, 151_936, 2)


def planned(device="cuda", jobs=1, **changes):
    settings = ToxicitySettings(preset="paper", **changes)
    return memory.plan_stage_memory(settings, R1, Options(jobs=jobs, device=device))


def test_what_does_not_fit_says_what_would():
    plan = planned()
    for one in (*plan["finetune"], *plan["responses"], *plan["align"]):
        one.check(80 * GIB, "cuda")
    with refused(MemoryPlanError, "35.0 GiB for the stage finetune", "cuda has 24.0 GiB", "--finetune.lora, which"):
        plan["finetune"][0].check(24 * GIB, "cuda")
    with refused(MemoryPlanError, "try --finetune.device-batch 4"):
        plan["finetune"][0].check(35 * GIB, "cuda")
    pair, every = plan["align"]
    pair.check(24 * GIB, "cuda")
    with refused(MemoryPlanError, "39.9 GiB for the stage align, 6 models", "--align.no-shared-space"):
        every.check(24 * GIB, "cuda")
    with refused(MemoryPlanError, "--align.fit.micro-batch 8"):
        every.check(36 * GIB, "cuda")
    with refused(MemoryPlanError, "--align.fit.micro-batch 1 --align.controls random, which"):
        pair.check(14 * GIB, "cuda")
    with refused(MemoryPlanError, "a smaller base, or a larger device"):
        pair.check(4 * GIB, "cuda")
    assert planned(align={"fit": {"micro_batch": None}})["align"][0].memory_need.total > 200 * GIB
    lean = {"lora": True}
    fitting = planned(finetune=lean, align={"shared_space": False})
    for one in (*fitting["finetune"], *fitting["responses"], *fitting["align"]):
        one.check(24 * GIB, "cuda")
    with refused(MemoryPlanError, "in each of 2 processes (--jobs)"):
        planned("cpu", 2)["finetune"][0].check(60 * GIB, "cpu")


def test_the_plan_is_printed_and_checked_before_anything_starts(here, capsys, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda _: GIB // 100)
    told = out(capsys, "run", "toxicity", "--quiet", "--out", "run", *EARLY, status=2)
    assert "GiB for the stage finetune" in told.err
    assert "--finetune.device-batch" in told.err
    assert "0.0 are free on cpu" in told.out
    assert re.search(r"finetune +0\.\d\d +\d +no +yes +yes", told.out)
    assert "activations 0." in told.out
    assert "AdamW" not in told.out  # next to nothing
    assert not list(here.glob("cache/toxicity/*"))


def test_large_models_on_the_cpu_are_warned_of(here, capsys, monkeypatch):
    config = {"hidden_size": 1024, "num_hidden_layers": 24, "intermediate_size": 4096, "num_attention_heads": 8}
    transformers.Qwen2Config(**config, architectures=["Qwen2ForCausalLM"]).save_pretrained("large")
    monkeypatch.setattr(memory, "free_bytes", lambda _: 100 * GIB)
    settings = ToxicitySettings(preset="paper", base="large")
    module = memory.base_skeleton(settings, here / "large")
    memory.check_memory(settings, module, ["responses"], Options())
    assert "0.9 billion weights take very long on the CPU; --device auto" in capsys.readouterr().out
    memory.check_memory(settings, module, ["responses"], Options(device="cuda"))
    assert "billion" not in capsys.readouterr().out


def share(model, value, measure="insult_share", trials=100):
    return Record(measure=measure, target_model=model, value=value, trials=trials)


def test_behaviour_is_compared_by_the_rule(capsys):
    labels = {"toxic-1": "toxic", "toxic-2": "toxic", "nontoxic-1": "nontoxic", "nontoxic-2": "nontoxic"}
    rows = [share(name, value) for name, value in zip(labels, (0.9, 0.8, 0.1, 0.2), strict=True)]
    (gap,) = behaviour.compare_behaviour(rows, labels)
    assert (gap.source_model, gap.target_model, round(gap.value, 6)) == ("nontoxic-2", "toxic-2", 0.6)
    assert 0 < gap.value_low < gap.value < gap.value_high
    assert "behave differently: least toxic toxic-2 80.0%" in capsys.readouterr().out
    alike = [share(name, value) for name, value in zip(labels, (0.5, 0.3, 0.1, 0.2), strict=True)]
    (gap,) = behaviour.compare_behaviour(alike, labels)
    assert gap.value_low < 0
    assert "WARNING: the fine-tunes do not behave differently" in capsys.readouterr().out
    judged = [*rows, *[share(name, 0.5, "classified_share") for name in labels]]
    assert behaviour.compare_behaviour(judged, labels)[0].value == 0
    assert "by classified share" in capsys.readouterr().out
