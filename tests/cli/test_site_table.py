"""`mas-hooks sites`: the names, widths and layers of a saved model."""

import json

import pytest
from command_line import lines_of, out, save, save_mamba
from hooks.conformance.tiny import TINY

import mas_hooks as mh
from mas_hooks.cli import site_table


def test_sites_are_one_line_a_kind(tmp_path, capsys):
    text = out(capsys, "sites", save(tmp_path, "qwen2", weights=False)).out
    assert text.splitlines()[0] == "Qwen2ForCausalLM (qwen2), 30.9 k weights, float32, vocabulary 80"
    assert lines_of(text, "embed") == [["embed", "32", "yes"]]
    assert lines_of(text, "blocks.") == [
        ["blocks.{i}.hook_resid_pre", "0–2", "32", "yes"],
        ["blocks.{i}.attn.hook_z", "0–2", "32", "4", "yes"],
        ["blocks.{i}.hook_attn_out", "0–2", "32", "yes"],
        ["blocks.{i}.hook_resid_mid", "0–2", "32", "yes"],
        ["blocks.{i}.hook_mlp_out", "0–2", "32", "yes"],
        ["blocks.{i}.hook_resid_post", "0–2", "32", "yes"],
    ]
    assert "attn.hook_z[head]" in text


def test_sites_of_an_encoder_have_no_tail(tmp_path, capsys):
    text = out(capsys, "sites", save(tmp_path, "bert", weights=False)).out
    assert lines_of(text, "hook_resid_post") == [["blocks.{i}.hook_resid_post", "0–2", "32"]]
    assert "hook_resid_mid" not in text


@pytest.mark.parametrize("family", ["qwen2", "gemma2", "bert"])
def test_sites_as_json_are_those_of_the_model(tmp_path, capsys, family):
    folder = save(tmp_path, family, weights=False)
    model = mh.wrap(TINY[family]())
    told = json.loads(out(capsys, "sites", folder, "--json", "--all").out)
    assert (told["model"], told["class"]) == (family, type(model.module).__name__)
    assert [row["name"] for row in told["sites"]] == model.hook_points()
    known = {row["name"]: row["width"] for row in told["sites"] if row["width"] is not None}
    assert all(model.at(name).width == width for name, width in known.items())
    few = json.loads(out(capsys, "sites", folder, "--json").out)["sites"]
    assert few == [row for row in told["sites"] if row["name"] == "embed" or row["name"].startswith("blocks.")]
    assert {row["heads"] for row in few if row["name"].endswith("hook_z")} == {4}


def test_all_sites_are_one_line_each(tmp_path, capsys):
    folder = save(tmp_path, "qwen2", weights=False)
    text = out(capsys, "sites", folder, "--all").out
    assert ["blocks.2.attn.hook_z", "32", "4", "yes"] in lines_of(text, "blocks.2")
    assert lines_of(text, "model.layers.1.mlp.up_proj") == [["model.layers.1.mlp.up_proj", "56"]]
    assert lines_of(text, "model.layers.1.mlp.act_fn") == [["model.layers.1.mlp.act_fn", "?"]]


def test_layers_that_differ_are_told_apart(monkeypatch):
    model = mh.wrap(TINY["qwen2"]())
    rows = [site_table.SiteRow(f"blocks.{i}.x", 8 if i == 3 else 4) for i in range(6)]
    monkeypatch.setattr(site_table, "list_sites", lambda model, everything: rows)
    found = site_table._by_kind(rows)
    assert [(name, layers, row.width) for name, layers, row in found] == [
        ("blocks.{i}.x", "0–2, 4–5", 4),
        ("blocks.{i}.x", "3", 8),
    ]
    assert site_table.site_table(model).row_count == 2


def test_a_family_that_is_not_in_the_table_says_what_to_do(tmp_path, capsys):
    mamba = save_mamba(tmp_path)
    text = out(capsys, "sites", mamba).out
    assert "This family is not in the table; name its list of blocks: --layer-path backbone.layers." in text
    text = out(capsys, "sites", mamba, "--layer-path", "backbone.layers").out
    assert lines_of(text, "hook_resid_post") == [["blocks.{i}.hook_resid_post", "0–1", "?"]]
    assert "not in the table" not in text
