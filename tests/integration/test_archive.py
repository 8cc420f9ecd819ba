"""Counts and missing anatomy from a PACS: Orthanc, by C-FIND with C-MOVE or C-GET, and by DICOMweb."""

from __future__ import annotations

import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.dataset import FileDataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from dicom_node.archive import PacsArchive
from dicom_node.archive.dimse import DimsePacs
from dicom_node.config import GatherRules, IdentifyRules, NodeRules, PacsRules
from dicom_node.demo import LoopbackOrthanc, free_port
from dicom_node.evidence import STREAMING_S
from dicom_node.gather import Gatherer
from dicom_node.intake import Incoming, Intake
from dicom_node.listener import Listener
from dicom_node.spool import Spool
from dicom_node.store import Store
from dicom_node.study import State
from tests import builders
from tests.doors import STUDY, as_file, mr_slice, open_intake
from tests.harness import needs_orthanc

pytestmark = [pytest.mark.peers, needs_orthanc]

_WEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@dataclass
class Site:
    """A node with its door, and a PACS beside it."""

    pacs: LoopbackOrthanc
    node: NodeRules
    intake: Intake

    @property
    def store(self) -> Store:
        return self.intake.store

    def at_the_pacs(self, instances: Sequence[FileDataset]) -> None:
        for ds in instances:
            url = f"http://127.0.0.1:{self.pacs.http_port}/instances"
            urllib.request.urlopen(urllib.request.Request(url, data=as_file(ds)), timeout=60).read()

    def arrive(self, instances: Sequence[FileDataset]) -> None:
        for ds in instances:
            self.intake.accept(Incoming(as_file(ds)), source="HOST")

    def accept(self, content: bytes, sop_class: str, sop_instance: str) -> int:
        self.intake.accept(Incoming(content, sop_class, sop_instance), source="PACS")
        return 0

    def archive(self, **rules: Any) -> PacsArchive:
        values = {"ae_title": "ORTHANC", "host": "127.0.0.1", "port": self.pacs.dicom_port, "settle_s": 0.2}
        asked = PacsRules(**{**values, "ask_again_s": 0.5, **rules})  # type: ignore[arg-type]
        return PacsArchive(self.store, asked, self.node, IdentifyRules(), self.accept)

    def gather_until(
        self, condition: Callable[[], bool], archive: PacsArchive, limit_s: float = 90, **rules: Any
    ) -> None:
        gatherer = Gatherer(self.store, GatherRules(**{"quiet_period_s": 3600, **rules}), None, archive)
        deadline = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < deadline, self.store.status()
            gatherer.once()
            time.sleep(0.1)

    def in_state(self, state: State) -> bool:
        return bool(self.store.revisions_in(state))

    def awaited(self) -> str:
        """What is waited for, once instances have stopped streaming in."""
        since = time.time() - STREAMING_S - 1.5
        receiving = self.store.revisions_in(State.RECEIVING)
        return "".join(r.awaited for r in receiving if r.last_received_at < since)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    node = NodeRules(port=free_port())
    pacs = LoopbackOrthanc(
        tmp_path / "orthanc",
        DicomModalities={"node": [node.ae_title, "127.0.0.1", node.port]},
        Plugins=[str(_WEB)] if _WEB.exists() else [],
    )
    intake = open_intake(tmp_path)
    listener = Listener(node, intake)
    listener.start()
    pacs.start()
    yield Site(pacs, node, intake)
    pacs.stop()
    listener.stop(drain_s=2)


def maps_and_anatomy() -> tuple[list[FileDataset], list[FileDataset]]:
    study = list(builders.study())
    maps = [d for d in study if str(d.SeriesDescription).startswith("LCM")]
    return maps, [d for d in study if not str(d.SeriesDescription).startswith("LCM")]


@pytest.mark.parametrize("how", ["move", "get", "web"])
def test_missing_anatomy_is_fetched_and_comes_in_by_the_same_door(site: Site, how: str) -> None:
    if how == "web" and not _WEB.exists():
        pytest.skip("Orthanc's DICOMweb plugin is not installed")
    maps, anatomy = maps_and_anatomy()
    site.at_the_pacs([*maps[:1], *anatomy])
    site.arrive(maps)
    url = {"url": f"http://127.0.0.1:{site.pacs.http_port}/dicom-web"} if how == "web" else {"retrieve": how}
    archive = site.archive(count=False, **url)
    expected = len(maps) + len(anatomy)
    site.gather_until(lambda: site.store.count_instances() == expected, archive)
    site.gather_until(lambda: site.awaited() == "more instances", archive)  # anatomy is no longer awaited
    archive.close()


def test_what_became_of_asking_is_said_and_tried_only_so_often(site: Site) -> None:
    maps, _ = maps_and_anatomy()
    site.at_the_pacs(maps[:1])
    site.arrive(maps)
    archive = site.archive(count=False, max_tries=2)
    site.gather_until(lambda: "try 2 of 2: it holds none" in site.awaited(), archive)
    (revision,) = site.store.revisions_in(State.RECEIVING)
    time.sleep(1)
    archive.fetch_anatomy(revision)
    time.sleep(0.5)
    inquiry = site.store.inquiry(revision.key.case, "anatomy")
    assert inquiry is not None
    assert inquiry.tries == 2
    archive.close()


def test_a_pacs_that_does_not_answer_stops_nothing_and_is_said(site: Site) -> None:
    maps, _ = maps_and_anatomy()
    site.arrive(maps)
    archive = site.archive(port=free_port(), max_tries=1)
    site.gather_until(lambda: "does not answer" in site.awaited(), archive)
    site.gather_until(lambda: site.in_state(State.QUEUED), archive, recipe_wait_s=0, quiet_period_s=0)
    archive.close()


def test_the_anatomy_of_another_patient_under_the_same_study_is_not_fetched(site: Site) -> None:
    """A Patient ID must agree; that the name does proves nothing."""
    maps, anatomy = maps_and_anatomy()
    site.at_the_pacs(builders.renamed(anatomy, "else", PatientID="SOMEBODY-ELSE"))
    site.arrive(maps)
    archive = site.archive(count=False, max_tries=1)
    site.gather_until(lambda: "it holds none" in site.awaited(), archive)
    assert site.store.count_instances() == len(maps)
    archive.close()


@pytest.mark.parametrize(("days", "fetched"), [(400, True), (1, False)])
def test_anatomy_of_another_study_is_fetched_if_it_is_near_in_time_and_joins_the_case(
    site: Site, days: int, fetched: bool
) -> None:
    maps, anatomy = maps_and_anatomy()
    anatomy = builders.renamed(anatomy, "before", StudyInstanceUID="2.25.1618", StudyDate="20251201")
    site.at_the_pacs(anatomy)
    site.arrive(maps)
    archive = site.archive(count=False, max_tries=1, prior_days=days)
    words = "series sent" if fetched else "it holds none"
    site.gather_until(lambda: words in site.awaited() or site.awaited() == "more instances", archive)
    if fetched:
        site.gather_until(lambda: site.awaited() == "more instances", archive)
    (case,) = site.store.status()["cases"]
    assert len(case["studies"]) == (2 if fetched else 1)
    archive.close()


def test_a_study_of_which_the_pacs_has_more_waits_and_is_complete_at_once_when_it_has_no_more(
    site: Site,
) -> None:
    maps, anatomy = maps_and_anatomy()
    site.at_the_pacs([*maps, *anatomy])
    site.arrive([*maps[:-1], *anatomy])
    archive = site.archive(fetch_anatomy=False)
    site.gather_until(lambda: "that the archive holds" in site.awaited(), archive)
    assert "1 of 6 instances" in site.awaited()
    site.arrive(maps[-1:])
    site.gather_until(lambda: site.in_state(State.QUEUED), archive)
    (revision,) = site.store.revisions_in(State.QUEUED)
    assert "the archive holds the same series" in revision.reason
    archive.close()


@contextmanager
def a_pacs_that(on_c_find: Callable[[evt.Event], Iterator[tuple[int, Dataset]]]) -> Iterator[PacsRules]:
    """A query SCP of pynetdicom's, with the habits of another vendor."""
    ae = AE("ORTHANC")
    ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    port = free_port()
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_FIND, on_c_find)])
    yield PacsRules(host="127.0.0.1", port=port, timeout_s=1, settle_s=0, max_tries=1)
    server.shutdown()


def test_an_archive_that_states_no_numbers_is_asked_at_image_level(tmp_path: Path) -> None:
    def answer(event: evt.Event) -> Iterator[tuple[int, Dataset]]:
        level = event.identifier.QueryRetrieveLevel
        for n in range(3 if level == "IMAGE" else 1):
            ds = Dataset()
            ds.QueryRetrieveLevel = level
            ds.SeriesInstanceUID = f"{STUDY}.1"
            if level == "IMAGE":
                ds.SOPInstanceUID = f"{STUDY}.1.{n}"
            yield 0xFF00, ds

    with a_pacs_that(answer) as rules:
        (series,) = DimsePacs(rules, NodeRules(), lambda *_: 0).series(STUDY)
    assert series.NumberOfSeriesRelatedInstances == 3


def test_gathering_never_waits_for_a_pacs_that_hangs(tmp_path: Path) -> None:
    released = threading.Event()

    def hang(event: evt.Event) -> Iterator[tuple[int, Dataset]]:
        released.wait(30)
        yield 0xFF00, Dataset()

    store = open_intake(tmp_path).store
    with a_pacs_that(hang) as rules:
        archive = PacsArchive(store, rules, NodeRules(), IdentifyRules(), lambda *_: 0)
        intake = Intake(Spool(tmp_path / "spool", 0), store)
        for n in range(1, 11):  # ten patients, more than there are threads
            study = f"{STUDY}.{n}"
            series = {"StudyInstanceUID": study, "SeriesInstanceUID": f"{study}.1", "PatientID": f"P{n}"}
            frame = {"FrameOfReferenceUID": f"{study}.9", "SOPInstanceUID": f"{study}.1.1"}
            intake.accept(Incoming(as_file(mr_slice(1, **series, **frame))), source="SCANNER")
        gatherer = Gatherer(store, GatherRules(quiet_period_s=3), None, archive)
        deadline = time.monotonic() + 60
        longest_s = 0.0
        while store.revisions_in(State.RECEIVING):
            began = time.monotonic()
            assert began < deadline
            gatherer.once()
            longest_s = max(longest_s, time.monotonic() - began)
            time.sleep(0.1)
        released.set()
        archive.close()
    # Ten answers that never come, one after the other on one thread, would take ten seconds.
    assert longest_s < 5
    assert len(store.revisions_in(State.QUEUED)) == 10
