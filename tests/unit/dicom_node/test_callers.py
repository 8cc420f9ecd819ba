"""Who may call: title, address and certificate together."""

from __future__ import annotations

import pytest

from dicom_node.callers import Callers, Unwelcome, names_of
from dicom_node.config import Caller

SCANNER = Caller(ae_title="SCANNER", networks=["192.0.2.0/24", "2001:db8::/32"])
PACS = Caller(ae_title="PACS", certificates=["pacs.example", "sha256:AB:CD"])


@pytest.mark.parametrize("address", ["192.0.2.7", "::ffff:192.0.2.7", "2001:db8::1", "2001:db8::1%eth0"])
def test_a_listed_title_from_its_network_is_welcome(address: str) -> None:
    assert Callers([SCANNER]).admit("SCANNER", address, None) is SCANNER


@pytest.mark.parametrize(
    ("title", "address", "why"),
    [
        ("STRANGER", "192.0.2.7", "not in node.allowed_callers"),
        ("scanner", "192.0.2.7", "not in node.allowed_callers"),
        ("SCANNER", "192.0.3.7", "from this address"),
        ("SCANNER", "::1", "from this address"),
        ("PACS", "192.0.2.7", "must call the TLS port"),
    ],
)
def test_who_is_not_is_told_why(title: str, address: str, why: str) -> None:
    with pytest.raises(Unwelcome, match=why):
        Callers([SCANNER, PACS]).admit(title, address, None)


@pytest.mark.parametrize("name", ["pacs.example", "sha256:abcd"])
def test_a_title_bound_to_a_certificate_needs_that_one(name: str) -> None:
    callers = Callers([PACS])
    assert callers.admit("PACS", "192.0.2.7", frozenset({name, "other"})) is PACS
    with pytest.raises(Unwelcome, match="not one of those"):
        callers.admit("PACS", "192.0.2.7", frozenset({"scanner.example"}))


def test_one_title_may_have_a_rule_per_place() -> None:
    inside = Caller(ae_title="PACS", networks=["192.0.2.0/24"])
    outside = Caller(ae_title="PACS", networks=["198.51.100.0/24"], store=False)
    callers = Callers([inside, outside])
    assert callers.admit("PACS", "192.0.2.7", None).store
    assert not callers.admit("PACS", "198.51.100.7", None).store


def test_a_certificate_goes_by_subject_alternative_names_and_fingerprint() -> None:
    certificate = {
        "subject": ((("countryName", "XX"),), (("commonName", "Scanner"),)),
        "subjectAltName": (("DNS", "scanner.example"), ("URI", "urn:device:7"), ("IP Address", "192.0.2.1")),
    }
    names = names_of(certificate, b"abc")
    fingerprint = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert names == {"scanner", "scanner.example", "urn:device:7", fingerprint}
