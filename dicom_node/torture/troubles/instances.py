"""Senders that repeat themselves, or give one UID to two images."""

from __future__ import annotations

import random
from dataclasses import dataclass

from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.torture import wire
from dicom_node.torture.scene import Scene
from dicom_node.torture.sender import offer
from dicom_node.torture.studies import with_other_pixels


@dataclass(frozen=True)
class Duplicates:
    """A whole study that was sent before comes again: nothing may change."""

    name: str = "duplicate instances"

    def impossible(self, scene: Scene) -> str:
        return ""

    def cause(self, scene: Scene, dice: random.Random) -> str:
        sent = scene.modality.sent or [scene.modality.send_one()]
        again = dice.choice(sent)
        left = offer(scene.node.port, again.instances, scene.account)
        return f"{len(again.instances) - len(left)} of {len(again.instances)} instances again"


@dataclass(frozen=True)
class Conflicts:
    """An instance that is kept comes again with other pixels: it must be refused."""

    name: str = "conflicting instances"

    def impossible(self, scene: Scene) -> str:
        return ""

    def cause(self, scene: Scene, dice: random.Random) -> str:
        sent = scene.modality.sent or [scene.modality.send_one()]
        instance = with_other_pixels(dice.choice(dice.choice(sent).instances))
        request = wire.associate([(instance.sop_class, str(ExplicitVRLittleEndian))], calling="CONFUSED")
        try:
            with wire.established(scene.node.port, request) as peer:
                peer.sendall(wire.store(instance.data_set, instance.sop_class, instance.sop_uid))
                status = wire.status_of(wire.read_pdu(peer)[1])
        except (OSError, ValueError) as e:
            return f"not answered ({type(e).__name__})"
        scene.account.refusable(self.name, status)
        return f"answered {status:04X}"
