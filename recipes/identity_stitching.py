"""Where do fine-tuned classifiers part? Go on in one from another's vectors, behind every block, in and between groups.

By default encoders are made here: one base, fine-tuned to a task of two sentences with a shortcut, with and without
examples that break it. `--models FOLDER … --groups NAME … --data FILE --ood-data FILE` takes any fine-tunes of one
base: folders of saved classifiers, a group for each, and JSON lines with text_a, text_b and label.
"""

from mas_hooks.studies.identity_stitching import (
    IdentityStitchingSettings,
    draw_identity_stitching,
    run_identity_stitching,
)

__all__ = ["Settings", "draw", "main"]


class Settings(IdentityStitchingSettings):
    """Settings of this run; flags override them.

    To change a default, write its field anew below this text, such as

        per_group: int = 10
        breaking: float = 0.3
    """


main = run_identity_stitching
draw = draw_identity_stitching
