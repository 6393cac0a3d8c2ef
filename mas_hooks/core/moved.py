"""Where the modules of 0.1.0 went: importing one by its old path raises an ImportError that names the new one."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec

MOVED = {
    "alignment": "alignment.alignment",
    "alignment_files": "alignment.serialization",
    "checkpoints": "core.checkpoints",
    "cli": "cli.main",
    "comparison": "studies.work.toy_comparison",
    "controls": "training.controls",
    "correlations": "studies.work.correlations",
    "doctor": "cli.doctor",
    "doctor.checks": "cli.doctor.checks",
    "doctor.packages": "cli.doctor.packages",
    "doctor.report": "cli.doctor.report",
    "engine.batches": "training.batches",
    "engine.block_tail": "engine.tails.decoder",
    "engine.frozen": "engine.cache",
    "engine.kept": "engine.tails.kept",
    "engine.labelled": "engine.batch",
    "engine.layers": "similarity.layers.compare",
    "engine.rows": "engine.store.store",
    "engine.run": "engine.runner",
    "engine.shards": "engine.store.shards",
    "engine.state_tail": "engine.tails.recurrent",
    "engine.store": "engine.store.collect",
    "engine.stream_tail": "engine.tails.generic",
    "engine.streams": "engine.store.streams",
    "errors": "core.errors",
    "evaluate": "evaluation.evaluate",
    "exchanges": "alignment.interchange",
    "first_maps": "alignment.alignment",
    "fit": "training.fit",
    "fit_loop": "training.loop",
    "fit_settings": "training.settings",
    "fit_state": "training.checkpoint",
    "fit_told": "training.fingerprint",
    "hooks.block_tail": "engine.tails.decoder",
    "hooks.calls": "hooks.generation",
    "hooks.collect": "hooks.read",
    "hooks.condition": "hooks.checks",
    "hooks.displaced": "hooks.skipping",
    "hooks.folders": "hooks.loading",
    "hooks.handle": "hooks.hooked_model",
    "hooks.parts": "hooks.partial_taps",
    "hooks.skipped": "hooks.skipping",
    "hooks.state_tail": "engine.tails.recurrent",
    "hooks.stream_tail": "engine.tails.generic",
    "inputs": "core.inputs",
    "interventions": "alignment.interchange",
    "jobs": "core.parallel",
    "language": "models.language",
    "language.behaviour": "models.language.toxicity_score",
    "language.classifiers": "models.language.encoders",
    "language.corpus": "data.text.corpus",
    "language.datasets": "data.text.labelled",
    "language.embedded": "data.text.synthetic_toxicity",
    "language.embedded_base": "models.language.tiny_base",
    "language.fine_tuned": "models.language.classifier_set",
    "language.finetune": "models.language.finetune",
    "language.hub": "models.language.load",
    "language.members": "studies.toxicity.members",
    "language.memory": "models.language.memory",
    "language.models": "models.language.load",
    "language.overlap": "data.text.sentence_pairs",
    "language.pair_rows": "data.text.sentence_pairs",
    "language.prepare": "data.text.splits",
    "language.responses": "models.language.generate",
    "language.rows": "data.text.labelled",
    "language.small_models": "models.language.small_lm",
    "language.told": "core.fingerprints",
    "language.trainer": "models.language.finetune",
    "latent_targets": "training.latent_targets",
    "latents": "data.counterfactual_latents",
    "layer_comparison": "studies.work.layer_comparison",
    "maps": "alignment.maps",
    "maps.base": "alignment.maps.base",
    "maps.calibration": "alignment.maps.standardise",
    "maps.fixed": "alignment.maps.fixed",
    "maps.frame": "alignment.maps.frame",
    "maps.linear_view": "alignment.maps.linear",
    "maps.orthogonal": "alignment.maps.orthogonal",
    "maps.reversible": "alignment.maps.reversible",
    "maps.rotation": "alignment.maps.rotation",
    "maps.spec": "alignment.maps.spec",
    "maps.starts": "alignment.maps.init",
    "maps.transport_affine": "alignment.transports.affine",
    "maps.transport_base": "alignment.transports.base",
    "maps.transport_linear": "alignment.transports.linear",
    "maps.transport_starts": "alignment.transports.init",
    "maps.transports": "alignment.transports.spec",
    "measurements": "studies.measurements",
    "methods": "alignment.methods",
    "metrics": "evaluation.metrics",
    "model_groups": "evaluation.group_test",
    "null_space": "evaluation.null_space",
    "objectives": "training.losses",
    "pair_table": "evaluation.pair_scores",
    "pairs": "data.pairs",
    "plan": "alignment.plan",
    "positions": "data.positions",
    "progress": "core.progress",
    "read_out": "evaluation.null_share",
    "recorded_pairs": "data.counterfactual_latents",
    "records": "core.records",
    "report.bars": "report.figures.bars",
    "report.claims": "report.data.claims",
    "report.curves": "report.figures.curves",
    "report.fits": "report.data.fits",
    "report.grouped": "report.figures.grouped",
    "report.groups": "report.data.groups",
    "report.heatmap": "report.figures.heatmap",
    "report.html": "report.page.html",
    "report.labels": "report.style",
    "report.layer_heatmap": "report.figures.layer_heatmap",
    "report.marks": "report.style",
    "report.matrices": "report.data.matrices",
    "report.names": "report.data.names",
    "report.page": "report.page.run_page",
    "report.pair_groups": "report.figures.pair_groups",
    "report.panels": "report.data.panels",
    "report.places": "report.data.places",
    "report.ranks": "report.figures.ranks",
    "report.sheets": "report.data.sheets",
    "report.tables": "report.page.tables",
    "report.value_curves": "report.figures.value_curves",
    "run_folder": "core.run_folder",
    "settings": "core.settings",
    "shared_texts": "data.text_pairs",
    "shipped": "studies.registry",
    "similarity.depth": "similarity.layer_structure",
    "similarity.distance": "similarity.model_distance",
    "similarity.layer_features": "similarity.layers.hsic",
    "similarity.layer_grid": "similarity.layers.grid",
    "similarity.layer_hsic": "similarity.layers.hsic",
    "similarity.layer_pairs": "similarity.layers.accumulate",
    "similarity.measure": "similarity.resampling",
    "sites": "core.sites",
    "sites_table": "cli.site_table",
    "start": "training.initialise",
    "stitched_classifiers": "studies.work.classifier_stitching",
    "stitching": "studies.work.stitching",
    "study": "studies.stages",
    "swaps": "alignment.directions",
    "task_pairs": "data.task_pairs",
    "tasks": "data.tasks",
    "tasks.arithmetic": "data.tasks.arithmetic",
    "tasks.arithmetic_program": "data.tasks.arithmetic",
    "tasks.catalogue": "data.tasks.registry",
    "tasks.causal_model": "data.tasks.base",
    "tasks.counterfactual": "data.tasks.counterfactual",
    "tasks.numeric": "data.tasks.numeric",
    "tasks.numeric_program": "data.tasks.numeric",
    "tasks.stepwise": "data.tasks.stepwise",
    "tasks.trials": "data.tasks.trials",
    "tasks.vocabulary": "data.tasks.vocabulary",
    "text_comparison": "studies.work.text_comparison",
    "text_models": "models.language.with_responses",
    "text_pairs": "data.text_pairs",
    "toys": "models.toys",
    "toys.recurrent": "models.toys.recurrent",
    "toys.training": "models.toys.train",
    "toys.transformer": "models.toys.transformer",
    "trained": "models.toys.toy_cache",
}
"""Old module -> new module, both below `mas_hooks`."""


def new_place(module: str) -> str:
    """One sentence about where an old module of this package (its full name) is now; empty for any other."""
    new = MOVED.get(module.removeprefix("mas_hooks."))
    return f"{module} is now mas_hooks.{new}" if new and module.startswith("mas_hooks.") else ""


def _asked_module(fullname: str) -> str:
    """The module whose import asks for this one: `mas_hooks.language.told` where `mas_hooks.language` is its parent.

    Python imports the parents first, and an old package that is gone ends the import there. Only the frames of the
    import itself know the whole name.
    """
    frame, asked = sys._getframe(), fullname
    while frame := frame.f_back:
        name = frame.f_locals.get("name") if frame.f_code.co_filename == "<frozen importlib._bootstrap>" else None
        if isinstance(name, str) and name.startswith(f"{asked}."):
            asked = name
    return asked if new_place(asked) else fullname


class MovedModules(MetaPathFinder):
    """The last finder that Python tries, so it sees only names that are nowhere else."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:  # noqa: ARG002
        """Return None for every module that is not an old one; raise ModuleNotFoundError for those.

        The error carries no `name`: with one, `from mas_hooks import fit_loop` would hide its sentence.
        """
        if moved := new_place(fullname) and new_place(_asked_module(fullname)):
            raise ModuleNotFoundError(f"{moved}; import it from there")
        return None
