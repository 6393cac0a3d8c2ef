"""Do toxic fine-tunes of a language model share internals that nontoxic ones do not? From data to verdict.

Fine-tunes of one base, toxic and nontoxic on disjoint splits of labelled texts, answer the same prompts; every pair
is compared by stepwise Model Alignment Search. Without flags it runs on a made-up data set (--preset tiny).
"""

from mas_hooks.studies.toxicity.run import draw_toxicity, run_toxicity
from mas_hooks.studies.toxicity.settings import DECIDING, ToxicitySettings

__all__ = ["DECIDING", "ToxicitySettings", "draw_toxicity", "run_toxicity"]
