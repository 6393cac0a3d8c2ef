"""Do toxic fine-tunes of a language model share internals that nontoxic ones do not? From data to verdict.

Fine-tunes of one base, toxic and nontoxic on disjoint splits of labelled texts, answer the same prompts; every pair
is compared by stepwise Model Alignment Search. Without flags it runs on a made-up data set (--preset tiny).
"""

from mas_hooks.studies.toxicity import DECIDING, ToxicitySettings, draw_toxicity, run_toxicity

__all__ = ["DECIDING", "Settings", "draw", "main"]


class Settings(ToxicitySettings):
    """Settings of this run; flags override them.

    To change a default, write its field anew below this text, such as

        prompts: int = 800
        seed: int = 1
    """


main = run_toxicity
draw = draw_toxicity
