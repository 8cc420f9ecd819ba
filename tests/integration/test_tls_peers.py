"""TLS to a PACS and from it: Orthanc takes, commits and gives back everything, over TLS both ways."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dicom_node.archive import DimsePacs
from dicom_node.compare import compare
from dicom_node.config import ClientTls, DicomDestination, PacsRules, TlsRules
from dicom_node.demo import LoopbackOrthanc, free_port
from dicom_node.intake import Intake
from dicom_node.listener import Listener
from dicom_node.study import DeliveryState
from tests import phantom
from tests.authority import Authority
from tests.harness import needs_orthanc
from tests.results import Office

pytestmark = [
    pytest.mark.peers,
    needs_orthanc,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed"),
]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("tls") / "ca")
    made.issue("node"), made.issue("pacs")
    return made


def secured(authority: Authority, folder: Path, tls_port: int) -> LoopbackOrthanc:
    """Orthanc that speaks TLS only, wants to see certificates, and knows us at our TLS port."""
    server = LoopbackOrthanc(
        folder,
        DicomTlsEnabled=True,
        DicomTlsRemoteCertificateRequired=True,
        DicomTlsCertificate=str(authority.folder / "pacs.pem"),
        DicomTlsPrivateKey=str(authority.folder / "pacs.key"),
        DicomTlsTrustedCertificates=str(authority.certificate),
        DicomModalities={
            "node": {"AET": "MRSISR", "Host": "127.0.0.1", "Port": tls_port, "UseDicomTls": True}
        },
    )
    server.start()
    return server


def test_everything_goes_is_committed_and_comes_back_over_tls(authority, tmp_path):
    """Both sides show certificates; a C-MOVE brings every object back with the very same pixels."""
    tls_port = free_port()
    pacs = secured(authority, tmp_path / "orthanc", tls_port)
    certificate, key = authority.folder / "node.pem", authority.folder / "node.key"
    ours = ClientTls(trusted=authority.certificate, certificate=certificate, key=key)
    where = {"ae_title": "ORTHANC", "host": "127.0.0.1", "port": pacs.dicom_port, "tls": ours}
    destination = DicomDestination(name="PACS", proof="commitment", **where)
    caller = {"ae_title": "ORTHANC", "networks": ("127.0.0.0/8",), "certificates": ("pacs.example",)}
    office = Office(tmp_path, destination, allowed_callers=(caller,))
    uids = office.real_results()
    secure = TlsRules(port=tls_port, certificate=certificate, key=key, trusted=authority.certificate)
    intake = Intake(office.spool, office.store)
    listener = Listener(office.node, intake, safekeeper=office.safekeeper, tls=secure)
    listener.start()
    try:
        for _ in range(20):
            office.work()
            office.clock.now += 2
            if office.delivery().state is not DeliveryState.PROVING:
                break
        assert office.delivery().state is DeliveryState.DELIVERED, office.delivery()
        there = office.store.unproven(office.delivery())
        assert there == [] and sum(pacs.held().values()) == len(uids)

        mover = DimsePacs(PacsRules(retrieve="move", **where), office.node, lambda *_: 0xC000)
        for series in mover.series(phantom.STUDY):
            mover.retrieve(phantom.STUDY, str(series.SeriesInstanceUID))
        back = office.store.paths_of(set(uids.values()))
        assert set(back) == set(uids.values())
        sent = {f.sop_uid: f.path for f in office.store.meant_for(office.delivery())}
        for uid, path in back.items():
            same = compare(office.spool.path(sent[uid]), office.spool.path(path))
            assert same.pixels, uid
    finally:
        listener.stop(drain_s=1)
        pacs.stop()


def test_who_is_not_trusted_is_named_and_a_port_without_tls_is_no_silence(authority, tmp_path):
    """A PACS of another authority: a person must see to it. One that wants a certificate: said too."""
    stranger = Authority(tmp_path / "stranger")
    pacs = secured(authority, tmp_path / "orthanc", free_port())
    where = {"name": "PACS", "ae_title": "ORTHANC", "host": "127.0.0.1", "port": pacs.dicom_port}
    try:
        for tls, state, words in (
            ({"trusted": stranger.certificate}, DeliveryState.FAILED, "not trusted here"),
            (
                {"trusted": authority.certificate, "server_name": "other.example"},
                DeliveryState.FAILED,
                "Hostname mismatch",
            ),
            ({"trusted": authority.certificate}, DeliveryState.WAITING, "does it trust our certificate"),
            (None, DeliveryState.WAITING, "does not answer"),
        ):
            office = Office(tmp_path / words[:8], DicomDestination(**where, tls=tls))
            office.result_set()
            office.work()
            assert (office.delivery().state, words in office.delivery().reason) == (state, True), (
                office.delivery().reason
            )
    finally:
        pacs.stop()
