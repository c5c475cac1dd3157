"""mindi-net: which words it takes, and what it makes of them; `ip` and the client record theirs."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.tools import require_tool
from tests.test_templates import text

NET = "/usr/sbin/mindi-net"
LEASE = {"interface": "eth0", "ip": "10.0.2.15", "mask": "24", "router": "10.0.2.2"}


@dataclass(frozen=True, slots=True)
class Place:
    """A folder in which the scripts find all that they read and write."""

    folder: Path

    @property
    def resolvers(self) -> str:
        """What /etc/resolv.conf holds."""
        file = self.folder / "resolv.conf"
        return file.read_text() if file.exists() else ""

    def run(
        self, script: str, *words: str, boot: str = "", lease: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a script of the image by BusyBox's shell, with boot words of our own."""
        (self.folder / "cmdline").write_text(f"{boot}\n")
        files = {
            "/proc/cmdline": self.folder / "cmdline",
            "/etc/resolv.conf": self.folder / "resolv.conf",
            "/sys/class/net": self.folder / "net",
            "STATE=/run/mindi": f"STATE={self.folder}",
            "/run/udhcpc": self.folder / "udhcpc",
        }
        library, source = text("/etc/mindi/lib.sh"), text(script)
        for theirs, ours in files.items():
            library = library.replace(theirs, str(ours))
            source = source.replace(theirs, str(ours))
        (self.folder / "lib.sh").write_text(library)
        source = source.replace("/etc/mindi/lib.sh", str(self.folder / "lib.sh"))
        # The shell's own functions go before applets and programs: nothing of this machine changes.
        recorder = 'ip() { echo "ip $*"; }\nudhcpc() { echo "udhcpc $*"; }\n'
        return subprocess.run(
            [require_tool("busybox", package="busybox-static"), "ash", "-s", *words],
            input=recorder + source,
            env={"PATH": "/usr/bin:/bin", **(lease or {})},
            text=True,
            capture_output=True,
        )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A machine with one network card."""
    (tmp_path / "net" / "eth0" / "device").mkdir(parents=True)
    (tmp_path / "net" / "lo").mkdir()
    return Place(tmp_path)


def test_an_address_a_mask_a_broadcast_address_and_a_gateway(place: Place) -> None:
    done = place.run(NET, "eth0:10.0.2.77:255.255.254.0:10.0.3.255:10.0.2.2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == [
        "ip addr add 10.0.2.77/255.255.254.0 broadcast 10.0.3.255 dev eth0",
        "ip route replace default via 10.0.2.2 dev eth0",
    ]


def test_broadcast_address_and_gateway_may_be_left_out(place: Place) -> None:
    done = place.run(NET, "eth0:10.0.2.77:24::")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "ip addr add 10.0.2.77/24 broadcast + dev eth0"


def test_what_a_card_had_goes_first(place: Place) -> None:
    done = place.run(NET, "eth0:10.0.2.77:24")
    assert done.stdout.splitlines()[0] == "ip -4 addr flush dev eth0"


@pytest.mark.parametrize("words", ["eth0:dhcp", "dhcp", "eth7:dhcp"])
def test_the_only_card_asks_for_a_lease(place: Place, words: str) -> None:
    done = place.run(NET, words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("udhcpc -i eth0 -n ")


def test_one_of_two_cards_is_not_guessed(place: Place) -> None:
    (place.folder / "net" / "eth1" / "device").mkdir(parents=True)
    done = place.run(NET, "eth7:dhcp")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "no network card eth7; there are: eth0 eth1" in done.stderr


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("eth0:10.0.2.256:24::", "'10.0.2.256' is no address"),
        ("eth0:10.0.2:24::", "'10.0.2' is no address"),
        ("eth0:10.0.2.1x:24::", "'10.0.2.1x' is no address"),
        ("eth0:fe80:24::", "'fe80' is no address"),
        ("eth0:10.0.2.15:33::", "'33' is no mask"),
        ("eth0:10.0.2.15:255.0.255.0::", "'255.0.255.0' is no mask"),
        ("eth0:10.0.2.15:24:all:", "'all' is no broadcast address"),
        ("eth0:10.0.2.15:24::10.0.2.2:more", "'10.0.2.2:more' is no gateway"),
    ],
    ids=[
        *("over 255", "three bytes", "a letter", "IPv6", "long mask", "mask with a hole"),
        *("no broadcast", "one part too many"),
    ],
)
def test_a_wrong_word_is_named_and_leaves_the_card_alone(
    place: Place, words: str, reason: str
) -> None:
    done = place.run(NET, words)
    assert done.returncode == 1
    assert f"mindi-net: {reason}" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    "words",
    [(), ("eth0",), ("eth0:dhcp", "10.0.2.3"), ("eth0:dhcp", "dns=10.0.2.3", "more"), (":dhcp",)],
    ids=["none", "a card alone", "no dns=", "too many", "no card"],
)
def test_other_words_show_the_usage(place: Place, words: tuple[str, ...]) -> None:
    done = place.run(NET, *words)
    assert done.returncode == 2
    assert done.stdout.startswith("usage: mindi-net")


@pytest.mark.parametrize(
    ("boot", "resolvers"),
    [
        ("dns=10.0.2.3", ["10.0.2.3"]),
        ("dns=10.0.2.3,10.0.2.4", ["10.0.2.3", "10.0.2.4"]),
        ("dns=10.0.2.3 quiet dns=10.0.2.4", ["10.0.2.4"]),
        ("xdns=10.0.2.3 mindi.dns=10.0.2.3 dnsx=10.0.2.3", []),
        ("", []),
    ],
    ids=["one", "two", "the last word wins", "whole words only", "none"],
)
def test_servers_of_the_boot_word(place: Place, boot: str, resolvers: list[str]) -> None:
    done = place.run(NET, "eth0:10.0.2.77:24::", boot=boot)
    assert done.returncode == 0, done.stderr
    assert place.resolvers == "".join(f"nameserver {server}\n" for server in resolvers)


def test_servers_named_by_hand_go_before_those_of_the_boot_word(place: Place) -> None:
    place.run(NET, "eth0:10.0.2.77:24::", "dns=10.0.2.9", boot="dns=10.0.2.3")
    assert place.resolvers == "nameserver 10.0.2.9\n"


@pytest.mark.parametrize("wrong", ["10.0.2.300", "example.org", "::1", "*", "10.0.2.3/24"])
def test_a_server_that_is_no_address_is_named(place: Place, wrong: str) -> None:
    done = place.run(NET, "eth0:10.0.2.77:24::", boot=f"dns={wrong},10.0.2.3")
    assert done.returncode == 1
    assert f"mindi-net: '{wrong}' is no name server's address" in done.stderr
    assert place.resolvers == "nameserver 10.0.2.3\n"


def test_a_server_that_is_no_address_costs_no_address(place: Place) -> None:
    done = place.run(NET, "eth0:10.0.2.77:24::", boot="dns=nonsense")
    assert "ip addr add 10.0.2.77/24" in done.stdout
    assert place.resolvers == ""


def bind(place: Place, **more: str) -> str:
    """Tell the client's script of a lease and return what /etc/resolv.conf then holds."""
    done = place.run("/etc/mindi/udhcpc", "bound", lease=LEASE | more)
    assert done.returncode == 0
    return place.resolvers


def test_servers_of_a_lease(place: Place) -> None:
    assert bind(place, dns="10.0.2.3 10.0.2.4", domain="example.org") == (
        "search example.org\nnameserver 10.0.2.3\nnameserver 10.0.2.4\n"
    )


def test_a_lease_leaves_the_servers_of_the_boot_word(place: Place) -> None:
    place.run(NET, "eth0:dhcp", boot="dns=10.0.2.9")
    assert bind(place, dns="10.0.2.3") == "nameserver 10.0.2.9\n"


def test_a_lease_replaces_servers_that_are_no_longer_named(place: Place) -> None:
    place.run(NET, "eth0:dhcp", "dns=10.0.2.9")
    place.run(NET, "eth0:dhcp")
    assert bind(place, dns="10.0.2.3") == "nameserver 10.0.2.3\n"
