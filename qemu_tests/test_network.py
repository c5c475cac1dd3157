"""The boot words of the network and the ssh server, on QEMU's own network.

That network gives 10.0.2.15, the gateway 10.0.2.2 and the resolver 10.0.2.3; at the gateway's
address a guest reaches what listens on this host's loopback.
"""

from __future__ import annotations

import enum
import os
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from initramfs.errors import ToolError
from mindi.boot import READY_S
from mindi.qemu import Accelerator, Machine, Medium, Network
from mindi.vm import Vm
from qemu_tests.images import Images
from qemu_tests.shell import ask, open_shell
from restore.contract import LOG
from tests.support.tools import require_tool

SERVED = "fetched from the host"
SSH_TIMEOUT_S = 60
# Of "secret", as crypt(5) has it for SHA-512.
SECRET_HASH = "$6$rescue$" + (
    "bRSC8rEFrk2WlkuVkRUpCf91chhh4CRDf4ikIom971oiVOoK8SDgg9F4r3mhVjGHbyrXUA6di2nHiA6YgfPmj/"
)


class Boot(enum.Enum):
    """What a machine is told about its network."""

    DHCP = ("ipconf=eth0:dhcp",)
    STATIC = (
        "ipconf=eth0:10.0.2.77:255.255.255.0::10.0.2.2",
        "dns=10.0.2.3,nonsense,10.0.2.4",
        "xdns=10.9.9.9",
    )
    SILENT = ("xipconf=eth0:dhcp",)


@dataclass(frozen=True, slots=True)
class Keys:
    """Private keys: one whose public half is in the image, and one that the image knows not of."""

    known: Path
    unknown: Path


def with_boot(boot: Boot) -> pytest.MarkDecorator:
    """Have the machine of a test booted so; tests of one boot share one machine."""
    return pytest.mark.parametrize("guest", [boot], indirect=True, ids=[boot.name.lower()])


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """Keys made for these tests."""
    folder = tmp_path_factory.mktemp("keys")
    keygen = require_tool("ssh-keygen", package="openssh-client")
    for name in ("known", "unknown"):
        argv = [str(keygen), "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(argv, check=True)
    return Keys(folder / "known", folder / "unknown")


@pytest.fixture(scope="module")
def keyed(images: Images, keys: Keys) -> Path:
    """An initrd with an ssh server that is open to one key."""
    options = ("--output", "initramfs", "--kernel", "failsafe", "--generic")
    # A process of its own makes keys of its own.
    name = f"keyed-{os.getpid()}.img"
    return images.build(name, *options, "--ssh-key", f"{keys.known}.pub")


@pytest.fixture(scope="module")
def guest(
    request: pytest.FixtureRequest,
    images: Images,
    accelerator: Accelerator,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Vm]:
    """A machine with a network card, booted as ``with_boot`` says; its shell is open."""
    boot: Boot = request.param
    # The image without a key has no ssh server.
    initrd = None if boot is Boot.SILENT else request.getfixturevalue("keyed")
    machine = Machine(
        image=images.direct(initrd=initrd),
        medium=Medium.KERNEL,
        memory_mib=512,
        network=Network(ssh_port=0),
        words=boot.value,
        logs=tmp_path_factory.mktemp(boot.name.lower()),
    )
    with Vm(machine, accelerator=accelerator) as vm:
        vm.wait_ready(READY_S)
        open_shell(vm)
        yield vm


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """What a guest fetches from a server on this host's loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(SERVED.encode())

        def log_message(self, *words: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://10.0.2.2:{server.server_port}/"
        server.shutdown()


def fetches(vm: Vm, url: str) -> bool:
    """Tell whether the guest gets what the server has; else it must be told that it cannot."""
    answer = ask(vm, f"wget -q -O - -T 5 -t 1 {url}")
    assert (answer.status == 0) == (answer.text == SERVED), answer
    return answer.status == 0


def configure(vm: Vm, words: str) -> int:
    """Have the guest's only card configured by hand and return the status."""
    return ask(vm, f"mindi-net eth0:{words} dns=10.0.2.3").status


def ssh(vm: Vm, *words: str, askpass: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the ssh client of this host, which knows nothing of its user's settings and keys."""
    client = require_tool("ssh", package="openssh-client")
    options = {
        "BatchMode": "no" if askpass else "yes",
        "IdentityAgent": "none",
        "IdentitiesOnly": "yes",
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": "/dev/null",
        "LogLevel": "ERROR",
        "NumberOfPasswordPrompts": "1",
    }
    argv = [str(client), "-F", "none", "-p", str(vm.ssh_port())]
    argv += [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    environment = {"PATH": os.defpath}
    if askpass is not None:
        environment |= {"SSH_ASKPASS": str(askpass), "SSH_ASKPASS_REQUIRE": "force"}
    return subprocess.run(
        [*argv, *words],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SSH_TIMEOUT_S,
    )


def with_password(vm: Vm, folder: Path) -> subprocess.CompletedProcess[str]:
    """Give root of the guest a password and log in with it, to ask for the user's number."""
    changed = ask(vm, f"sed -i 's|^root:[^:]*:|root:{SECRET_HASH}:|' /etc/shadow")
    assert changed.status == 0, changed
    askpass = folder / "askpass"
    askpass.write_text("#!/bin/sh\necho secret\n")
    askpass.chmod(0o700)
    methods = "PreferredAuthentications=password,keyboard-interactive,none"
    return ssh(vm, "-o", methods, "root@127.0.0.1", "id -u", askpass=askpass)


def restart_sshd(vm: Vm, options: str = "") -> None:
    """Start the guest's ssh server again, with other options."""
    stop = "kill $(cat /run/sshd.pid); while [ -e /run/sshd.pid ]; do sleep 0.1; done"
    started = ask(vm, f"{stop}; /usr/sbin/sshd {options}")
    assert started.status == 0, started


@with_boot(Boot.DHCP)
def test_a_lease_gives_address_route_and_resolver(guest: Vm) -> None:
    assert " inet 10.0.2.15/24 brd 10.0.2.255 " in ask(guest, "ip -4 addr").text
    assert "default via 10.0.2.2 dev " in ask(guest, "ip -4 route").text
    assert ask(guest, "cat /etc/resolv.conf").text.splitlines() == ["nameserver 10.0.2.3"]


@with_boot(Boot.DHCP)
def test_an_address_that_a_router_announces_stays(guest: Vm) -> None:
    # The kernel takes it by itself (RFC 4862); QEMU announces fec0::/64.
    announced = "until ip -6 addr | grep -q 'inet6 fec0:'; do sleep 0.2; done"
    assert ask(guest, f'timeout 10 sh -c "{announced}"').status == 0


@with_boot(Boot.DHCP)
def test_a_lease_reaches_a_server(guest: Vm, url: str) -> None:
    assert fetches(guest, url)


@with_boot(Boot.DHCP)
def test_the_key_of_the_image_logs_in(guest: Vm, keys: Keys) -> None:
    command = "id -u; uname -n; mindi-help >/dev/null && exit 42"
    done = ssh(guest, "-i", str(keys.known), "root@127.0.0.1", command)
    assert (done.stdout.splitlines(), done.returncode) == (["0", "mindi"], 42), done.stderr


@with_boot(Boot.DHCP)
def test_another_key_is_refused(guest: Vm, keys: Keys) -> None:
    done = ssh(guest, "-i", str(keys.unknown), "root@127.0.0.1", "id")
    assert done.returncode == 255
    assert "Permission denied (publickey)" in done.stderr
    assert done.stdout == ""


@with_boot(Boot.DHCP)
def test_a_password_is_refused(guest: Vm, tmp_path: Path) -> None:
    refused = with_password(guest, tmp_path)
    assert refused.returncode == 255
    # What the server would take instead.
    assert "Permission denied (publickey)" in refused.stderr
    assert refused.stdout == ""


@with_boot(Boot.DHCP)
def test_another_server_would_take_that_password(guest: Vm, tmp_path: Path) -> None:
    restart_sshd(guest, "-o PasswordAuthentication=yes -o PermitRootLogin=yes")
    try:
        taken = with_password(guest, tmp_path)
        assert (taken.stdout.strip(), taken.returncode) == ("0", 0), taken.stderr
    finally:
        restart_sshd(guest)


@with_boot(Boot.STATIC)
def test_the_words_give_address_route_and_resolvers(guest: Vm) -> None:
    assert " inet 10.0.2.77/24 brd 10.0.2.255 " in ask(guest, "ip -4 addr").text
    assert "default via 10.0.2.2 dev " in ask(guest, "ip -4 route").text
    assert ask(guest, "cat /etc/resolv.conf").text.splitlines() == [
        *("nameserver 10.0.2.3", "nameserver 10.0.2.4"),
    ]


@with_boot(Boot.STATIC)
def test_a_static_address_reaches_a_server(guest: Vm, url: str) -> None:
    assert fetches(guest, url)


@with_boot(Boot.STATIC)
def test_a_resolver_that_is_no_address_is_in_the_log(guest: Vm) -> None:
    assert "'nonsense' is no name server's address" in ask(guest, f"cat {LOG}").text
    assert "mindi: network: failed" in guest.serial_text()


@with_boot(Boot.STATIC)
@pytest.mark.parametrize(
    "words",
    ["10.0.3.77:255.255.255.0::", "10.0.2.77:255.255.255.252::"],
    ids=["address", "mask"],
)
def test_what_is_wrong_reaches_nothing(guest: Vm, url: str, words: str) -> None:
    assert configure(guest, words) == 0
    assert not fetches(guest, url)
    assert configure(guest, "10.0.2.77:255.255.255.0::") == 0
    assert fetches(guest, url)


@with_boot(Boot.STATIC)
def test_a_gateway_out_of_reach_is_an_error(guest: Vm) -> None:
    assert configure(guest, "10.0.2.77:255.255.255.252::10.0.2.2") == 1
    assert configure(guest, "10.0.2.77:255.255.255.0::10.0.2.2") == 0


@with_boot(Boot.SILENT)
def test_without_words_there_is_no_network(guest: Vm, url: str) -> None:
    assert "state UP" not in ask(guest, "ip link").text
    assert "10.0.2." not in ask(guest, "ip -4 addr; cat /etc/resolv.conf").text
    assert not fetches(guest, url)
    # The card is there and works, only nobody asked for it.
    asked = ask(guest, "mindi-net dhcp")
    assert asked.status == 0, asked
    assert fetches(guest, url)


@with_boot(Boot.SILENT)
def test_without_a_key_there_is_no_ssh_server(guest: Vm, keys: Keys) -> None:
    assert ask(guest, "mindi-net dhcp").status == 0
    done = ssh(guest, "-i", str(keys.known), "root@127.0.0.1", "id")
    assert done.returncode == 255
    assert "Permission denied" not in done.stderr


def test_without_a_card_no_port_leads_to_the_machine(
    accelerator: Accelerator, tmp_path: Path
) -> None:
    disk = tmp_path / "blank.img"
    disk.write_bytes(bytes(1 << 20))
    machine = Machine(image=None, disks=(disk,), network=None, logs=tmp_path)
    refused = pytest.raises(ToolError, match="no port of this host")
    with Vm(machine, accelerator=accelerator) as vm, refused:
        vm.ssh_port()
