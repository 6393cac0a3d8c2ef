"""Transports: one-way maps of an ordered pair of sites, which replace the whole vector (stitching)."""

from mas_hooks.alignment.transports.base import AbstractTransport, AbstractTransportView
from mas_hooks.alignment.transports.spec import TransportSpec

__all__ = ["AbstractTransport", "AbstractTransportView", "TransportSpec"]
