"""The activation store. Run as a script, this file is the process that a test kills while it collects."""

import gc
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mas_hooks.core.errors import (
    CheckpointError,
    EmptyError,
    OutputFolderError,
    PositionError,
    SettingError,
    ShapeError,
    UnknownNameError,
    UnsupportedError,
)
from mas_hooks.core.sites import Site, Where, recording
from mas_hooks.engine.store.collect import ActivationStore, collect
from mas_hooks.hooks.wrap import wrap
from mas_hooks.models.toys.recurrent import RecurrentModel

ROWS, LENGTH, WIDTH, VOCABULARY = 40, 5, 6, 9
TINY = 10 * WIDTH * 4 / 2**20
"""shard_mb of ten rows of one site in float32."""
LAYERS = ["layers.0", "layers.1"]


class Layered(nn.Module):
    """Embedding, two blocks, a head; counts its forwards and those of its head."""

    def __init__(self, width=WIDTH, scale=1.0):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(VOCABULARY, width)
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(width, width), nn.Tanh()) for _ in range(2))
        self.head = nn.Linear(width, VOCABULARY)
        self.scale, self.runs, self.heads = scale, 0, 0
        self.head.register_forward_hook(self.count_head)

    def count_head(self, *_):
        self.heads += 1

    def forward(self, input_ids, attention_mask=None):
        self.runs += 1
        h = self.scale * self.embedding(input_ids)
        for layer in self.layers:
            h = layer(h)
        return self.head(h)


def ids(rows=ROWS, seed=0):
    return torch.randint(0, VOCABULARY, (rows, LENGTH), generator=torch.Generator().manual_seed(seed))


def site(name="layers.1", **options):
    return wrap(Layered(**options).eval(), name="toy").at(name)


def both(model=None):
    model = model or wrap(Layered().eval(), name="toy")
    return [model.at(name) for name in LAYERS]


def expected(one, inputs, where):
    with torch.no_grad():
        return one.model.run_with_cache(inputs, [one.name], where)[1][one.name]


def cells(rows=ROWS):
    return Where.from_mask(torch.ones(rows, LENGTH, dtype=torch.bool))


def shuffled(where, seed=1):
    order = torch.randperm(len(where), generator=torch.Generator().manual_seed(seed))
    return Where(where.rows[order], where.columns[order])


@pytest.fixture(params=["memory", "folder"])
def kept(request, tmp_path):
    """Where a collect keeps its rows, as keywords of it."""
    return {"folder": None if request.param == "memory" else tmp_path / "store", "progress": False, "shard_mb": TINY}


@pytest.mark.parametrize("batch_size", [1, 7, 64])
@pytest.mark.parametrize(
    "where", [cells(), shuffled(cells()), Where([3, 3, 39, 3, 0], [4, 0, 2, 4, 1])], ids=["all", "shuffled", "few"]
)
def test_rows_are_those_of_the_model_in_the_order_asked_for(kept, where, batch_size):
    one = site()
    store = collect(one, ids(), where, batch_size=batch_size, **kept)
    torch.testing.assert_close(store[one].tensor(), expected(one, ids(), where))
    assert len(store[one]) == len(where)
    assert store[one].width == WIDTH
    assert store.names == ["layers.1"]
    store.verify()


@pytest.mark.parametrize("step", [1, -1])
def test_several_sites_come_out_of_one_forward_that_ends_at_the_last(kept, step):
    sites = both()[::step]
    reference = [expected(one, ids(), cells()) for one in sites]
    module = sites[0].model.module
    module.runs = module.heads = 0
    store = collect(sites, ids(), batch_size=10, **kept)
    assert (module.runs, module.heads) == (4, 0)
    for one, rows in zip(sites, reference, strict=True):
        torch.testing.assert_close(store[one].tensor(), rows)
    assert store.names == LAYERS[::step]


def test_sites_of_other_sides_and_widths():
    model = wrap(Layered().eval())
    inside, out = model.at("head", side="input"), model.at("head")
    store = collect([inside, out], ids(), progress=False)
    assert store.names == ["head:input", "head"]
    torch.testing.assert_close(store[inside].tensor(), collect(model.at("layers.1"), ids())["layers.1"].tensor())
    assert store[out].width == VOCABULARY


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_states_of_a_recurrent_model(kept, cell):
    torch.manual_seed(0)
    model = wrap(RecurrentModel(VOCABULARY, WIDTH, cell).eval())
    one, where = model.at("state"), shuffled(cells())
    store = collect([one, model.at("embed")], ids(), where, batch_size=9, **kept)
    torch.testing.assert_close(store["state"].tensor(), expected(one, ids(), where))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", torch.bfloat16])
def test_dtype_is_that_asked_for(kept, dtype):
    one = site()
    rows = collect(one, ids(), dtype=dtype, **kept)[one]
    wanted = dtype if isinstance(dtype, torch.dtype) else getattr(torch, dtype)
    assert rows.dtype == wanted
    assert torch.equal(rows.tensor(), expected(one, ids(), cells()).to(wanted))


def test_a_value_too_large_for_float16_is_refused():
    one = site("embedding", scale=1.0)
    one.model.module.embedding.weight.data[2] *= 1e6
    with pytest.raises(SettingError, match=r"dtype is 'float16', but must be bfloat16 or float32, as toy:embedding"):
        collect(one, ids(), dtype="float16")
    assert collect(one, ids(), dtype="bfloat16")[one].tensor().abs().max() > 1e5


def test_batches_as_they_come(kept):
    one, where = site(), Where([1, 0, 1], [4, 2, 0])
    given = [(ids(3, seed), where if seed != 1 else Where([], [])) for seed in range(9)]
    store = collect(one, iter(given), **kept)
    parts = [expected(one, inputs, where) for inputs, where in given if len(where)]
    torch.testing.assert_close(store[one].tensor(), torch.cat(parts))


def test_without_where_every_cell_that_is_no_padding(kept):
    one, mask = site(), torch.ones(ROWS, LENGTH, dtype=torch.int64)
    mask[:, 0], mask[3, :3] = 0, 0
    inputs = {"input_ids": ids(), "attention_mask": mask}
    where = Where.from_mask(mask.bool())
    torch.testing.assert_close(collect(one, inputs, **kept)[one].tensor(), expected(one, inputs, where))
    streamed = collect(one, [(inputs, None)], progress=False)
    assert len(streamed[one]) == int(mask.sum())


@pytest.mark.parametrize(
    "index",
    [[0], [], [5, 3, 3, -1], slice(None), slice(7, 95, 9), slice(30, 4, -3), slice(5, 2), torch.tensor([199, 0])],
    ids=str,
)
def test_rows_by_index(kept, index):
    one = site()
    rows = collect(one, ids(), **kept)[one]
    whole = expected(one, ids(), cells())
    places = torch.arange(len(whole)).tolist()[index] if isinstance(index, slice) else index
    torch.testing.assert_close(rows[index], whole[torch.as_tensor(places, dtype=torch.int64)])


def test_random_indices_across_many_shards(tmp_path):
    one = site()
    rows = collect(one, ids(), folder=tmp_path, batch_size=3, shard_mb=TINY)[one]
    assert len(rows.chunks) > 10
    index = torch.randint(0, len(rows), (500,), generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(rows[index], expected(one, ids(), cells())[index])


@pytest.mark.parametrize("index", [200, -201, 3, [1.5], [[1]], [True, False]])
def test_indices_that_cannot_be_used(index):
    rows = collect(site(), ids())["layers.1"]
    index = [index] if index in (200, -201) else index
    with pytest.raises(SettingError, match=r"an index into the rows of layers\.1 is .*, but must be (0 to 199|a list)"):
        rows[index]


def test_rows_in_batches(kept):
    rows = collect(site(), ids(), **kept)["layers.1"]
    parts = list(rows.batches(33))
    assert [len(part) for part in parts] == [33] * 6 + [2]
    assert torch.equal(torch.cat(parts), rows.tensor())
    with pytest.raises(TypeError, match="not iterable"):
        iter(rows)
    with pytest.raises(SettingError, match="the size of batches is 0"):
        rows.batches(0)


def test_an_unknown_site_names_the_nearest():
    with pytest.raises(UnknownNameError, match=r"store of toy has no site 'layers\.2'\. Did you mean 'layers\.1'"):
        collect(site(), ids())["layers.2"]


def test_a_store_opens_again_and_is_plain_safetensors(tmp_path):
    sites = both()
    made = collect(sites, ids(), folder=tmp_path, dtype="bfloat16", shard_mb=TINY, batch_size=8)
    found = ActivationStore.open(tmp_path)
    assert found.names == LAYERS
    assert found.model == "toy"
    files = sorted(tmp_path.glob("shard-*.safetensors"))
    for name in LAYERS:
        assert torch.equal(found[name].tensor(), made[name].tensor())
        assert torch.equal(torch.cat([load_file(path)[name] for path in files]), made[name].tensor())
    assert {path.name for path in tmp_path.iterdir()} == {"index.json", *(path.name for path in files)}


def anonymous_mb():
    """Memory of this process that is no mapped file."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+)", status)[1]) / 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux' account of memory")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rows_are_read_mapped(tmp_path, dtype):
    one = site(width=512)
    collect(one, ids(8_000), folder=tmp_path, dtype=dtype, batch_size=500, progress=False)
    before = anonymous_mb()
    rows = ActivationStore.open(tmp_path)[one]
    size = len(rows) * rows.width * rows.dtype.itemsize / 2**20
    part = rows[torch.arange(0, len(rows), 997)]
    assert part.abs().sum() > 0
    assert anonymous_mb() - before < size / 4


def alive():
    """Bytes of all tensors that Python made since `gc.freeze` and still holds."""
    found = [one for one in gc.get_objects() if issubclass(type(one), Tensor)]
    storages = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in found}
    return sum(storages.values())


def most_alive(batches, **kept):
    """The most bytes of new tensors alive at any time a batch is asked for."""
    one, sizes = site(width=64), []

    def stream():
        for seed in range(batches):
            sizes.append(alive())
            yield ids(100, seed), None

    gc.collect()
    gc.freeze()
    try:
        store = collect(one, stream(), progress=False, **kept)
    finally:
        gc.unfreeze()
    assert len(store[one]) == batches * 100 * LENGTH
    return max(sizes)


def test_memory_does_not_grow_with_the_data_set_in_a_folder(tmp_path):
    batch, shard = 100 * LENGTH * 64 * 4, 3 * 100 * LENGTH * 64 * 4
    few = most_alive(6, folder=tmp_path / "few", shard_mb=shard / 2**20)
    many = most_alive(30, folder=tmp_path / "many", shard_mb=shard / 2**20)
    assert few == many
    assert shard - batch <= many <= shard + batch / 2
    assert most_alive(30, shard_mb=shard / 2**20) >= 27 * batch  # in memory it grows, so the count counts


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith(".tmp")}


LONG = {"batch_size": 2, "shard_mb": 2 * TINY, "progress": False}


@pytest.mark.parametrize("moment", ["replace 1", "replace 6", "replace 7", "run 12"])
def test_a_killed_collect_goes_on_to_the_very_same_bytes(tmp_path, moment):
    killed = subprocess.run([sys.executable, __file__, tmp_path / "killed", moment], check=False, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    left = contents(tmp_path / "killed")
    with pytest.raises(CheckpointError, match=r"is not finished \(\d+ rows\)|holds no index\.json"):
        ActivationStore.open(tmp_path / "killed")
    collect(both(), ids(), folder=tmp_path / "whole", **LONG)
    sites = both()
    collect(sites, ids(), folder=tmp_path / "killed", resume=True, **LONG)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    done = json.loads(left["index.json"])["batches"] if "index.json" in left else 0
    assert sites[0].model.module.runs == ROWS // 2 - done
    assert (done > 0) == (moment != "replace 1")


def test_a_finished_collect_is_not_run_again(tmp_path):
    sites = both()
    collect(sites, ids(), folder=tmp_path, **LONG)
    before, module = contents(tmp_path), sites[0].model.module
    module.runs = 0
    assert len(collect(sites, ids(), folder=tmp_path, resume=True, **LONG)["layers.0"]) == ROWS * LENGTH
    assert module.runs == 0
    assert contents(tmp_path) == before


OTHER = {
    "dtype": ({"dtype": "float16"}, None),
    "batch_size": ({"batch_size": 3}, None),
    "shard_mb": ({"shard_mb": TINY}, None),
    "sites": ({}, lambda: both()[:1]),
    "weights": ({}, lambda: both(wrap(Layered(scale=1.0).double().eval(), name="toy"))),
    "model": ({}, lambda: both(wrap(Layered().eval(), name="other"))),
}


@pytest.mark.parametrize("changed", OTHER)
def test_resume_with_another_request_is_refused(tmp_path, changed):
    collect(both(), ids(), folder=tmp_path, **LONG)
    settings, sites = OTHER[changed]
    with pytest.raises(CheckpointError, match=rf"was collected with other settings \({changed}\); resume with those"):
        collect(sites() if sites else both(), ids(), folder=tmp_path, resume=True, **{**LONG, **settings})


@pytest.mark.parametrize(
    ("inputs", "where"),
    [(ids(seed=1), None), (ids(), shuffled(cells())), (ids()[:-2], None), (torch.cat([ids(), ids()]), None)],
    ids=["values", "cells", "fewer", "more"],
)
def test_resume_with_other_inputs_is_refused(tmp_path, inputs, where):
    collect(both(), ids(), folder=tmp_path, **LONG)
    before = contents(tmp_path)
    with pytest.raises(CheckpointError, match="was collected from other inputs; resume with those it was begun with"):
        collect(both(), inputs, where, folder=tmp_path, resume=True, **LONG)
    assert contents(tmp_path) == before


def test_a_folder_in_use_is_left_alone(tmp_path):
    collect(both(), ids(), folder=tmp_path / "store", progress=False)
    with pytest.raises(OutputFolderError, match="it already holds activations; go on with resume=True, or choose"):
        collect(both(), ids(), folder=tmp_path / "store")
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(OutputFolderError, match=r"it holds other files \(notes, …\); choose an empty or new folder"):
        collect(both(), ids(), folder=tmp_path, resume=True)
    with pytest.raises(OutputFolderError, match=r"cannot write to .*notes"):
        collect(both(), ids(), folder=tmp_path / "notes")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("file", [".shard-00001.safetensors.tmp", ".index.json.tmp"])
def test_a_full_disk_is_one_sentence_and_can_be_gone_on_from(tmp_path, file):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / file).symlink_to("/dev/full")
    with pytest.raises(OutputFolderError, match=r"no space left on device; make room there, then go on with resume"):
        collect(both(), ids(), folder=tmp_path / "full", **LONG)
    (tmp_path / "full" / file).unlink()
    collect(both(), ids(), folder=tmp_path / "full", resume=True, **LONG)
    collect(both(), ids(), folder=tmp_path / "whole", **LONG)
    assert contents(tmp_path / "full") == contents(tmp_path / "whole")


def truncated(folder):
    path = folder / "shard-00001.safetensors"
    path.write_bytes(path.read_bytes()[:-8])


def missing(folder):
    (folder / "shard-00001.safetensors").unlink()


def other_tensors(folder):
    path = folder / "shard-00001.safetensors"
    size = path.stat().st_size
    save_file({"x": torch.zeros(1)}, path)
    retold(folder, lambda index: index["shards"][1].update(bytes=path.stat().st_size))
    assert size != path.stat().st_size


def no_safetensors(folder):
    path = folder / "shard-00001.safetensors"
    path.write_bytes(b"\xff" * path.stat().st_size)


def retold(folder, change):
    index = json.loads((folder / "index.json").read_text())
    change(index)
    (folder / "index.json").write_text(json.dumps(index))


DAMAGES = {
    r"shard-00001\.safetensors: holds \d+ bytes, but its index says \d+": truncated,
    r"shard-00001\.safetensors: cannot be read \(.*No such file": missing,
    r"shard-00001\.safetensors: cannot be read \(": no_safetensors,
    r"shard-00001\.safetensors: holds other tensors than its index says": other_tensors,
    r"holds no index\.json that can be read": lambda folder: (folder / "index.json").unlink(),
    r"is not a whole index of activations \(its text: invalid json": lambda folder: (folder / "index.json").write_text(
        (folder / "index.json").read_text()[:200]
    ),
    r"is not a whole index of activations \(kind: ": lambda folder: retold(folder, lambda i: i.update(kind="model")),
    r"is not a whole index of activations \(format: ": lambda folder: retold(folder, lambda i: i.update(format=2)),
    r"is not a whole index of activations \(request: field required": lambda folder: retold(
        folder, lambda i: i.pop("request")
    ),
    r"is not a whole index of activations \(shards\.0\.file: ": lambda folder: retold(
        folder, lambda i: i["shards"][0].update(file="../secret.safetensors")
    ),
    r"is not finished \(\d+ rows\); go on with": lambda folder: retold(folder, lambda i: i.update(complete=False)),
}


@pytest.mark.parametrize("sentence", DAMAGES)
def test_a_damaged_folder_is_one_sentence(tmp_path, sentence):
    collect(both(), ids(), folder=tmp_path, **LONG)
    DAMAGES[sentence](tmp_path)
    with pytest.raises(CheckpointError, match=sentence):
        ActivationStore.open(tmp_path)


@pytest.mark.parametrize("damage", [truncated, missing, no_safetensors])
def test_resume_does_not_build_on_a_damaged_shard(tmp_path, damage):
    collect(both(), ids(), folder=tmp_path, **LONG)
    retold(tmp_path, lambda index: index.update(complete=False))
    damage(tmp_path)
    with pytest.raises(CheckpointError, match=r"shard-00001\.safetensors: "):
        collect(both(), ids(), folder=tmp_path, resume=True, **LONG)


def test_one_changed_bit_is_found_by_verify(tmp_path):
    store = collect(both(), ids(), folder=tmp_path, **LONG)
    store.verify()
    path = tmp_path / "shard-00002.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.unlink()  # the open store has the old file mapped
    path.write_bytes(data)
    reopened = ActivationStore.open(tmp_path)
    with pytest.raises(CheckpointError, match=r"shard-00002\.safetensors: does not hold what was written"):
        reopened.verify()
    path.unlink()
    with pytest.raises(CheckpointError, match=r"shard-00002\.safetensors: cannot be read"):
        reopened.verify()


PADDED = {"input_ids": ids(), "attention_mask": torch.ones(ROWS, LENGTH).index_fill(1, torch.tensor([0]), 0)}
REFUSED = {
    "where is empty; name at least one cell": (EmptyError, {"where": Where([], [])}),
    "the list of cells in all batches is empty": (EmptyError, {"inputs": [(ids(), Where([], []))]}),
    "the list of sites is empty": (EmptyError, {"sites": []}),
    "position 5 of row 1 is not in the inputs of toy: rows run 0 to 39": (PositionError, {"where": Where([1], [5])}),
    "position 0 of row 2 is not in the inputs of toy: that cell is padding": (
        PositionError,
        {"inputs": PADDED, "where": Where([2], [0])},
    ),
    "position 7 of row 0 is not in batch 1 of the inputs of toy": (
        PositionError,
        {"inputs": [(ids(), None), (ids(), Where([0], [7]))]},
    ),
    "has no dtype 'float61'. Did you mean 'float16'": (UnknownNameError, {"dtype": "float61"}),
    "batch_size is 0, but must be above 0": (SettingError, {"batch_size": 0}),
    "shard_mb is -1, but must be above 0": (SettingError, {"shard_mb": -1}),
    "resume is True, but must be False where no folder": (SettingError, {"resume": True}),
    "batch 0 of the inputs is 'an int64 tensor": (SettingError, {"inputs": [ids(2), ids(2)]}),
    "inputs is 'an int', but must be a tensor": (SettingError, {"inputs": 3}),
    "a where of its own beside inputs that come in batches is not supported": (
        UnsupportedError,
        {"inputs": [(ids(), None)], "where": cells()},
    ),
    "the inputs of toy has shape (4,)": (ShapeError, {"inputs": torch.arange(4)}),
    "sites is ['toy:layers.0', 'toy:layers.0'], but must be different sites": (
        SettingError,
        {"sites": [both()[0]] * 2},
    ),
    "but must be different sites of one wrapped model": (SettingError, {"sites": [both()[0], both()[1]]}),
    "what passes toy:layers.0 has shape (200, 6), but (…, 4)": (
        ShapeError,
        {"sites": Site(both()[0].model, "layers.0", 4)},
    ),
    "a site to collect is 'seen', but must be a site of a wrapped model": (
        SettingError,
        {"sites": recording(torch.zeros(3, 2), {}, "seen")},
    ),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_what_cannot_be_collected_is_one_sentence(sentence):
    kind, given = REFUSED[sentence]
    with pytest.raises(kind, match=re.escape(sentence)):
        collect(**{"sites": both(), "inputs": ids(), "progress": False, **given})


@pytest.mark.parametrize("given", [{"where": Where([1], [5])}, {"where": Where([], [])}, {"dtype": "int8"}])
def test_a_refused_request_leaves_no_folder(tmp_path, given):
    with pytest.raises((PositionError, EmptyError, UnknownNameError)):
        collect(**{"sites": both(), "inputs": ids(), "folder": tmp_path / "store", **given})
    assert not (tmp_path / "store").exists()


def _collect_and_die(folder, moment):
    """Collect as LONG says, and be killed before the n-th rename, or in the n-th forward."""
    what, nth = moment.split()
    calls = []

    def maybe(kind):
        calls.extend([kind] if kind == what else [])
        if len(calls) == int(nth):
            os.kill(os.getpid(), signal.SIGKILL)

    sites, replace = both(), Path.replace
    sites[0].model.module.register_forward_pre_hook(lambda *_: maybe("run"))
    Path.replace = lambda self, target: (maybe("replace"), replace(self, target))[1]
    collect(sites, ids(), folder=folder, **LONG)


if __name__ == "__main__":
    torch.set_num_threads(1)
    _collect_and_die(*sys.argv[1:])
