"""Data sets and PDUs made to break a receiver."""

from __future__ import annotations

import random
import socket
from contextlib import suppress
from dataclasses import dataclass, replace

from dicom_node.torture import wire
from dicom_node.torture.hostile import CONTEXTS, attacks, messages, mutated
from dicom_node.torture.scene import Scene
from dicom_node.torture.sender import offer
from dicom_node.torture.studies import stray


@dataclass(frozen=True)
class HostileDataSets:
    """Bombs, nesting, truncation, paths for UIDs, classes and UIDs that do not agree: all to be refused."""

    name: str = "hostile data sets"

    def impossible(self, scene: Scene) -> str:
        return ""

    def cause(self, scene: Scene, dice: random.Random) -> str:
        against = attacks(stray(scene.seed, next(scene.numbers)))
        answered = 0
        for attack in dice.sample(against, len(against)):
            with suppress(OSError, ValueError):
                request = wire.associate(CONTEXTS, calling="HOSTILE")
                with wire.established(scene.node.port, request) as peer:
                    more = {"context": attack.context}
                    peer.sendall(wire.store(attack.data_set, attack.sop_class, attack.sop_uid, **more))
                    scene.account.refusable(attack.name, wire.status_of(wire.read_pdu(peer)[1]))
                    answered += 1
        return f"{answered} of {len(against)} answered, the others cut off"


@dataclass(frozen=True)
class MutatedDataSets:
    """Broken at random: each is refused, or it is kept as it came. What is acknowledged counts as such."""

    name: str = "mutated data sets"

    def impossible(self, scene: Scene) -> str:
        return ""

    def cause(self, scene: Scene, dice: random.Random) -> str:
        count, taken = dice.randint(5, 30), 0
        for _ in range(count):
            good = stray(scene.seed, next(scene.numbers))
            broken = replace(good, data_set=mutated(good.data_set, dice), study_uid="")
            taken += not offer(scene.node.port, [broken], scene.account)
        return f"{taken} of {count} were still readable and taken"


@dataclass(frozen=True)
class MutatedPdus:
    """Association requests and messages broken at random."""

    name: str = "mutated PDUs"

    def impossible(self, scene: Scene) -> str:
        return ""

    def cause(self, scene: Scene, dice: random.Random) -> str:
        count = dice.randint(10, 60)
        for _ in range(count):
            with suppress(OSError):
                if dice.random() < 0.5:
                    with socket.create_connection(("127.0.0.1", scene.node.port), timeout=5) as peer:
                        peer.sendall(mutated(wire.associate(calling="FUZZ"), dice))
                else:
                    with wire.established(scene.node.port) as peer:
                        peer.sendall(mutated(dice.choice(messages()), dice))
        return f"{count} streams"
