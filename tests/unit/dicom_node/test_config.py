"""The configuration: every key known, every mistake named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

import sr_core
from dicom_node.config import (
    CircuitRules,
    DicomDestination,
    FolderDestination,
    ProvingRules,
    ResolveRules,
    RetryRules,
    Settings,
    StorageRules,
    as_table,
    load,
    with_worker_name,
)
from dicom_node.errors import BadConfiguration


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("MRSI_NODE_CONFIG", "MRSI_NODE__NODE__PORT"):
        monkeypatch.delenv(key, raising=False)


def toml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "node.toml"
    path.write_text(text)
    return path


def test_without_a_file_the_node_is_on_loopback_with_embedded_storage() -> None:
    settings = load(None)
    assert settings.node.host == "127.0.0.1"
    assert settings.storage.database_url.startswith("sqlite:///")
    assert settings.destination == ()


def test_a_file_is_read_and_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = toml(tmp_path, '[node]\nae_title = "MINE"\nport = 11200\n')
    assert load(path).node.port == 11200
    monkeypatch.setenv("MRSI_NODE__NODE__PORT", "11201")
    assert (load(path).node.ae_title, load(path).node.port) == ("MINE", 11201)


def test_the_configuration_s_defaults_are_those_of_super_resolution() -> None:
    rules = ResolveRules()
    stated = rules.model_dump(exclude={"method", "model_dir", "fnlm"})
    assert sr_core.Settings(**stated, fnlm=sr_core.Fnlm(**rules.fnlm.model_dump())) == sr_core.Settings()


def test_the_shipped_configuration_states_the_defaults() -> None:
    assert load(Path("config/node.toml")).resolve == ResolveRules()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[node]\nprot = 104\n", "node.prot"),
        ("[nodes]\nport = 104\n", "nodes"),
        ("[node]\nport = 0\n", "node.port"),
        ('[node]\nae_title = "LONGER THAN SIXTEEN"\n', "node.ae_title"),
        ('[node]\nae_title = "BACK\\\\SLASH"\n', "node.ae_title"),
        ('[identify]\nt1 = ["(("]\n', "identify.t1"),
        ('[[identify.sites]]\nmaps = "[a"\n', "identify.sites.0.maps"),
        ('[[destination]]\ntype = "dicom"\nname = "P"\nae_title = "P"\nhost = "h"\n', "port"),
        ('[[destination]]\ntype = "ftp"\nname = "P"\n', "destination.0"),
    ],
)
def test_a_bad_key_is_named(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(BadConfiguration) as caught:
        load(toml(tmp_path, text))
    assert named in str(caught.value)


def test_what_is_not_toml_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match="not TOML"):
        load(toml(tmp_path, "[node\n"))


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match="no configuration file"):
        load(tmp_path / "missing.toml")


def test_two_destinations_of_one_name_are_refused(tmp_path: Path) -> None:
    text = '[[destination]]\ntype = "folder"\nname = "OUT"\nfolder = "a"\n' * 2
    with pytest.raises(BadConfiguration, match="share a name"):
        load(toml(tmp_path, text))


def test_a_destination_is_found_by_its_name_or_the_names_are_listed(tmp_path: Path) -> None:
    settings = load(
        toml(
            tmp_path,
            '[[destination]]\ntype = "dicom"\nname = "PACS"\nae_title = "PACS"\nhost = "h"\nport = 104\n'
            '[[destination]]\ntype = "folder"\nname = "OUT"\nfolder = "out"\n',
        )
    )
    assert isinstance(settings.destination_named("PACS"), DicomDestination)
    assert isinstance(settings.destination_named("OUT"), FolderDestination)
    with pytest.raises(BadConfiguration, match="PACS, OUT"):
        settings.destination_named("PASC")


def test_the_examples_of_destinations_and_peers_are_usable(tmp_path: Path) -> None:
    lines = Path("config/node.toml").read_text().split("# Destinations: any number.")[1].splitlines()
    text = "\n".join(m[1] for line in lines if (m := re.match(r"# (\[.*|\w+ = .*)", line)))
    settings = load(toml(tmp_path, text))
    assert [d.type for d in settings.destination] == ["dicom", "dicomweb", "folder"]
    pacs = settings.destination[0]
    assert (pacs.retry, pacs.circuit, pacs.proving) == (RetryRules(), CircuitRules(), ProvingRules())
    assert [p.ae_title for p in settings.peer] == ["SCANNER"]


def test_by_default_a_delivery_outlives_a_weekend() -> None:
    rules = RetryRules()
    assert (rules.max_attempts, rules.give_up_after_s) == (0, 7 * 86400)


WEB = '[[destination]]\ntype = "dicomweb"\nname = "W"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (WEB + 'url = "https://u:p@host/web"\n', "url"),
        (WEB + 'url = "file:///etc/passwd"\n', "url"),
        (WEB + 'url = "http://pacs/web"\ntoken_env = "T"\n', "use https"),
        (WEB + 'url = "https://pacs/web"\ntoken_env = "T"\nuser = "u"\npassword_env = "P"\n', "one of them"),
        (WEB + 'url = "https://pacs/web"\nuser = "u"\n', "belong together"),
        (WEB + 'url = "https://pacs/web"\nproof = "commitment"\n', "proof"),
        ('[[destination]]\ntype = "folder"\nname = "F"\nfolder = "f"\nproof = "query"\n', "proof"),
    ],
)
def test_a_destination_that_cannot_work_or_keep_a_secret_is_refused(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(BadConfiguration, match=said):
        load(toml(tmp_path, text))


def test_settings_cannot_be_changed_while_they_are_in_use() -> None:
    with pytest.raises(ValidationError):
        load(None).node.port = 1


def test_the_resolved_table_makes_the_same_settings_again(tmp_path: Path) -> None:
    settings = load(toml(tmp_path, '[resolve]\nmethod = "bicubic"\n'))
    assert Settings(**as_table(settings)) == settings


def test_a_shared_database_is_taken_as_written() -> None:
    rows, engine = "postgresql+psycopg://node@db/node", "postgresql+psycopg://node@db/engine"
    rules = StorageRules(database=rows, engine_database=engine)
    assert (rules.database_url, rules.engine_url) == (rows, engine)


@pytest.mark.parametrize("host", ["0.0.0.0", "10.1.2.3", "scanner-net.example"])
def test_open_to_the_network_without_a_list_of_callers_is_refused(tmp_path: Path, host: str) -> None:
    path = tmp_path / "node.toml"
    path.write_text(f'[node]\nhost = "{host}"\n')
    with pytest.raises(BadConfiguration, match="allowed_callers"):
        load(path)
    path.write_text(f'[node]\nhost = "{host}"\nallowed_callers = ["SCANNER"]\n')
    with pytest.raises(BadConfiguration, match="an AE title proves nothing"):
        load(path)
    path.write_text(
        f'[node]\nhost = "{host}"\n'
        'allowed_callers = [{ ae_title = "SCANNER", networks = ["192.0.2.0/24", "2001:db8::/32"] }]\n'
    )
    assert load(path).node.host == host


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ('[node]\nallowed_callers = [{ ae_title = "A", networks = ["192.0.2.1/24"] }]\n', "networks"),
        ('[tls]\ncertificate = "node.pem"\n', "private key"),
        ('[tls]\ncertificate = "node.pem"\nkey = "node.key"\n', "trusted"),
    ],
)
def test_a_caller_s_network_and_the_node_s_certificate_are_whole(
    tmp_path: Path, table: str, key: str
) -> None:
    with pytest.raises(BadConfiguration, match=key):
        load(toml(tmp_path, table))


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ('[resolve]\nmethod = "unet+magic"\n', "method"),
        ("[resolve]\nfactor = [0, 4, 4]\n", "factor"),
        ('[identify]\nnot_anatomy = "("\n', "not_anatomy"),
        ('[worker]\nname = "a/b"\n', "name"),
    ],
)
def test_an_impossible_value_is_named(tmp_path: Path, table: str, key: str) -> None:
    path = tmp_path / "node.toml"
    path.write_text(table)
    with pytest.raises(BadConfiguration, match=key):
        load(path)


def test_our_results_are_known_by_the_name_they_are_made_under() -> None:
    rules = Settings(output={"model_name": "SITE-SR"}).input_rules
    assert rules.our_models == ("MRSI-SR", "SITE-SR")


def test_an_archive_that_cannot_be_reached_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match="name the archive's host"):
        load(toml(tmp_path, '[gather.pacs]\nae_title = "PACS"\n'))


def test_an_archive_that_is_asked_to_send_must_be_allowed_to(tmp_path: Path) -> None:
    text = '[node]\nallowed_callers = ["SCANNER"{}]\n[gather.pacs]\nae_title = "PACS"\nhost = "pacs"\n'
    with pytest.raises(BadConfiguration, match="list it in allowed_callers"):
        load(toml(tmp_path, text.format("")))
    assert load(toml(tmp_path, text.format(', "PACS"'))).gather.pacs is not None


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('database = "postgresql+psycopg://db/rows"', "each would do every study again"),
        ('engine_database = "postgresql+psycopg://db/engine"', "another node could share it"),
        ('database = "sqlite:////shared/node.sqlite"', "storage.database"),
    ],
)
def test_rows_and_the_engine_s_queue_are_shared_together_or_not_at_all(
    tmp_path: Path, lines: str, said: str
) -> None:
    with pytest.raises(BadConfiguration, match=said):
        load(toml(tmp_path, f"[storage]\n{lines}\n"))
    both = 'database = "postgresql://db/rows"\nengine_database = "postgresql://db/engine"\n'
    assert load(toml(tmp_path, f"[storage]\n{both}")).storage.engine_url == "postgresql://db/engine"


def test_a_worker_named_on_the_command_line_keeps_the_other_settings(tmp_path: Path) -> None:
    settings = load(toml(tmp_path, "[worker]\ntakeover_s = 30.0\npredecessor_s = 2.0\n"))
    rules = with_worker_name(settings, "gpu-1").worker
    assert (rules.name, rules.takeover_s, rules.predecessor_s) == ("gpu-1", 30.0, 2.0)
    with pytest.raises(BadConfiguration, match="--name 'a b'"):
        with_worker_name(settings, "a b")
