"""Maps of one site into a shared space. They know no model and no task."""

from mas_hooks.alignment.maps.base import AbstractMap, AbstractView
from mas_hooks.alignment.maps.spec import MapSpec

__all__ = ["AbstractMap", "AbstractView", "MapSpec"]
