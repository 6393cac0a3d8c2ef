"""Train two GRUs to count, align them by cause, and show what they share: the main job on an embedded default."""

from mas_hooks.studies.demo.run import run_demo
from mas_hooks.studies.demo.settings import DemoSettings

__all__ = ["DemoSettings", "run_demo"]
