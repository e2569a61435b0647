"""What the engine is asked for, given what is to run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.drivers import labels
from agent.drivers.docker_spec import Owner, create_body, hosts_text, wants_hosts_file
from agent.drivers.protocol import Attachment, HostNetwork, Launch, Netns, TaskId
from moorage.wire.spec_pb2 import ContainerSpec, LogPolicy, Resources, TaskSpec

OWNER = Owner("c1", "n1", "moorage")
NETNS = Netns("/run/ns/a1")
MIB = 1 << 20


def launch(container: ContainerSpec | None = None, resources: Resources | None = None, **more: Any) -> Launch:
    spec = TaskSpec(
        name="server",
        container=container or ContainerSpec(image="shop:3"),
        resources=resources or Resources(),
        logs=LogPolicy(max_size_bytes=10 * MIB, max_files=3),
    )
    fields: dict[str, Any] = {
        "id": TaskId("a1", "server", 2),
        "spec": spec,
        "env": {"A": "1"},
        "command": ["serve"],
        "entrypoint": [],
        "labels": {labels.JOB: "shop"},
        "cgroup_parent": "/moorage/a1",
        "hostname": "web-2",
    }
    return Launch(**{**fields, **more})


def host_config(wish: Launch, attachment: Attachment = NETNS) -> dict[str, Any]:
    return dict(create_body(wish, attachment, OWNER)["HostConfig"])


def test_a_namespace_is_joined_through_the_runtime_and_none_is_the_safe_default() -> None:
    found = host_config(launch())
    assert (found["NetworkMode"], found["Runtime"]) == ("none", "moorage")


def test_the_nodes_own_network_uses_the_plain_runtime_and_the_nodes_own_name() -> None:
    body = create_body(launch(), HostNetwork(), OWNER)
    assert body["HostConfig"]["NetworkMode"] == "host"
    assert "Runtime" not in body["HostConfig"]
    assert "Hostname" not in body


def test_a_namespace_that_a_container_holds_is_joined_by_that_container() -> None:
    body = create_body(launch(), Netns("/run/ns/a1", holder="abc"), OWNER)
    assert body["HostConfig"]["NetworkMode"] == "container:abc"
    assert "Runtime" not in body["HostConfig"]
    assert "Hostname" not in body


def test_limits_are_the_kernels_and_memory_is_never_extended_by_swap() -> None:
    found = host_config(
        launch(
            resources=Resources(
                cpu_millis=250, cpu_limit_millis=1500, memory_bytes=64 * MIB, memory_limit_bytes=128 * MIB, pids=200
            )
        )
    )
    assert found["CpuShares"] == 256
    assert (found["CpuQuota"], found["CpuPeriod"]) == (150_000, 100_000)
    assert found["Memory"] == found["MemorySwap"] == 128 * MIB
    assert found["MemoryReservation"] == 64 * MIB
    assert found["PidsLimit"] == 200


def test_what_is_reserved_is_also_the_limit_where_none_is_given() -> None:
    found = host_config(launch(resources=Resources(cpu_millis=500, memory_bytes=64 * MIB)))
    assert found["CpuQuota"] == 50_000
    assert found["Memory"] == 64 * MIB
    assert "MemoryReservation" not in found


@pytest.mark.parametrize(("millis", "quota", "shares"), [(1, 1_000, 2), (1_000_000, 100_000_000, 262_144)])
def test_limits_stay_within_what_the_kernel_takes(millis: int, quota: int, shares: int) -> None:
    found = host_config(launch(resources=Resources(cpu_millis=millis)))
    assert (found["CpuQuota"], found["CpuShares"]) == (quota, shares)


def test_restarts_are_the_agents_and_logs_are_rotated() -> None:
    found = host_config(launch())
    assert found["RestartPolicy"] == {"Name": "no"}
    assert found["LogConfig"] == {"Type": "json-file", "Config": {"max-size": str(10 * MIB), "max-file": "3"}}
    assert found["CgroupParent"] == "/moorage/a1"


@pytest.mark.parametrize(
    ("given_on_purpose", "entrypoint", "expected"),
    [(False, [], None), (True, [], [""]), (True, ["/init"], ["/init"])],
)
def test_an_empty_entrypoint_differs_from_none(
    given_on_purpose: bool, entrypoint: list[str], expected: list[str] | None
) -> None:
    wish = launch(ContainerSpec(image="shop:3", entrypoint_set=given_on_purpose), entrypoint=entrypoint)
    assert create_body(wish, NETNS, OWNER).get("Entrypoint") == expected


def test_without_a_command_the_images_own_is_run() -> None:
    assert "Cmd" not in create_body(launch(command=[]), NETNS, OWNER)


def test_labels_say_whose_it_is_whatever_the_launch_says() -> None:
    found = create_body(launch(labels={labels.NODE: "forged", labels.JOB: "shop"}), NETNS, OWNER)["Labels"]
    assert found[labels.NODE] == "n1"
    assert found[labels.CLUSTER] == "c1"
    assert (found[labels.ALLOC], found[labels.TASK], found[labels.RUN]) == ("a1", "server", "2")
    assert found[labels.JOB] == "shop"
    assert found[labels.CGROUP] == "/moorage/a1"


def test_equal_launches_have_equal_marks_and_different_ones_do_not() -> None:
    def mark(wish: Launch) -> str:
        return str(create_body(wish, NETNS, OWNER)["Labels"][labels.LAUNCH])

    assert mark(launch()) == mark(launch())
    assert mark(launch()) != mark(replace(launch(), env={"A": "2"}))


def test_names_of_hosts_go_into_a_file_of_ours_or_to_the_engine_on_the_nodes_network() -> None:
    wish = launch(ContainerSpec(image="shop:3", hosts={"legacy": "192.0.2.7"}))
    assert "192.0.2.7\tlegacy\n" in hosts_text(wish)
    assert "127.0.1.1\tweb-2\n" in hosts_text(wish)
    assert create_body(wish, NETNS, OWNER, "/run/h")["HostConfig"]["Mounts"] == [
        {"Type": "bind", "Source": "/run/h", "Target": "/etc/hosts", "ReadOnly": True}
    ]
    assert "ExtraHosts" not in host_config(wish)
    assert host_config(wish, HostNetwork())["ExtraHosts"] == ["legacy:192.0.2.7"]


def test_a_hosts_file_that_the_job_mounts_itself_is_left_alone() -> None:
    assert wants_hosts_file(launch(), NETNS)
    assert not wants_hosts_file(launch(), HostNetwork())
    assert not wants_hosts_file(launch(mounts=[("/srv/hosts", "/etc/hosts", True)]), NETNS)


def test_isolation_is_passed_on() -> None:
    container = ContainerSpec(
        image="shop:3",
        user="1000:1000",
        workdir="/srv",
        read_only_root=True,
        capabilities_add=["NET_BIND_SERVICE"],
        capabilities_drop=["ALL"],
        ulimits={"nofile": 65536},
        sysctls={"net.core.somaxconn": "1024"},
        shm_bytes=64 * MIB,
    )
    body = create_body(launch(container), NETNS, OWNER)
    assert (body["User"], body["WorkingDir"]) == ("1000:1000", "/srv")
    assert (
        body["HostConfig"]
        | {
            "ReadonlyRootfs": True,
            "CapAdd": ["NET_BIND_SERVICE"],
            "CapDrop": ["ALL"],
            "Ulimits": [{"Name": "nofile", "Soft": 65536, "Hard": 65536}],
            "Sysctls": {"net.core.somaxconn": "1024"},
            "ShmSize": 64 * MIB,
        }
        == body["HostConfig"]
    )
