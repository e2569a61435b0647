"""What was probably meant: a name that is close, or the same notion as another system calls it."""

from __future__ import annotations

from collections.abc import Collection

_LONGEST = 64  # of a word worth guessing about

# What the same thing is called elsewhere.
_ELSEWHERE = {
    "replicas": "count",
    "instances": "count",
    "scale": "count",
    "environment": "env",
    "cmd": "command",
    "args": "command",
    "services": "groups",
    "containers": "tasks",
    "healthcheck": "health",
    "check": "health",
    "network": "networks",
    "network_mode": "networks",
    "image_pull_policy": "pull",
    "imagePullPolicy": "pull",
    "working_dir": "workdir",
    "cap_add": "capabilities",
    "extra_hosts": "hosts",
    "shm_size": "shm",
    "mem": "memory",
    "ram": "memory",
    "kill_timeout": "stop",
    "requires": "constraints",
    "nodeSelector": "constraints",
    "meta": "labels",
}


def closest(word: str, known: Collection[str]) -> str | None:
    """The known name nearest to `word`, or None where nothing is near."""
    if len(word) > _LONGEST:
        return None
    for candidate in (word.lower().replace("-", "_"), _ELSEWHERE.get(word, "")):
        if candidate in known:
            return candidate
    from difflib import get_close_matches  # only the way to an error needs it

    near = get_close_matches(word, known, n=1, cutoff=0.65)
    return near[0] if near else None


def did_you_mean(word: str, known: Collection[str]) -> str:
    near = closest(word, known)
    return f"did you mean {near}?" if near else ""
