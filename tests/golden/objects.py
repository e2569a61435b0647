"""One of each stored object, as the present release writes it; `make.py` turns them into files."""

from __future__ import annotations

import hashlib

from google.protobuf.message import Message

from moorage.model import JobVersion, load_documents, template_hashes
from moorage.wire import keys
from moorage.wire import spec_pb2 as spec
from moorage.wire import store_pb2 as store
from moorage.wire.compile import compile_group, compile_resources

UID = "4f8f6f0e-52f5-4f0c-9d5c-2a54a5b7a001"
NODE = "0d3b5b6e-7f51-4f57-8d1b-6a3a0c9be002"
TERM = "c0ffee00-0000-4000-8000-000000000003"
NOW = 1_760_000_000_000

JOB_YAML = """\
kind: Job
name: shop
priority: 60
labels: {team: web}
constraints:
  - {attribute: os.arch, operator: in, value: [amd64, arm64]}
affinity:
  - {attribute: label.disk, value: ssd, weight: -20}
update: {max_parallel: 25%, min_healthy: 5s, healthy_deadline: 2m}
disruption: {max_unavailable: 2}
groups:
  web:
    count: 3
    networks: host
    ports: {http: auto, admin: 9000}
    spread: [node, {attribute: label.rack, targets: {r1: 60, r2: 40}}]
    strategy: spread
    distinct_hosts: true
    restart: {attempts: 2, interval: 1m, delay: 500ms, backoff: constant, max_delay: 2s, mode: fail}
    reschedule: {attempts: 5, delay: 2s, max_delay: 1m}
    disconnect: {replace_after: 45s, stop_on_node_after: 1h}
    shutdown_delay: 2s
    update: {max_parallel: 2}
    tasks:
      server:
        container:
          image: "registry.example:5000/shop:3"
          pull: always
          entrypoint: []
          command: [serve, --port, $MOOR_PORT_http]
          user: "1000:1000"
          workdir: /srv
          read_only_root: true
          capabilities: {add: [NET_BIND_SERVICE], drop: [ALL]}
          sysctls: {kernel.msgmax: "1024"}
          ulimits: {nofile: 65536}
          shm: 32Mi
          hosts: {legacy: 192.0.2.7}
        env: {GREETING: "hello from $MOOR_ALLOC", EMPTY: ""}
        resources: {cpu: 250m, cpu_limit: 1, memory: 64Mi, memory_limit: 128Mi, disk: 500M, pids: 200}
        health:
          http: {port: http, path: /health, status: [200, 204]}
          interval: 3s
          timeout: 500ms
          start: 20s
          failures: 5
        stop: {signal: INT, timeout: 30s}
        logs: {max_size: 1Mi, max_files: 5}
      sidecar:
        container: {image: "busybox:1"}
        health: {exec: {command: [test, -e, /ok]}}
  plain:
    tasks:
      main: {container: {image: "busybox:1", command: [sleep, "1000"]}}
"""


def version() -> JobVersion:
    job = load_documents(JOB_YAML)[0].model
    return JobVersion(job, template_hashes(job), "alice", NOW)


def messages() -> dict[str, Message]:
    """File name -> message."""
    made = version()
    alloc = keys.AllocKey(UID, "web", 2, 1)
    return {
        "cluster": store.Cluster(
            id="5b1f3b1c-0000-4000-8000-000000000004",
            generation=2,
            terms=[store.Term(id=TERM, revision=17, controller="c1")],
            restore_suspected="agents have seen revision 900, this store ends at 400",
        ),
        "job": store.Job(
            uid=UID,
            version=7,
            restart_generation=1,
            deleting=True,
            created_ms=NOW,
            changed_ms=NOW + 5,
            principal="alice",
        ),
        "request": store.Request(kind="stop_alloc", target=alloc.id, principal="alice", created_ms=NOW),
        "token": store.Token(
            sha256=hashlib.sha256(b"secret").digest(),
            principal="alice",
            role="project",
            project="default",
            created_ms=NOW,
        ),
        "node_spec": store.NodeSpec(cordoned=True, drain=True, labels={"rack": "r1", "disk": "ssd"}, principal="alice"),
        "node_state": store.NodeState(
            phase=store.NodeState.LOST,
            lost_since_ms=NOW,
            epoch=12,
            ordinal=3,
            name="h1",
            term=TERM,
            message="no heartbeat for 15 s",
        ),
        "node_facts": store.NodeFacts(
            name="h1",
            cpu_millis=4000,
            memory_bytes=8 << 30,
            disk_bytes=100 << 30,
            attributes={"os.arch": "amd64", "cgroup.version": "2"},
            drivers=["docker"],
            agent_version="0.1.0",
            pids=32768,
            boot_id="boot",
            missing={"cgroup.pids": "limits of processes are not enforced"},
        ),
        "alloc": store.Alloc(
            project="default",
            job="shop",
            node=NODE,
            version=7,
            template_hash=made.template_hashes["web"],
            plan="p1",
            stop=True,
            stop_reason="scaled down",
            ports={"http": 20011, "admin": 9000},
            why="best fit of 3 nodes",
            created_ms=NOW,
            resources=compile_resources(made.spec, "web"),
            term=TERM,
            failures=2,
            stop_ms=NOW + 9,
        ),
        "plan": store.PlanMark(created_ms=NOW, term=TERM),
        "job_state": store.JobState(
            term=TERM,
            groups=[
                store.GroupState(
                    group="web",
                    wanted=3,
                    placed=2,
                    running=2,
                    healthy=1,
                    updated=2,
                    failed=1,
                    waiting=[store.Waiting(index=2, reason="3 nodes: memory short by 120 MiB", until_ms=NOW)],
                )
            ],
            events=[event()],
            settled_version=6,
            attempt_floors={"web": 4, "old": 2},
        ),
        "event": event(),
        "arrival": store.Arrival(controller="c1", at_ms=NOW),
        "controller": store.ControllerInfo(
            id="c1", api_url="http://192.0.2.1:7470", agent_address="192.0.2.1:7471", version="0.1.0"
        ),
        "leader": store.LeaderInfo(
            controller="c1", term=TERM, agent_address="192.0.2.1:7471", api_url="http://192.0.2.1:7470"
        ),
        "status": store.AllocStatus(
            alloc=alloc.id,
            phase=store.RUNNING,
            health=store.HEALTHY,
            message="running",
            tasks=[
                store.TaskStatus(
                    name="server",
                    state="running",
                    exit_code=-1,
                    oom_killed=True,
                    restarts=2,
                    message="restarted after exit code 3",
                    started_ms=NOW,
                    finished_ms=NOW - 1000,
                    container="f00d",
                    image_id="sha256:0",
                    health=store.UNHEALTHY,
                )
            ],
            serial=9,
            changed_ms=NOW,
            healthy_since_ms=NOW - 10,
            version=7,
            job_uid=UID,
            group="web",
            index=2,
            attempt=1,
            running_since_ms=NOW - 20,
        ),
    }


def event() -> store.Event:
    return store.Event(
        at_ms=NOW,
        kind="placed",
        message="web/2 on h1",
        principal="alice",
        project="default",
        object="job/shop",
        alloc=keys.alloc_id(UID, "web", 2, 1),
        count=4,
    )


def layout() -> dict[str, str]:
    """Where things are in the store, and what allocations are called."""
    alloc = keys.AllocKey(UID, "web", 2, 1)
    return {
        "cluster": keys.CLUSTER,
        "leader": keys.LEADER,
        "job": keys.job("default", "shop"),
        "job_version": keys.job_version(UID, 7),
        "job_state": keys.job_state(UID),
        "alloc": alloc.key,
        "alloc_id": alloc.id,
        "status": keys.status(NODE, alloc.id),
        "node_spec": keys.node_spec(NODE),
        "node_state": keys.node_state(NODE),
        "node_facts": keys.node_facts(NODE),
        "plan": keys.plan("p1"),
        "request": keys.request(UID, "r1"),
        "token": keys.token("t1"),
        "controller": keys.controller("c1"),
        "event": keys.event("e1"),
        "arrival": keys.arrival("a1"),
    }


def group_specs() -> dict[str, spec.GroupSpec]:
    made = version()
    return {group: compile_group(made, group) for group in made.spec.groups}
