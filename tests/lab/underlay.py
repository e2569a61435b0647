"""Hosts as network namespaces: one bridge in a namespace of its own, a veth pair to each host and one to us.

Names: `moor-<lab>-net` holds the bridge, `moor-<lab>-<host>` is a host. Our own end has the first address of the
lab's /24 and is where a controller outside of the hosts listens for agents.
"""

from __future__ import annotations

from hashlib import blake2s
from pathlib import Path

from tests.lab.processes import run

MTU = 1550  # so that an overlay keeps 1500


class Underlay:
    def __init__(self, lab: str) -> None:
        self.lab = lab
        self.namespace = f"moor-{lab}-net"
        third = 10 + blake2s(lab.encode(), digest_size=1).digest()[0] % 240
        self._prefix = f"10.99.{third}"
        self.gateway = f"{self._prefix}.1"
        tag = blake2s(lab.encode(), digest_size=2).hexdigest()
        self._ours = f"moor{tag}"

    def host_namespace(self, host: str) -> str:
        return f"moor-{self.lab}-{host}"

    def address(self, number: int) -> str:
        """Of the host with this number, from 1."""
        return f"{self._prefix}.{10 + number}"

    def up(self) -> None:
        """Make the bridge and our own end; what is there already is kept."""
        if not _exists(self.namespace):
            run("ip", "netns", "add", self.namespace)
            self._ip(self.namespace, "link", "set", "lo", "up")
            self._ip(self.namespace, "link", "add", "br0", "type", "bridge")
            self._ip(self.namespace, "link", "set", "br0", "mtu", str(MTU), "up")
        if not Path(f"/sys/class/net/{self._ours}").exists():
            run("ip", "link", "add", self._ours, "type", "veth", "peer", "name", "up0", "netns", self.namespace)
            self._ip(self.namespace, "link", "set", "up0", "master", "br0", "mtu", str(MTU), "up")
            run("ip", "addr", "add", f"{self.gateway}/24", "dev", self._ours)
            run("ip", "link", "set", self._ours, "mtu", str(MTU), "up")

    def add_host(self, host: str, number: int) -> None:
        namespace = self.host_namespace(host)
        if _exists(namespace):
            return
        run("ip", "netns", "add", namespace)
        self._ip(namespace, "link", "set", "lo", "up")
        port = self._port(host)
        self._ip(self.namespace, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        self._ip(self.namespace, "link", "set", port, "master", "br0", "mtu", str(MTU), "up")
        self._ip(namespace, "addr", "add", f"{self.address(number)}/24", "dev", "eth0")
        self._ip(namespace, "link", "set", "eth0", "mtu", str(MTU), "up")

    def cut(self, host: str) -> None:
        """Partition the host: nothing goes in or out."""
        self._ip(self.namespace, "link", "set", self._port(host), "down")

    def heal(self, host: str) -> None:
        self._ip(self.namespace, "link", "set", self._port(host), "up")

    def packets_to(self, host: str) -> int:
        """Sent towards the host so far: proves that a cut has hit."""
        path = f"/sys/class/net/{self._port(host)}/statistics/tx_packets"
        return int(run("ip", "netns", "exec", self.namespace, "cat", path).stdout)

    def down(self) -> None:
        """Remove every namespace and link of this lab."""
        run("ip", "link", "del", self._ours, check=False)
        for line in run("ip", "netns", "list").stdout.splitlines():
            name = line.split()[0] if line.strip() else ""
            if name.startswith(f"moor-{self.lab}-"):
                run("ip", "netns", "del", name, check=False)

    def _port(self, host: str) -> str:
        return f"to-{host}"[:15]

    def _ip(self, namespace: str, *words: str) -> None:
        run("ip", "-n", namespace, *words)


def _exists(namespace: str) -> bool:
    return Path(f"/run/netns/{namespace}").exists()
