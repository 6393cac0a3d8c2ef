"""Maps of one site into a shared space. Knows no model and no task."""

from mas_hooks.maps.base import AbstractMap, AbstractView
from mas_hooks.maps.spec import MapSpec

__all__ = ["AbstractMap", "AbstractView", "MapSpec"]
