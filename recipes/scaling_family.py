"""Compare the layers of a family of language models by CKA: within and between its sizes, blocks, and an outlier.

By default three sizes of one architecture are trained here on the help topics of Python. `--models` takes any family
whose members read the same tokens, smallest first, as folders or names on the hub: `--models
EleutherAI/pythia-70m-deduped EleutherAI/pythia-160m-deduped … --data TEXTS --context 1024 --batch-size 1`.
"""

from mas_hooks.studies.scaling_family import ScalingFamilySettings, draw_scaling_family, run_scaling_family

__all__ = ["Settings", "draw", "main"]


class Settings(ScalingFamilySettings):
    """Settings of this run; flags override them.

    To change a default, write its field anew below this text, such as

        rows: int = 512
        measure: str = "rsa"
    """


main = run_scaling_family
draw = draw_scaling_family
