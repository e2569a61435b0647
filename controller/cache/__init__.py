"""The watch-fed cache: what this controller knows of the store, read without waiting."""

from controller.cache.cache import Cache
from controller.cache.changes import Change
from controller.cache.entries import TERMINAL, AllocEntry, JobEntry, NodeEntry, StatusEntry

__all__ = ["TERMINAL", "AllocEntry", "Cache", "Change", "JobEntry", "NodeEntry", "StatusEntry"]
