"""Two nodes on one machine: network namespaces with their own addresses and host names, connected by a switch."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.distributed.conftest import ENVIRONMENT, ROOT

ADDRESSES = ("10.77.3.1", "10.77.3.2")
NAMES = ("node0", "node1")
_PORT = 29500


class NotHere(Exception):
    """Error of a machine that cannot simulate two nodes."""


class TwoNodes:
    """Context of two nodes, at whose end all of their processes are killed.

    The nodes share the machine's files.
    """

    def __init__(self, folder: Path) -> None:
        """Store the folder for the output of the processes."""
        self.folder = folder
        self._prefix = f"fgssl-test-{os.getpid()}"
        self._nodes, self._switch = [f"{self._prefix}-{name}" for name in NAMES], f"{self._prefix}-switch"
        self._hosts = folder / "hosts"
        self._started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "TwoNodes":
        if os.geteuid() != 0:
            raise NotHere("two nodes on one machine: network namespaces are root's to make")
        if shutil.which("ip") is None:
            raise NotHere("two nodes on one machine: no `ip` here (Debian and Ubuntu: apt-get install iproute2)")
        hosts = zip(("127.0.0.1", *ADDRESSES), ("localhost", *NAMES), strict=True)
        self._hosts.write_text("".join(f"{address} {name}\n" for address, name in hosts))
        try:
            self._connect()
        except subprocess.CalledProcessError as error:
            self.__exit__()
            raise NotHere(f"two nodes on one machine: {' '.join(error.cmd)}: {error.stderr.strip()}") from error
        return self

    def __exit__(self, *error: object) -> None:
        for process in self._started:
            process.kill()
            process.wait()
        for namespace in (*self._nodes, self._switch):
            subprocess.run(["ip", "netns", "delete", namespace], capture_output=True)

    def _connect(self) -> None:
        _ip("netns", "add", self._switch)
        _ip("-n", self._switch, "link", "add", "lan", "type", "bridge")
        _ip("-n", self._switch, "link", "set", "lan", "up")
        for node, name, address in zip(self._nodes, NAMES, ADDRESSES, strict=True):
            _ip("netns", "add", node)
            _ip("-n", node, "link", "set", "lo", "up")
            _ip("-n", node, "link", "add", "eth0", "type", "veth", "peer", "name", name, "netns", self._switch)
            _ip("-n", self._switch, "link", "set", name, "master", "lan", "up")
            _ip("-n", node, "address", "add", f"{address}/24", "dev", "eth0")
            _ip("-n", node, "link", "set", "eth0", "up")

    # ------------------------------------------------------------------------------------------ the link

    def cut(self) -> None:
        """Disconnect the second node silently, so that no packet arrives."""
        _ip("-n", self._switch, "link", "set", NAMES[1], "down")

    def mend(self) -> None:
        _ip("-n", self._switch, "link", "set", NAMES[1], "up")

    def sent_bytes(self, rank: int) -> int:
        """Return the number of bytes that a node has sent to the other."""
        (link,) = json.loads(_ip("-n", self._nodes[rank], "-json", "-statistics", "link", "show", "eth0"))
        return int(link["stats64"]["tx"]["bytes"])

    # ------------------------------------------------------------------------------------- the processes

    def train(self, arguments: Sequence[str]) -> "list[subprocess.Popen[bytes]]":
        """Start one process of `fgssl train` with `arguments` on each node, as one run."""
        started = []
        for rank, (node, name) in enumerate(zip(self._nodes, NAMES, strict=True)):
            numbers = {"RANK": rank, "WORLD_SIZE": 2, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1}
            variables = {key: str(value) for key, value in numbers.items()}
            variables |= {"MASTER_ADDR": NAMES[0], "MASTER_PORT": str(_PORT)}
            # `ip netns exec` gives the process a table of mounts of its own: the machine's /etc/hosts stays.
            become = f'mount --bind {self._hosts} /etc/hosts && hostname {name} && exec "$@"'
            on_node = ["ip", "netns", "exec", node, "unshare", "--uts", "sh", "-c", become, "sh"]
            command = [*on_node, sys.executable, "-m", "fgssl", "train", *arguments]
            with self.log(rank).open("wb") as log:
                started.append(subprocess.Popen(command, env=ENVIRONMENT | variables, cwd=ROOT, stdout=log, stderr=log))
        self._started += started
        return started

    def log(self, rank: int) -> Path:
        """Return the output of the newest process of that rank."""
        return self.folder / f"log-{rank}"


def _ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout
