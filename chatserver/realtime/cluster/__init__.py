"""Rooms whose members are connected to several nodes."""

from .cluster import Cluster

__all__ = ["Cluster"]
