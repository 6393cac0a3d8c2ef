"""The shapes in the annotations are checked: a whole comparison runs under jaxtyping and beartype."""

import subprocess
import sys

SCRIPT = """
from jaxtyping import install_import_hook

DATA = ["counterfactual_latents", "pairs", "positions", "task_pairs", "text_pairs"]  # tasks have no tensors
ROOMS = ["alignment", "core.sites", *(f"data.{name}" for name in DATA)]
ROOMS += ["engine", "evaluation", "hooks", "models.toys.recurrent", "models.toys.transformer", "training"]
with install_import_hook([f"mas_hooks.{room}" for room in ROOMS], "beartype.beartype"):
    import mas_hooks as mh
    from mas_hooks.models.toys.recurrent import RecurrentModel

import torch

tasks = [mh.task("multi_object", max_quantity=4)] * 2
models = [mh.wrap(RecurrentModel(9, width, cell).eval(), name=cell) for width, cell in ((12, "gru"), (8, "lstm"))]
train, valid, test = mh.task_pairs(tasks, ["count", "count"], (32, 8, 8))
align = mh.Alignment([model.at("state") for model in models], rank=4, init="procrustes", scale="learned", zscore=True)
mh.fit(align, mh.methods.mas(), train, valid, mh.FitSettings(epochs=2, batch_size=16), progress=False)
mh.evaluate(align, test, controls=[mh.controls.RandomMaps()])
steps = mh.task_pairs(tasks, ["full", "full"], (16, 8, 8), stepwise=True)
mh.fit(align, mh.methods.stepwise(), *steps[:2], mh.FitSettings(epochs=1, batch_size=8), progress=False)
align.run(test, source=0, target=1, path="reference")
try:
    align.site_maps[0].view().read(torch.zeros(3, 4, 12))
except Exception as error:
    print(type(error).__name__)
"""


def test_a_comparison_keeps_every_shape():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == "TypeCheckError"  # the checks are on: a shape that does not fit is caught
