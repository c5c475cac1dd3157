"""What the network of a machine asks of a kernel: stacked links, tunnels, cards and their PHYs.

A link's kind is what its driver gives as DEVTYPE, or what it shows in /sys/class/net
(Documentation/ABI/testing/sysfs-class-net); the kernel finds drivers by it under the alias
"rtnl-link-KIND". Links between guests (veth, ifb, dummy) lead nowhere and are passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from initramfs.hostneeds import (
    Device,
    HostNeed,
    attribute,
    driver_needs,
    first_of_each,
    names_in,
    uevent_value,
)

_AREA = "network of this machine"

_DEVICE_TYPES = frozenset(
    {"bond", "bridge", "vlan", "vxlan", "geneve", "wireguard", "macsec", "hsr", "ppp"}
)

# Folders and files that links of a kind have, some of which give no DEVTYPE.
_MARKS = (
    ("bonding", "bond"),
    ("bridge", "bridge"),
    ("macvtap", "macvtap"),
    ("ipvtap", "ipvtap"),
    ("tun_flags", "tun"),
)

# By ARP type (linux/if_arp.h). Most have one such link from the start that nobody uses.
_TUNNELS = {
    "32": "ipoib",
    "768": "ipip",
    "769": "ip6tnl",
    "776": "sit",
    "778": "gre",
    "823": "ip6gre",
}
_IFF_UP, _IFF_MASTER = 0x1, 0x400


def network_needs(sys: Path) -> tuple[HostNeed, ...]:
    """Return what the links below ``sys``/class/net need, the cards' own drivers last.

    Each is named once, with the first link that needs it.
    """
    links = [Device(name, sys / "class/net" / name) for name in names_in(sys / "class/net")]
    found = [need for link in links for need in _link_needs(link)]
    cards = [link for link in links if (link.folder / "device").exists()]
    for card in cards:
        found += _phy_needs(card)
    phys = [Device(card.name, card.folder / "phydev") for card in cards]
    found += driver_needs(sys, (*cards, *phys), _AREA)
    return first_of_each(found)


def _link_needs(link: Device) -> Iterator[HostNeed]:
    folder = link.folder
    names = names_in(folder)
    device_type = uevent_value(folder, "DEVTYPE")
    kinds = [device_type] if device_type in _DEVICE_TYPES else []
    kinds += [kind for mark, kind in _MARKS if mark in names]
    flags = _number(attribute(folder / "flags"))
    tunnel = _TUNNELS.get(attribute(folder / "type"))
    if tunnel is not None and flags & _IFF_UP:
        kinds.append(tunnel)
    for kind in dict.fromkeys(kinds):
        # tun has no alias of this form.
        words = ("tun",) if kind == "tun" else (f"rtnl-link-{kind}",)
        yield HostNeed(words, f"{_AREA}: {link.name} is a link of the kind {kind}")
    # A card may have its own twin below it (hv_netvsc, net_failover).
    is_unknown = not kinds and not device_type and "device" not in names
    if is_unknown and any(name.startswith("lower_") for name in names):
        yield _stacked_need(link, flags)


def _stacked_need(link: Device, flags: int) -> HostNeed:
    """Return what a link may need that lies on others and does not tell its kind."""
    if attribute(link.folder / "iflink") != attribute(link.folder / "ifindex"):
        kinds: tuple[str, ...] = ("macvlan", "ipvlan")
    else:
        kinds = ("vrf",) if flags & _IFF_MASTER else ("team",)
    why = f"{_AREA}: {link.name} lies on other links, maybe of the kind {' or '.join(kinds)}"
    return HostNeed(tuple(f"rtnl-link-{kind}" for kind in kinds), why, is_of_layout=False)


def _phy_needs(card: Device) -> Iterator[HostNeed]:
    """Yield what drives the card's PHY, by the alias that the kernel asks for (mdio_device_id)."""
    number = _number(attribute(card.folder / "phydev/phy_id"))
    if number:
        why = f"{_AREA}: the PHY of {card.name} is {number:#010x}"
        yield HostNeed((f"mdio:{number:032b}",), why, is_of_layout=False)


def _number(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError:
        return 0
