"""Arbitrary valid jobs, as users would write them (as data), for hypothesis."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from moorage.model import quantities as q
from moorage.model.container import CAPABILITIES, ULIMITS

names = st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
durations = st.integers(0, q.MAX_DURATION_MS).map(q.format_duration)
waits = st.integers(100, 10_000_000).map(q.format_duration)
sizes = st.integers(6 << 20, 1 << 50).map(q.format_bytes)


def some(required: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(required, optional=optional)


conditions = st.one_of(
    some({"attribute": names, "value": names}, {"operator": st.sampled_from(["=", "!=", "set_contains"])}),
    some({"attribute": names, "operator": st.sampled_from(["in", "not_in"])}, {}).flatmap(
        lambda c: st.lists(names, min_size=1, max_size=3).map(lambda v: {**c, "value": v})
    ),
    some({"attribute": names, "operator": st.sampled_from(["exists", "not_exists"])}, {}),
    some({"attribute": names, "operator": st.sampled_from(["<", ">=", "version"]), "value": st.just("1.20.3")}, {}),
    some({"attribute": names, "operator": st.just("regexp"), "value": st.just("^v[0-9]+$")}, {}),
)
affinities = conditions.flatmap(lambda c: st.integers(-100, 100).map(lambda w: {**c, "weight": w}))
spreads = st.one_of(
    st.sampled_from(["node", "rack", "zone", "region"]),
    some({"attribute": names}, {"targets": st.dictionaries(names, st.integers(0, 30), max_size=3)}),
)
resources = some(
    {},
    {
        "cpu": st.one_of(st.integers(10, 100).map(lambda m: f"{m}m"), st.sampled_from(["50m", 0.05])),
        "cpu_limit": st.one_of(st.integers(1, 64), st.sampled_from([0.5, "1500m", 1.25])),
        "memory": st.integers(6 << 20, 64 << 20),
        "memory_limit": st.integers(128, 4096).map(lambda m: f"{m}Mi"),
        "disk": sizes,
        "pids": st.integers(1, 4096),
    },
)
containers = some(
    {"image": st.sampled_from(["busybox:1", "registry.example:5000/shop:3", "a/b@sha256:" + "0" * 64])},
    {
        "pull": st.sampled_from(["if_missing", "always", "never"]),
        "entrypoint": st.one_of(st.none(), st.lists(texts, max_size=2)),
        "command": st.lists(texts, max_size=3),
        "user": st.sampled_from(["", "1000", "1000:1000", "www-data"]),
        "workdir": st.sampled_from(["/", "/srv"]),
        "read_only_root": st.booleans(),
        "capabilities": some({}, {"drop": st.lists(st.sampled_from(sorted(CAPABILITIES)), max_size=2)}),
        "sysctls": st.dictionaries(st.sampled_from(["kernel.msgmax", "kernel.sem"]), texts, max_size=2),
        "ulimits": st.dictionaries(st.sampled_from(sorted(ULIMITS)), st.integers(0, (1 << 63) - 1), max_size=2),
        "shm": sizes,
        "hosts": st.dictionaries(names, st.ip_addresses().map(str), max_size=2),
    },
)
probes = st.one_of(
    some({"http": some({"port": st.just("main")}, {"status": st.lists(st.integers(100, 599), max_size=2)})}, {}),
    some({"tcp": st.fixed_dictionaries({"port": st.just("main")})}, {}),
    some({"exec": st.fixed_dictionaries({"command": st.lists(texts, min_size=1, max_size=3)})}, {}),
)
health = probes.flatmap(
    lambda probe: some(
        {}, {"interval": waits, "timeout": waits, "start": durations, "failures": st.integers(1, 9)}
    ).map(lambda rest: {**rest, **probe})
)
tasks = some(
    {"container": containers},
    {
        "env": st.dictionaries(st.from_regex(r"[A-LN-Z][A-Z_]{0,6}", fullmatch=True), texts, max_size=3),
        "resources": resources,
        "health": st.one_of(st.none(), health),
        "stop": some({}, {"signal": st.sampled_from(["TERM", "SIGINT", "KILL"]), "timeout": durations}),
        "logs": some({}, {"max_size": sizes, "max_files": st.integers(1, 9)}),
    },
)
updates = some(
    {},
    {
        "max_parallel": st.one_of(st.integers(1, 50), st.integers(1, 100).map(lambda n: f"{n}%")),
        "min_healthy": durations,
        "healthy_deadline": waits,
    },
)
restarts = some(
    {},
    {
        "attempts": st.integers(0, 50),
        "interval": waits,
        "delay": st.just("5s"),
        "backoff": st.sampled_from(["constant", "exponential"]),
        "mode": st.sampled_from(["replace", "fail"]),
    },
)
groups = some(
    {"networks": st.just("host"), "ports": st.sampled_from([{"main": "auto"}, {"main": 8080, "other": "auto"}])},
    {
        "count": st.integers(0, 10_000),
        "constraints": st.lists(conditions, max_size=2),
        "affinity": st.lists(affinities, max_size=2),
        "spread": st.lists(spreads, max_size=2),
        "distinct_hosts": st.booleans(),
        "strategy": st.sampled_from(["best_fit", "spread", "least_fragmentation"]),
        "update": st.one_of(st.none(), updates),
        "restart": restarts,
        "reschedule": some({}, {"attempts": st.one_of(st.just("unlimited"), st.integers(0, 9))}),
        "disconnect": some({}, {"replace_after": durations, "stop_on_node_after": st.one_of(st.just("never"), waits)}),
        "shutdown_delay": durations,
    },
).flatmap(lambda group: st.dictionaries(names, tasks, min_size=1, max_size=2).map(lambda t: {**group, "tasks": t}))
jobs = some(
    {"name": names, "groups": st.dictionaries(names, groups, min_size=1, max_size=2)},
    {
        "priority": st.integers(0, 100),
        "labels": st.dictionaries(names, names, max_size=2),
        "constraints": st.lists(conditions, max_size=2),
        "update": updates,
        "disruption": some({}, {"max_unavailable": st.integers(1, 9)}),
    },
)
