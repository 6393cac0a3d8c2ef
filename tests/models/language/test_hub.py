"""A base model is a folder here, or a name on the hub; what cannot be had says which folder to give."""

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError
from sentences import refused

from mas_hooks.core.errors import CheckpointError
from mas_hooks.models.language.load import find_model_folder, is_hub_name


def test_a_folder_is_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: pytest.fail("asked the hub"))
    assert find_model_folder(tmp_path) == tmp_path
    assert find_model_folder(str(tmp_path)) == tmp_path


def test_a_name_is_downloaded_without_code_or_pickles(tmp_path, monkeypatch):
    asked = {}

    def snapshot(name, **how):
        asked.update(how, name=name)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert find_model_folder("owner/model") == tmp_path
    assert asked["name"] == "owner/model"
    assert not {"*.py", "*.bin", "*.pt", "*"} & {*asked["allow_patterns"]}
    assert asked["ignore_patterns"] == ["*/*"]


@pytest.mark.parametrize("error", [LocalEntryNotFoundError("no connection"), RepositoryNotFoundError, OSError("down")])
def test_a_hub_out_of_reach_says_which_folder_to_give(monkeypatch, error):
    import httpx

    def fails(*_, **__):
        if isinstance(error, type):
            raise error("404 there is none", response=httpx.Response(404, request=httpx.Request("GET", "https://hub")))
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fails)
    with refused(CheckpointError, "owner/model", "cannot be had from the hub", "give the folder of a saved"):
        find_model_folder("owner/model")


@pytest.mark.parametrize("name", ["./model", "/models/a", "~/a", "model", "a/b/c"])
def test_a_path_is_never_looked_up(monkeypatch, name):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: pytest.fail("asked the hub"))
    assert not is_hub_name(name)
    with refused(CheckpointError, name, "is no folder here", "give the folder"):
        find_model_folder(name)
