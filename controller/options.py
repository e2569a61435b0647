"""What a controller is told on its command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Options:
    data_dir: Path
    api: tuple[str, int]
    agents: tuple[str, int]
    etcd: tuple[str, ...]  # empty: embedded
    etcd_port: int
    etcd_quota: int  # bytes, of the embedded one
    advertise_api: str
    advertise_agents: str
