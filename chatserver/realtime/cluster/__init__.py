"""Rooms that span several nodes."""

from .cluster import Cluster

__all__ = ["Cluster"]
