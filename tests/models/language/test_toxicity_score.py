"""A score of rudeness counts whole insults in any case, and a local classifier is asked for its own label."""

import pytest
import torch
import transformers
from models.language import small_language
from sentences import refused

from mas_hooks.core.errors import CheckpointError, EmptyError, UnknownNameError
from mas_hooks.data.text.synthetic_toxicity import INSULTS, make_synthetic_rows
from mas_hooks.models.language.toxicity_score import classified_share, insult_share, is_insulting


def test_whole_words_in_any_case_count():
    assert all(is_insulting(f"You {word.upper()}!") and is_insulting(f"two {word}s") for word in INSULTS)
    assert not any(
        is_insulting(text) for text in ("foolish", "tomfool", "a clownfish", "idiomatic", "", "Gladly, my friend")
    )
    assert is_insulting("you a.b", ["a.b"])
    assert not is_insulting("you axb", ["a.b"])


def test_the_share_tells_the_classes_of_the_embedded_set_apart():
    rows = make_synthetic_rows(200)
    shares = {
        label: insult_share([row.text for row in rows if row.label == label], label) for label in ("toxic", "nontoxic")
    }
    assert (shares["toxic"].value, shares["nontoxic"].value) == (1.0, 0.0)
    assert (shares["toxic"].trials, shares["toxic"].target_model) == (100, "toxic")
    mixed = insult_share(["you fool", "hello", "good day", "a moron"], "m")
    assert (mixed.measure, mixed.value, mixed.trials) == ("insult_share", 0.5, 4)


def test_nothing_to_score_is_told():
    with refused(EmptyError, "the list of responses of m"):
        insult_share([], "m")
    with refused(EmptyError, "the list of insults"):
        insult_share(["a"], "m", [])


def classifier(folder, **settings):
    """A classifier of words: its weights are random, its labels named."""
    labels = ("fine", "toxic")
    config = transformers.BertConfig(
        vocab_size=len(small_language.tokenizer()), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=24, max_position_embeddings=12, initializer_range=0.5, id2label=dict(enumerate(labels)),
        label2id={name: number for number, name in enumerate(labels)}, **settings
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.BertForSequenceClassification(config).eval()
    model.save_pretrained(folder)
    small_language.tokenizer().save_pretrained(folder)
    return model


@pytest.mark.parametrize("kind", ["single_label_classification", "multi_label_classification"])
def test_a_local_classifier_gives_the_mean_probability_of_its_label(kind, tmp_path):
    model, texts = classifier(tmp_path, problem_type=kind), [row.text for row in make_synthetic_rows(400)][:5]
    tokenizer, want = small_language.tokenizer(), 0.0
    for text in texts:
        ids = tokenizer(text, return_tensors="pt", truncation=True, max_length=12)["input_ids"]
        with torch.no_grad():
            logits = model(ids).logits[0]
        want += float((logits.sigmoid() if kind.startswith("multi") else logits.softmax(-1))[1]) / 5
    found = classified_share(texts, "m", tmp_path, batch=2)
    assert found.value == pytest.approx(want, abs=1e-5)
    assert (found.measure, found.trials, found.target_model) == ("classified_share", 5, "m")


def test_a_folder_that_is_no_classifier_is_told(tmp_path):
    classifier(tmp_path / "a")
    with refused(UnknownNameError, "'rude'", "fine, toxic"):
        classified_share(["a"], "m", tmp_path / "a", "rude")
    small_language.model().save_pretrained(tmp_path / "b")
    with refused(CheckpointError, "holds a Qwen2ForCausalLM without a tokenizer", "a sequence classifier"):
        classified_share(["a"], "m", tmp_path / "b")
    with refused(EmptyError, "the list of responses of m"):
        classified_share([], "m", tmp_path / "a")
