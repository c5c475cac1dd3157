"""What a network needs is read off sysfs: stacked links, tunnels, cards and their PHYs."""

from __future__ import annotations

from pathlib import Path

import pytest

from initramfs.hostnetwork import network_needs
from tests.support.sysfs import Machine, bonded_server, empty_machine


def reasons(machine: Machine) -> dict[str, str]:
    """Return why each word is needed, by the word."""
    return {word: need.why for need in network_needs(machine.sys) for word in need.words}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return empty_machine(tmp_path)


def test_a_stack_of_links_is_read_link_by_link(tmp_path: Path) -> None:
    assert reasons(bonded_server(tmp_path)) == {
        "rtnl-link-bond": "network of this machine: bond0 is a link of the kind bond",
        "rtnl-link-bridge": "network of this machine: br0 is a link of the kind bridge",
        "rtnl-link-vlan": "network of this machine: br0.42 is a link of the kind vlan",
        "virtio_net": "network of this machine: enp0s4 is driven by virtio_net",
        "e1000e": "network of this machine: enp0s5 is driven by e1000e",
    }


@pytest.mark.parametrize("kind", ["bond", "bridge", "vlan"])
def test_without_a_link_its_module_is_not_needed(kind: str, tmp_path: Path) -> None:
    whole = reasons(bonded_server(tmp_path / "whole"))
    twin = reasons(bonded_server(tmp_path / "twin", without={kind}))

    assert set(whole) - set(twin) == {f"rtnl-link-{kind}"}


@pytest.mark.parametrize("kind", ["vxlan", "geneve", "wireguard", "macsec"])
def test_links_that_tell_their_kind(kind: str, machine: Machine) -> None:
    machine.interface("x0", kind=kind)

    assert list(reasons(machine)) == [f"rtnl-link-{kind}"]


@pytest.mark.parametrize(
    ("mark", "word"),
    [
        ("bonding/mode", "rtnl-link-bond"),
        ("bridge/stp_state", "rtnl-link-bridge"),
        ("tun_flags", "tun"),
        ("macvtap/tap5/uevent", "rtnl-link-macvtap"),
        ("ipvtap/tap5/uevent", "rtnl-link-ipvtap"),
    ],
)
def test_links_known_by_what_they_show(mark: str, word: str, machine: Machine) -> None:
    machine.interface("x0")
    machine.file(f"class/net/x0/{mark}")

    assert list(reasons(machine)) == [word]


def test_a_link_on_another_one_may_be_macvlan_or_ipvlan(machine: Machine) -> None:
    machine.interface("d0", number=13)
    machine.interface("x0", number=16, on=13, lower=["d0"])

    assert list(reasons(machine)) == ["rtnl-link-macvlan", "rtnl-link-ipvlan"]


def test_a_link_that_leads_others_is_a_team(machine: Machine) -> None:
    machine.interface("d0", number=13)
    machine.interface("x0", number=16, lower=["d0"])

    assert list(reasons(machine)) == ["rtnl-link-team"]


def test_a_leading_link_with_the_flag_of_a_master_is_a_vrf(machine: Machine) -> None:
    machine.interface("d0", number=13)
    machine.interface("x0", number=16, lower=["d0"], flags=0x480)

    assert list(reasons(machine)) == ["rtnl-link-vrf"]


def test_a_card_with_its_twin_below_it_is_no_team(machine: Machine) -> None:
    machine.nic("twin", "0000:00:05.0", "mlx5_core")
    machine.nic("eth0", "0000:00:04.0", "hv_netvsc")
    machine.link("class/net/eth0/lower_twin", "class/net/twin")

    assert list(reasons(machine)) == ["hv_netvsc", "mlx5_core"]


@pytest.mark.parametrize(
    ("arp_type", "word"),
    [(32, "ipoib"), (768, "ipip"), (769, "ip6tnl"), (776, "sit"), (778, "gre"), (823, "ip6gre")],
)
def test_tunnels_that_are_up(arp_type: int, word: str, machine: Machine) -> None:
    machine.interface("x0", arp_type=arp_type, flags=0x91)

    assert list(reasons(machine)) == [f"rtnl-link-{word}"]


def test_a_tunnel_that_is_down_is_there_for_nobody(machine: Machine) -> None:
    machine.interface("sit0", arp_type=776, flags=0x80)

    assert reasons(machine) == {}


@pytest.mark.parametrize("kind", ["", "wlan", "dsa"])
def test_other_links_need_nothing(kind: str, machine: Machine) -> None:
    machine.interface("x0", kind=kind, number=24, on=23)

    assert reasons(machine) == {}


def test_a_card_brings_the_driver_of_its_phy(machine: Machine) -> None:
    machine.nic("eth0", "0000:00:05.0", "r8169")
    bus = "pci0000:00/0000:00:05.0/mdio_bus/r8169-0-500"
    phy = machine.device(f"{bus}/r8169-0-500:00", driver="mdio_bus/RTL8211", module="realtek")
    machine.file(f"devices/{phy}/phy_id", "0x001cc916")
    machine.link("class/net/eth0/phydev", f"devices/{phy}")

    assert reasons(machine) == {
        "mdio:00000000000111001100100100010110": (
            "network of this machine: the PHY of eth0 is 0x001cc916"
        ),
        "r8169": "network of this machine: eth0 is driven by r8169",
        "realtek": "network of this machine: eth0 is driven by realtek",
    }


def test_a_machine_without_network_needs_nothing(machine: Machine) -> None:
    assert network_needs(machine.sys) == ()
