"""Train two GRUs to count, align them by cause, and show what they share: the main job on an embedded default."""

from mas_hooks.studies.demo import DemoSettings, run_demo

__all__ = ["Settings", "main"]


class Settings(DemoSettings):
    """Settings of this run; flags override them.

    To change a default, write its field anew below this text, such as

        seed: int = 1
        width: int = 96
    """


main = run_demo
