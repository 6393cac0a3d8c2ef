"""Maps of one site into a shared space, and transports from one site to another. Knows no model and no task."""

from mas_hooks.maps.base import AbstractMap, AbstractView
from mas_hooks.maps.spec import MapSpec
from mas_hooks.maps.transport_base import AbstractTransport, AbstractTransportView
from mas_hooks.maps.transports import TransportSpec

__all__ = ["AbstractMap", "AbstractTransport", "AbstractTransportView", "AbstractView", "MapSpec", "TransportSpec"]
