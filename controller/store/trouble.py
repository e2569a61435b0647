"""What is wrong with the store, in the user's words, from whoever notices it to whoever shows it.

The etcd that this controller runs and its maintenance notice; the API shows what lasts, and events tell of each
beginning and end, also of a trouble that was over before anybody looked.
"""

from __future__ import annotations

from collections.abc import Callable

Told = Callable[[str, bool], None]
"""The text, and whether the trouble begins or ends."""


class Trouble:
    """Of one part. Empty text: none."""

    def __init__(self, tell: Told | None = None) -> None:
        self.text = ""
        self._tell = tell

    def say(self, text: str) -> None:
        before, self.text = self.text, text
        if self._tell is not None and bool(before) != bool(text):
            self._tell(text or before, bool(text))


class Troubles:
    """Of all parts."""

    def __init__(self) -> None:
        self._parts: list[Trouble] = []
        self._listeners: list[Told] = []

    def part(self) -> Trouble:
        trouble = Trouble(self._told)
        self._parts.append(trouble)
        return trouble

    def current(self) -> list[str]:
        return [part.text for part in self._parts if part.text]

    def subscribe(self, listener: Told) -> None:
        self._listeners.append(listener)

    def _told(self, text: str, begins: bool) -> None:
        for listener in self._listeners:
            listener(text, begins)
