"""Tables of the store. Times are UTC seconds since the epoch; paths are relative to the spool."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    }
)

UID = String(64)

# One patient, one or more studies; a NIfTI case has none.
cases = Table(
    "cases",
    metadata,
    Column("case_id", String(36), primary_key=True),
    Column("patient_id", Text, nullable=False),
    Column("issuer", Text, nullable=False),
    Column("created_at", Float, nullable=False),
)

studies = Table(
    "studies",
    metadata,
    Column("study_uid", UID, primary_key=True),
    Column("case_id", ForeignKey(cases.c.case_id), nullable=False, index=True),
    Column("study_date", String(8)),  # as the first instance stated it; empty or absent: not known
)

instances = Table(
    "instances",
    metadata,
    Column("sop_uid", UID, primary_key=True),
    Column("study_uid", ForeignKey(studies.c.study_uid), nullable=False, index=True),
    Column("series_uid", UID, nullable=False),
    Column("sop_class_uid", UID, nullable=False),
    Column("transfer_syntax_uid", UID, nullable=False),
    Column("frame_of_reference_uid", UID, nullable=False, index=True),
    Column("accession_number", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("size", BigInteger().with_variant(Integer, "sqlite"), nullable=False),
    Column("source", Text, nullable=False),
    Column("received_at", Float, nullable=False),
    Column("facts", Text),  # dicom_node.facts: what of its header is needed to judge its study
)

# What was durably kept but never taken as input, and why.
quarantine = Table(
    "quarantine",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("sop_uid", Text, nullable=False),
    Column("study_uid", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("reason", Text, nullable=False),
)

revisions = Table(
    "revisions",
    metadata,
    Column("case_id", ForeignKey(cases.c.case_id), primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("state", String(16), nullable=False, index=True),
    Column("attempt", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("since", Float, nullable=False, index=True),
    Column("last_received_at", Float, nullable=False),
    Column("input_digest", String(64), nullable=False),
    Column("report", Text),
    # What a receiving revision waits for, in words, and until when at the latest.
    Column("awaited", Text),
    Column("awaited_until", Float),
)

_revision_key = ("case_id", "revision")


def _of_revision() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(_revision_key, [revisions.c.case_id, revisions.c.revision])


# The instances a revision was made of, frozen when it was queued.
members = Table(
    "members",
    metadata,
    Column("case_id", String(36), primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("sop_uid", UID, primary_key=True),
    Column("path", Text, nullable=False),
    Column("sha256", String(64), nullable=False),
    _of_revision(),
)

series = Table(
    "series",
    metadata,
    Column("case_id", String(36), primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("series_uid", Text, primary_key=True),
    Column("description", Text, nullable=False),
    Column("role", String(32), nullable=False),
    Column("reason", Text, nullable=False),
    _of_revision(),
)

results = Table(
    "results",
    metadata,
    Column("case_id", String(36), primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("path", Text, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("name", Text, nullable=False),
    Column("sop_uid", UID, nullable=False),
    Column("sop_class_uid", UID, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("only_for", Text),  # the one destination that it is meant for; absent: whoever gets its kind
    _of_revision(),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("delivery_id", Text, primary_key=True),
    Column("case_id", String(36), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("result_attempt", Integer, nullable=False),
    Column("destination", Text, nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("attempt", Integer, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("failures", Integer, nullable=False, server_default="0"),  # tries in a row that failed
    Column("resends", Integer, nullable=False, server_default="0"),  # rounds of sending what was missing
    Column("missing", Text, nullable=False, server_default=""),  # what was missing last, in words
    Column("reason", Text, nullable=False),
    Column("since", Float, nullable=False),
    Column("started_at", Float, nullable=False, server_default="0"),  # of this attempt
    Column("next_try_at", Float),
    Column("purpose", String(16), nullable=False, server_default="results"),  # study.Purpose
    _of_revision(),
    Index("ix_deliveries_revision", "case_id", "revision"),
)

# What is known of a destination itself, shared by all workers: its circuit breaker, and a person's hold.
destinations = Table(
    "destinations",
    metadata,
    Column("name", Text, primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("opened_at", Float),
    Column("probe_at", Float),
    Column("held_at", Float),
    Column("held_because", Text, nullable=False),
)

destination_events = Table(
    "destination_events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("destination", Text, nullable=False, index=True),
    Column("event", String(32), nullable=False),
    Column("reason", Text, nullable=False),
)

# Cases that came by watch folder, one per patient in it: the folder waits in processing/ until all ended.
folders = Table(
    "folders",
    metadata,
    Column("path", Text, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("case_id", String(36), primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("at", Float, nullable=False),
    Column("finished_at", Float),
    _of_revision(),
)

# What a destination has taken, so that a retry sends only the rest.
taken = Table(
    "taken",
    metadata,
    Column("delivery_id", ForeignKey(deliveries.c.delivery_id), primary_key=True),
    Column("path", Text, primary_key=True),
    Column("status", String(16), nullable=False),
    Column("at", Float, nullable=False),
    Column("proof", String(16), nullable=False, server_default=""),
    Column("proven_at", Float),
    Column("withdrawn_at", Float),  # a note that rejects it was made
)

# Forms of objects that a destination refuses: all of a SOP class, or (variant not empty) one kind of it.
refused_forms = Table(
    "refused_forms",
    metadata,
    Column("destination", Text, primary_key=True),
    Column("sop_class_uid", UID, primary_key=True),
    Column("variant", String(16), primary_key=True),
    Column("because", Text, nullable=False),
    Column("at", Float, nullable=False),
)

# What goes instead of a result that the destination of a delivery refuses, one row for each object of it;
# absent: it stays away. A place below 0: it went instead until the result itself was sent after all.
substitutions = Table(
    "substitutions",
    metadata,
    Column("delivery_id", ForeignKey(deliveries.c.delivery_id), primary_key=True),
    Column("path", Text, primary_key=True),
    Column("place", Integer, primary_key=True, server_default="0"),
    Column("instead", Text, index=True),
    Column("because", Text, nullable=False),
    Column("at", Float, nullable=False),
)

# Results that a person has withdrawn; ``attempt`` numbers the notes of it as a result set of their own.
withdrawals = Table(
    "withdrawals",
    metadata,
    Column("case_id", String(36), primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("title", String(16), nullable=False),  # code value of the notes' document title
    Column("who", Text, nullable=False),
    Column("because", Text, nullable=False),
    Column("at", Float, nullable=False),
    _of_revision(),
)

# Storage commitment that we asked of a destination (PS3.4 Annex J, as SCU).
transactions = Table(
    "transactions",
    metadata,
    Column("transaction_uid", UID, primary_key=True),
    Column("delivery_id", ForeignKey(deliveries.c.delivery_id), nullable=False, index=True),
    Column("asked_at", Float, nullable=False),
    Column("lapsed_at", Float),  # the question may not have reached the destination
    Column("answered_at", Float),
)

# Storage commitment that a peer asked of us (as SCP), until it has taken our answer.
commitment_requests = Table(
    "commitment_requests",
    metadata,
    Column("peer", String(16), primary_key=True),
    Column("transaction_uid", UID, primary_key=True),
    Column("asked_at", Float, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("next_try_at", Float),
    Column("answered_at", Float),
    Column("reason", Text, nullable=False),
)

commitment_items = Table(
    "commitment_items",
    metadata,
    Column("peer", String(16), primary_key=True),
    Column("transaction_uid", UID, primary_key=True),
    Column("sop_uid", UID, primary_key=True),
    Column("sop_class_uid", UID, nullable=False),
    ForeignKeyConstraint(
        ("peer", "transaction_uid"), [commitment_requests.c.peer, commitment_requests.c.transaction_uid]
    ),
)

# Modality Performed Procedure Steps (PS3.4 F.7), the studies they belong to and what they say was made.
procedure_steps = Table(
    "procedure_steps",
    metadata,
    Column("sop_uid", UID, primary_key=True),
    Column("status", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("since", Float, nullable=False),
)

procedure_step_studies = Table(
    "procedure_step_studies",
    metadata,
    Column("sop_uid", ForeignKey(procedure_steps.c.sop_uid), primary_key=True),
    Column("study_uid", UID, primary_key=True, index=True),
)

performed_instances = Table(
    "performed_instances",
    metadata,
    Column("step_uid", ForeignKey(procedure_steps.c.sop_uid), primary_key=True),
    Column("sop_uid", UID, primary_key=True),
    Column("series_uid", UID, nullable=False, index=True),
)

# What an archive was asked for a case, and what came of it.
inquiries = Table(
    "inquiries",
    metadata,
    Column("case_id", ForeignKey(cases.c.case_id), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("tries", Integer, nullable=False),
    Column("at", Float, nullable=False),
    Column("answer", Text, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("case_id", String(36), nullable=False, index=True),
    Column("revision", Integer, nullable=False),
    Column("delivery_id", Text),
    Column("event", String(32), nullable=False),
    Column("from_state", String(16), nullable=False),
    Column("to_state", String(16), nullable=False),
    Column("reason", Text, nullable=False),
)

# What came, was made, delivered and removed; append-only, each entry chained to the one before by hash.
ledger = Table(
    "ledger",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", Float, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("case_id", String(36), nullable=False, index=True),
    Column("subject", Text, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("detail", Text, nullable=False),
    Column("previous", String(64), nullable=False),
    Column("digest", String(64), nullable=False),
)

# Workers that are up, or died without a word: ``beats`` counts on as long as ``incarnation`` lives. One that
# was taken over is off the books, until a worker of its name starts.
workers = Table(
    "workers",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("incarnation", String(36), nullable=False),
    Column("beats", Integer, nullable=False),
    Column("seen_at", Float, nullable=False),
    Column("taken_over_at", Float),
    Column("taken_over_by", String(32)),
)

# Who is told of events, destination events, quarantined files and sign-ins, and up to which of each.
feeds = Table(
    "feeds",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("event", Integer, nullable=False),
    Column("destination_event", Integer, nullable=False),
    Column("quarantined", Integer, nullable=False),
    Column("sign_in", Integer, nullable=False, server_default="0"),
    Column("failures", Integer, nullable=False),
    Column("next_try_at", Float),
    Column("claimed_until", Float),
)

# People who may sign in to the page, their sessions and their keys to its API. Secrets as hashes only.
people = Table(
    "people",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("password", Text, nullable=False),  # Argon2id, with its parameters and salt
    Column("since", Float, nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("name", ForeignKey(people.c.name), nullable=False, index=True),
    Column("begun_at", Float, nullable=False),
    Column("seen_at", Float, nullable=False),
)

keys = Table(
    "keys",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("name", ForeignKey(people.c.name), nullable=False, index=True),
    Column("since", Float, nullable=False),
)

# Who signed in or out, or was refused (people.SignIn), from which address.
sign_ins = Table(
    "sign_ins",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("event", String(16), nullable=False),
    Column("name", String(64), nullable=False),  # empty: nobody who is known
    Column("address", Text, nullable=False),
)
