"""C-STORE's data sets on their way to the spool; its commands against pynetdicom's own encoder."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from pydicom.uid import MRImageStorage
from pynetdicom.dimse_messages import C_STORE_RQ, C_STORE_RSP
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode

from dicom_node.arrival import Arrival, elements_of, store_answer, store_request
from dicom_node.errors import OutOfSpace
from dicom_node.header import read_header
from dicom_node.spool import Spool
from tests.doors import as_file, mr_slice
from tests.integration.test_listener_hostile import data_set_of


def primitive(**more: object) -> C_STORE:
    made = C_STORE()
    made.AffectedSOPClassUID = MRImageStorage
    made.AffectedSOPInstanceUID = "1.2.3"
    for keyword, value in more.items():
        setattr(made, keyword, value)
    return made


@pytest.mark.parametrize("status", [0x0000, 0xA700, 0x0124])
@pytest.mark.parametrize("comment", [None, "out of resources: send again later", "odd"])
def test_an_answer_is_encoded_as_pynetdicom_does_it(status: int, comment: str | None) -> None:
    answer = primitive(MessageIDBeingRespondedTo=7, Status=status, ErrorComment=comment)
    message = C_STORE_RSP()
    message.primitive_to_message(answer)
    assert store_answer(answer) == encode(message.command_set, True, True)


def test_a_request_or_a_rarer_answer_is_left_to_pynetdicom() -> None:
    assert store_answer(primitive(MessageID=1, Priority=2)) is None
    answer = primitive(MessageIDBeingRespondedTo=7, Status=0xA900, OffendingElement=[0x00080018])
    assert store_answer(answer) is None


def test_a_request_is_decoded_as_pynetdicom_encodes_it() -> None:
    asked = primitive(MessageID=65535, Priority=2, DataSet=BytesIO(b"x"))
    message = C_STORE_RQ()
    message.primitive_to_message(asked)
    request = store_request(elements_of(encode(message.command_set, True, True) or b""))
    for keyword in ("MessageID", "Priority", "AffectedSOPClassUID", "AffectedSOPInstanceUID"):
        assert getattr(request, keyword) == getattr(asked, keyword)


@pytest.mark.parametrize("broken", [b"\0", bytes(7), b"\x08\0" + bytes(6), b"\0\0\0\0\xff\0\0\0"])
def test_what_is_no_command_set_is_refused(broken: bytes) -> None:
    with pytest.raises(ValueError, match="command set"):
        elements_of(broken)


def test_a_data_set_that_arrived_in_pieces_is_a_file_with_its_meta_information(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    content = data_set_of(as_file(mr_slice()))
    arrival = Arrival(spool.arriving, MRImageStorage, "1.2.3", "1.2.840.10008.1.2.1")
    for at in range(0, len(content), 1000):
        arrival.write(memoryview(content)[at : at + 1000])
    assert arrival.received == len(content)
    header = read_header(arrival.file.file)
    assert header.file_meta.MediaStorageSOPInstanceUID == "1.2.3"
    assert header.PatientID == "P1"
    arrival.close()
    assert list((tmp_path / "tmp").iterdir()) == []


def test_where_there_is_no_room_the_rest_is_passed_over_and_said_at_the_end(tmp_path: Path) -> None:
    arrival = Arrival(Spool(tmp_path, low_water_mb=10**9).arriving, MRImageStorage, "1.2.3", "1.2")
    assert arrival.write(bytes(1000)) == 1000
    with pytest.raises(OutOfSpace):
        _ = arrival.file
    assert list((tmp_path / "tmp").iterdir()) == []
