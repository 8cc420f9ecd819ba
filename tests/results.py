"""Result sets that wait for delivery, on a store and spool of their own; tries are run by hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydicom import Dataset
from pynetdicom.sop_class import ParametricMapStorage

from dicom_node.config import Destination, NodeRules, OutputRules, Settings
from dicom_node.deliver import Courier
from dicom_node.demo import free_port
from dicom_node.encode import encode_study
from dicom_node.intake import Incoming, Intake
from dicom_node.listener import Listener
from dicom_node.recipe import Table
from dicom_node.safekeeping import Safekeeper
from dicom_node.spool import Spool, sha256_of
from dicom_node.store import Delivery, Made, Received, Store, migrate
from dicom_node.study import CaseKey, State
from dicom_node.workflows import Worker
from tests import builders, phantom
from tests.doors import ROOT, Clock, as_file, mr_slice, sqlite_in


class Office:
    """A node's delivering half. ``clock`` passes when told to."""

    def __init__(self, folder: Path, *destinations: Destination, **node: object) -> None:
        self.folder = folder
        self.clock = Clock()
        self.anatomy = False
        self.node = NodeRules(
            **{"port": free_port(), "acse_timeout_s": 10.0, "dimse_timeout_s": 20.0, **node}
        )
        self.settings = Settings(destination=destinations, node=self.node)
        self.spool = Spool(folder / "spool")
        self.open()

    def open(self) -> None:
        """Open the store and its users anew, as after a restart."""
        self.store = Store(sqlite_in(self.folder), self.clock)
        migrate(self.store)
        self.courier = Courier(self.settings, self.store, self.spool)
        self.safekeeper = Safekeeper(self.node, self.settings.peer, self.spool, self.store)

    def result_set(self, number: int = 1) -> list[str]:
        """Three MR slices and one other object, on their way to every destination; their SOP UIDs."""
        study = f"{ROOT}.{100 + number}"
        received = Received(
            f"{study}.9", "1.2.840.10008.5.1.4.1.1.4", f"{study}.8", study, "1.2.840.10008.1.2.1", "", "",
            f"P{number}", "", f"in/{number}", "0" * 64, 1, "test",
        )  # fmt: skip
        self.store.record(received)
        (key,) = (r.key for r in self.store.revisions_in(State.RECEIVING))
        self.store.complete(key, "test")
        self.store.start(key)
        folder = self.spool.result_folder(key.case, key.revision, 1) / "dicom"
        folder.mkdir()
        made = []
        for n in range(4):
            attributes = {"SOPClassUID": ParametricMapStorage} if n == 3 else {}
            uids = {"StudyInstanceUID": study, "SeriesInstanceUID": f"{study}.{1 + n // 3}"}
            ds = mr_slice(n + 1, **attributes, **uids, SOPInstanceUID=f"{study}.1.{n}")
            path = folder / f"{n:04d}.dcm"
            path.write_bytes(as_file(ds))
            kind = "PM" if n == 3 else "MR"
            made.append(
                Made(self.spool.relative(path), kind, f"{kind}_{n}", ds.SOPInstanceUID, ds.SOPClassUID, "")
            )
        self.encoded(key, made, f"digest {number}")
        self.clock.now += 1
        return [m.sop_uid for m in made]

    def real_results(self, anatomy: bool = False) -> dict[str, str]:
        """The real objects of a phantom, HGG with its MR series, on their way; SOP UIDs by name.

        All are on the maps' grid: no pictures.
        """
        self.anatomy = anatomy
        self.receive(1)
        (key,) = (r.key for r in self.store.revisions_in(State.RECEIVING))
        self.store.complete(key, "test")
        return self.resolve(key)

    def receive(self, number: int) -> None:
        """One more instance of the phantom's study."""
        uid = f"{ROOT}.9.{number}"
        self.store.record(
            Received(
                uid, "1.2.840.10008.5.1.4.1.1.4", f"{ROOT}.8", phantom.STUDY, "1.2.840.10008.1.2.1",
                "", "", "PH-0042", "", f"in/{number}", "0" * 64, 1, "test",
            )
        )  # fmt: skip

    def resolve(self, key: CaseKey) -> dict[str, str]:
        """The phantom's objects once more, for a revision that is queued."""
        source = phantom.source_study()
        attempt = self.store.start(key).attempt
        folder = self.spool.result_folder(key.case, key.revision, attempt) / "dicom"
        folder.mkdir()
        made = []
        rules = OutputRules(mr_maps=("HGG",), fused_maps=(), summary=False)
        objects = encode_study(phantom.super_resolved(source), source, rules)
        for n, o in enumerate(o for o in objects if self.anatomy or "anatomy" not in o.name):
            path = folder / f"{n:04d}-{o.name}.dcm"
            o.dataset.save_as(path, enforce_file_format=True)
            uids = (str(o.dataset.SOPInstanceUID), str(o.dataset.SOPClassUID))
            made.append(Made(self.spool.relative(path), o.kind, o.name, *uids, sha256_of(path)))
        self.encoded(key, made)
        return {m.name: m.sop_uid for m in made}

    def encoded(self, key: CaseKey, made: list[Made], digest: str = "digest") -> None:
        """As a worker does, by the destinations that are configured."""
        waiting = [d.name for d in self.settings.destination if d.wait_for_release]
        names = [d.name for d in self.settings.destination]
        self.store.encoded(key, made, "", digest, names, held_for_release=waiting)

    def deliveries(self) -> list[Delivery]:
        """All deliveries, oldest first."""
        cases = self.store.status()["cases"]
        ids = [d["delivery"] for c in cases for r in c["revisions"] for d in r["deliveries"]]
        return sorted((self.store.delivery(i) for i in ids), key=lambda d: d.started_at)

    def delivery(self) -> Delivery:
        """The only one."""
        (delivery,) = self.deliveries()
        return delivery

    def work(self) -> list[str]:
        """Try everything that is due, once; the ids tried."""
        due = [d.delivery_id for d in self.store.deliveries_due()]
        for delivery_id in due:
            self.courier.try_delivery(delivery_id)
        return due

    def work_on(self, rounds: int = 8) -> Delivery:
        """Try what is due at this moment again and again; the only delivery afterwards."""
        for _ in range(rounds):
            if not self.work():
                break
        return self.delivery()

    def statuses(self) -> dict[str, str]:
        """What the destination answered for each object, by SOP Instance UID."""
        t = self.store.engine.connect().exec_driver_sql(
            "SELECT sop_uid, status FROM taken JOIN results USING (path)"
        )
        return {row[0]: row[1] for row in t}

    @contextmanager
    def listening(self) -> Iterator[Listener]:
        """The listener's half: takes reports of destinations, and requests of peers."""
        listener = Listener(self.node, Intake(self.spool, self.store), safekeeper=self.safekeeper)
        listener.start()
        try:
            yield listener
        finally:
            listener.stop(drain_s=1)


def worked_on(folder: Path, instances: list[Dataset], *destinations: Destination, **tables: Table) -> Office:
    """A node has received ``instances`` and worked on them; deliveries, if any, are due.

    ``tables`` of the configuration in place of the defaults.
    """
    office, key = queued(folder, instances, *destinations, **tables)
    Worker(office.settings, office.store, office.spool).resolve(key)
    return office


def queued(
    folder: Path, instances: list[Dataset], *destinations: Destination, **tables: Table
) -> tuple[Office, CaseKey]:
    """A node has received ``instances``; its worker has not come to them yet."""
    office = Office(folder, *destinations)
    office.settings = office.settings.model_copy(update=tables)
    intake = Intake(office.spool, office.store)
    for path in builders.write(instances, folder / "study"):
        intake.accept(Incoming(path.read_bytes()), source="test")
    (key,) = (r.key for r in office.store.revisions_in(State.RECEIVING))
    office.store.complete(key, "test")
    return office, key
