"""Peers that take a place and give nothing: stalled, half, dripping, aborting."""

from __future__ import annotations

import random
import socket
import struct
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from pydicom.uid import MRImageStorage

from dicom_node.torture import wire
from dicom_node.torture.scene import Scene

_ELSEWHERE = "127.0.0.2"  # another address than the honest peers'


@dataclass(frozen=True)
class SlowLoris:
    """Many connections that send one byte now and then."""

    name: str = "slow-loris"

    def impossible(self, scene: Scene) -> str:
        return ""

    def cause(self, scene: Scene, dice: random.Random) -> str:
        count, seconds = dice.randint(20, 200), dice.uniform(2, 5)
        request = wire.associate(calling="LORIS")
        with ExitStack() as stack:
            peers = [p for _ in range(count) if (p := _connected(scene.node.port, stack))]
            until, at = time.monotonic() + seconds, 0
            while time.monotonic() < until and at < len(request):
                for peer in peers:
                    with suppress(OSError):
                        peer.sendall(request[at : at + 1])
                at += 1
                time.sleep(0.3)
        return f"{count} connections for {seconds:.0f} s"


@dataclass(frozen=True)
class HalfPdus:
    """Association requests and data that stop in the middle, and lengths that are never filled."""

    name: str = "half PDUs"

    def impossible(self, scene: Scene) -> str:
        return ""

    def cause(self, scene: Scene, dice: random.Random) -> str:
        count, seconds = dice.randint(5, 40), dice.uniform(1, 4)
        whole = wire.associate(calling="HALF")
        store = wire.store(bytes(5000), str(MRImageStorage), "1.2.3")
        with ExitStack() as stack:
            for _ in range(count):
                peer = _connected(scene.node.port, stack)
                if peer is None:
                    continue
                with suppress(OSError):
                    match dice.randrange(4):
                        case 0:
                            peer.sendall(whole[: dice.randrange(len(whole))])
                        case 1:
                            peer.sendall(struct.pack(">BxI", 0x01, 0xFFFFFFF0) + bytes(1000))
                        case 2:
                            peer.sendall(struct.pack(">BxI", 0x04, 0x7FFFFFFF))
                        case 3:
                            peer.sendall(whole + store[: dice.randrange(len(store))])
            time.sleep(seconds)
        return f"{count} connections for {seconds:.0f} s"


@dataclass(frozen=True)
class AbortStorm:
    """Associations that end in the middle of a data set: by A-ABORT, by FIN, by RST."""

    name: str = "abort storm"

    def impossible(self, scene: Scene) -> str:
        return ""

    def cause(self, scene: Scene, dice: random.Random) -> str:
        count, agreed = dice.randint(20, 80), 0
        request = wire.command(wire.C_STORE_RQ, sop_class=str(MRImageStorage), sop_instance="1.2.3")
        for _ in range(count):
            with suppress(OSError), wire.established(scene.node.port, source=_ELSEWHERE) as peer:
                agreed += 1
                peer.sendall(wire.p_data(request, command=True) + wire.p_data(bytes(20_000), last=False))
                match dice.randrange(3):
                    case 0:
                        peer.sendall(wire.pdu(0x07, bytes(4)))
                    case 1:
                        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return f"{agreed} associations"


def _connected(port: int, stack: ExitStack) -> socket.socket | None:
    try:
        return stack.enter_context(
            socket.create_connection(("127.0.0.1", port), timeout=5, source_address=(_ELSEWHERE, 0))
        )
    except OSError:
        return None
