"""Agents' sessions: assignments go out, statuses come in."""

from controller.dispatcher.attach import AttachFailed
from controller.dispatcher.dispatcher import Dispatcher

__all__ = ["AttachFailed", "Dispatcher"]
