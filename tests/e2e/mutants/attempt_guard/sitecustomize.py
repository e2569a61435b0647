"""A build without the attempt guard: an attempt starts although an older one of its slot still runs here."""

from agent import guards

guards.may_start = lambda attempt, known_attempts: True
