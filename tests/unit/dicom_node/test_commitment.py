"""Storage commitment as values: what is read from a data set is what was put into it, or it is refused."""

from __future__ import annotations

from io import BytesIO

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node import commitment
from dicom_node.commitment import Reference, Report
from dicom_node.errors import NotDicom

A, B = Reference("1.2.840.10008.5.1.4.1.1.4", "1.2.3.1"), Reference("1.2.840.10008.5.1.4.1.1.30", "1.2.3.2")


def over_the_wire(ds: Dataset, syntax: str) -> Dataset:
    """Encoded and decoded again."""
    buffer = BytesIO()
    implicit = syntax == ImplicitVRLittleEndian
    ds.save_as(buffer, implicit_vr=implicit, little_endian=True)
    return dcmread(BytesIO(buffer.getvalue()), force=True)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_a_request_says_what_to_keep(syntax):
    ds = over_the_wire(commitment.request("1.2.9", [A, B]), syntax)
    assert commitment.read_request(ds) == ("1.2.9", (A, B))


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_a_report_says_what_is_kept_and_why_the_rest_is_not(syntax):
    report = Report("1.2.9", (A,), ((B, 0x0112),))
    assert commitment.read_report(over_the_wire(commitment.report(report), syntax)) == report
    assert report.event_type == 2
    assert report.missing == {B.sop_uid: "no such object (0112)"}


def test_a_report_of_success_has_no_failed_sequence():
    report = Report("1.2.9", (A, B))
    assert "FailedSOPSequence" not in commitment.report(report)
    assert report.event_type == 1


@pytest.mark.parametrize("reason", [0x0110, 0x0131, 0x0213])
def test_a_reason_that_says_nothing_of_the_object_does_not_send_it_again(reason):
    assert Report("1.2.9", (), ((A, reason),)).missing == {}


def without(ds: Dataset, keyword: str) -> Dataset:
    delattr(ds, keyword)
    return ds


def test_what_names_no_transaction_or_no_instance_is_refused():
    with pytest.raises(NotDicom, match="TransactionUID"):
        commitment.read_request(without(commitment.request("1.2.9", [A]), "TransactionUID"))
    with pytest.raises(NotDicom, match="names no instance"):
        commitment.read_request(commitment.request("1.2.9", []))
    with pytest.raises(NotDicom, match="TransactionUID"):
        commitment.read_report(Dataset())


@pytest.mark.parametrize("uid", ["../../etc", "1.2\n3", "1" * 65])
def test_what_is_no_uid_is_refused(uid):
    ds = commitment.request("1.2.9", [A])
    ds.ReferencedSOPSequence[0].add_new("ReferencedSOPInstanceUID", "LO", uid)
    with pytest.raises(NotDicom, match="no UID"):
        commitment.read_request(ds)


def test_more_references_than_any_study_has_are_refused(monkeypatch):
    monkeypatch.setattr(commitment, "_MOST", 1)
    with pytest.raises(NotDicom, match="1 are the most"):
        commitment.read_request(commitment.request("1.2.9", [A, B]))
