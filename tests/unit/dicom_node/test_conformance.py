"""The Conformance Statement is that of the code and of the configuration."""

from pathlib import Path
from typing import get_args

import pytest

from dicom_node import config
from dicom_node.config import NodeRules, OutputRules, RetentionRules, Settings, TlsRules
from dicom_node.conformance import statement
from dicom_node.conformance.proposals import made
from dicom_node.destinations import DicomDestination, Kind
from dicom_node.encode import encode_study
from tests import phantom

_ROOT = Path(__file__).parents[3]


def test_the_committed_statement_is_that_of_the_shipped_configuration():
    """Print it anew: mrsi-node conformance --config config/node.toml > deploy/docs/CONFORMANCE.md"""
    committed = (_ROOT / "deploy/docs/CONFORMANCE.md").read_text()
    assert committed == statement(config.load(_ROOT / "config/node.toml"))


def test_the_sections_of_ps3_2_are_there():
    text = statement(Settings())
    sections = (
        "1 Conf",
        "2 Tab",
        "3 Int",
        "4 Net",
        "4.1",
        "4.2",
        "4.3",
        "4.4",
        "5 Media",
        "6 Supp",
        "7 Sec",
        "8 Ann",
    )
    for section in (*sections, "8.1", "8.2", "8.3", "8.4", "8.5", "8.6"):
        assert f"# {section}" in text
    assert "$" not in text


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (Settings(node=NodeRules(ae_title="SPECTRO")), 'One application entity, "SPECTRO"'),
        (Settings(node=NodeRules(port=10104)), "| DICOM | 127.0.0.1:10104 |"),
        (Settings(node=NodeRules(max_pdu_bytes=65536)), "| Maximum PDU length offered | 65536 |"),
        (
            Settings(node=NodeRules(allowed_callers=["SCANNER"])),  # type: ignore[list-item]
            "| SCANNER | anywhere | no | yes |",
        ),
        (
            Settings(tls=TlsRules(certificate=Path("node.pem"), key=Path("node.key"), client="optional")),
            "| DICOM over TLS | 127.0.0.1:2762, client certificate optional |",
        ),
        (
            Settings(
                destination=(
                    DicomDestination(name="PACS", ae_title="ARCHIVE", host="192.0.2.1", port=104),
                )
            ),
            "| PACS | C-STORE | ARCHIVE at 192.0.2.1:104 |",
        ),
        (Settings(retention=RetentionRules(keep_days=90)), "are removed as all others are, 90 days after"),
        (Settings(output=OutputRules(manufacturer="St. Elsewhere")), "| St. Elsewhere |"),
    ],
)  # fmt: skip
def test_what_a_site_changes_is_in_its_statement(settings, line):
    assert line in statement(settings) and line not in statement(Settings())


def test_every_kind_of_object_is_named_with_the_class_that_it_really_has():
    assert set(made()) == set(get_args(Kind))
    source = phantom.source_study()
    found = {
        (o.kind, o.dataset.SOPClassUID)
        for o in encode_study(phantom.super_resolved(source), source, OutputRules())
    }
    assert found <= set(made().items()) and {kind for kind, _ in found} >= {"MR", "PM", "SEG"}
