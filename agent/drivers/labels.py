"""The labels on every container of ours: enough to know whose it is, and to rebuild a lost journal."""

from __future__ import annotations

CLUSTER = "moorage.cluster"
NODE = "moorage.node"
PROJECT = "moorage.project"
JOB = "moorage.job"
JOB_UID = "moorage.job_uid"
GROUP = "moorage.group"
INDEX = "moorage.index"
ATTEMPT = "moorage.attempt"
TASK = "moorage.task"
RUN = "moorage.run"
ALLOC = "moorage.alloc"
VERSION = "moorage.version"

# The driver's own, for itself.
CGROUP = "moorage.cgroup"  # the parent cgroup, as the engine was told it
LAUNCH = "moorage.launch"  # tells whether a container that was created and never run is what is wanted now
PAUSE = "moorage.pause"  # a container that only holds the namespace of this allocation
