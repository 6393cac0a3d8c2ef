"""Maps of sites into a shared space, the plans that train them, and the swaps they make possible."""

from mas_hooks.alignment import methods
from mas_hooks.alignment.alignment import Alignment
from mas_hooks.alignment.directions import PatchedDirections, direction_record
from mas_hooks.alignment.interchange import interchange
from mas_hooks.alignment.maps import MapSpec
from mas_hooks.alignment.maps.base import complete_basis
from mas_hooks.alignment.maps.init import random_frame
from mas_hooks.alignment.maps.spec import Init
from mas_hooks.alignment.plan import Direction, Plan
from mas_hooks.alignment.transports import TransportSpec

__all__ = [
    "Alignment",
    "Direction",
    "Init",
    "MapSpec",
    "PatchedDirections",
    "Plan",
    "TransportSpec",
    "complete_basis",
    "direction_record",
    "interchange",
    "methods",
    "random_frame",
]
