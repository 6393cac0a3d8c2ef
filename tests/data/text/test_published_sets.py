"""The recipe `toxicity` on files as they are published, by the command line."""

import published

from mas_hooks.cli import main
from mas_hooks.data.text.splits import load_splits


def test_three_published_sets_are_read_balanced_and_cut(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MAS_HOOKS_CACHE", str(tmp_path / "cache"))
    sets = {
        "hh-rlhf": published.hh_folder(tmp_path / "hh"),
        "jigsaw": published.jigsaw_file(tmp_path / "train.csv"),
        "toxic-chat": published.chat_file(tmp_path / "chat/0124/x.csv", [(0, 0), (1, 0), (0, 1), (1, 1)] * 3),
    }
    data = [f"{name}={path}" for name, path in sets.items()]
    words = ["--stages", "data", "--preset", "paper", "--splits", "2", "--prepare.test", "3", "--prepare.rows", "3"]
    main.main(["run", "toxicity", "--quiet", "--out", str(tmp_path / "run"), *words, "--data", *data])
    told = capsys.readouterr().out
    assert f"data: 12 texts of hh-rlhf from {sets['hh-rlhf']}" in told
    assert "data: 11 texts of jigsaw" in told  # five plain, six flagged; the unscored one is none
    assert "3 texts in each of 4 splits, 6 in the test" in told
    assert "left out by balancing" in told
    ready, settings = load_splits(next((tmp_path / "cache/toxicity").glob("data-*")))
    assert settings.splits == 2
    assert all(row.label == label for (label, _), rows in ready.splits.items() for row in rows)
