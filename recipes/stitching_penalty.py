"""Put the head of one language model onto the tail of another, behind every block, and tell what it costs.

Behind every block an affine map with a LayerNorm is trained from the residual stream of one model into that of the
other, both ways and within each model. Without flags it trains small models of both kinds on the help topics of
Python. `--model-a` and `--model-b` also take folders of saved Hugging Face models, owner/model on the hub, and
NeelNanda/SoLU_3L512W_C4_Code and its kin (the paper's, by TransformerLens); then give the texts with --data.
"""

from mas_hooks.studies.stitching_penalty import StitchingPenaltySettings, draw_stitching_penalty, run_stitching_penalty

__all__ = ["Settings", "draw", "main"]


class Settings(StitchingPenaltySettings):
    """Settings of this run; flags override them.

    To change a default, write its field anew below this text, such as

        seeds: int = 5
        context: int = 128
    """


main = run_stitching_penalty
draw = draw_stitching_penalty
