"""Storage, Verification and Storage Commitment SCP: events become calls, their outcomes a status.

A C-STORE request becomes bytes for the intake. Storage commitment is taken in both roles: requests of
peers (as SCP), and reports of destinations on what we sent them (as SCU that accepts an association).
"""

from __future__ import annotations

import threading
import time
from typing import Any, cast

from pydicom import Dataset
from pydicom import uid as u
from pynetdicom import AE, _config, evt, register_uid
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    ModalityPerformedProcedureStep,
    Verification,
)

from . import log, mpps
from .arrival import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION, Arrival
from .callers import Callers
from .commitment import PUSH_MODEL
from .config import NodeRules, TlsRules
from .dispatch.commitment import take_report
from .errors import BadConfiguration, Conflict, Mismatch, NotDicom, TemporaryError
from .guard import Door, GuardedAssociation, GuardedServer, Limits, Places
from .intake import Incoming, Intake
from .rungs import LABEL_MAP
from .safekeeping import Safekeeper
from .store import CommitmentStore
from .tls import Credentials

_LOG = log.get("listener")

# What a neuro study brings. Association set-up costs time per class: only what the node can keep to a use.
STORED = (
    u.MRImageStorage,
    u.EnhancedMRImageStorage,
    u.EnhancedMRColorImageStorage,
    u.LegacyConvertedEnhancedMRImageStorage,
    u.MRSpectroscopyStorage,
    u.RawDataStorage,
    u.UID("1.3.12.2.1107.5.9.1"),  # Siemens CSA Non-Image: spectra
    u.UID("1.3.46.670589.11.0.0.12.1"),  # Philips Private MR Spectrum
    u.UID("1.3.46.670589.11.0.0.12.2"),  # Philips Private MR Series Data
    u.ParametricMapStorage,
    u.SegmentationStorage,
    LABEL_MAP,
    u.SurfaceSegmentationStorage,
    u.RealWorldValueMappingStorage,
    u.SpatialRegistrationStorage,
    u.DeformableSpatialRegistrationStorage,
    u.SpatialFiducialsStorage,
    u.SecondaryCaptureImageStorage,
    u.MultiFrameSingleBitSecondaryCaptureImageStorage,
    u.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    u.MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    u.MultiFrameTrueColorSecondaryCaptureImageStorage,
    u.BasicTextSRStorage,
    u.EnhancedSRStorage,
    u.ComprehensiveSRStorage,
    u.Comprehensive3DSRStorage,
    u.ExtensibleSRStorage,
    u.ProcedureLogStorage,
    u.AcquisitionContextSRStorage,
    u.KeyObjectSelectionDocumentStorage,
    u.GrayscaleSoftcopyPresentationStateStorage,
    u.ColorSoftcopyPresentationStateStorage,
    u.PseudoColorSoftcopyPresentationStateStorage,
    u.BlendingSoftcopyPresentationStateStorage,
    u.AdvancedBlendingPresentationStateStorage,
    u.EncapsulatedPDFStorage,
    u.PositronEmissionTomographyImageStorage,  # PET/MR
    u.CTImageStorage,
)

# In the order of preference: of what a sender offers in one context, the first of these is taken.
TRANSFER_SYNTAXES = (
    u.ExplicitVRLittleEndian,
    u.ImplicitVRLittleEndian,
    u.DeflatedExplicitVRLittleEndian,
    u.ExplicitVRBigEndian,
    u.JPEGLSLossless,
    u.JPEG2000Lossless,
    u.JPEGLosslessSV1,
    u.JPEGLossless,
    u.RLELossless,
    u.JPEGLSNearLossless,
    u.JPEG2000,
    u.JPEGExtended12Bit,
    u.JPEGBaseline8Bit,
)

# Statuses of C-STORE (PS3.4 B.2.3, PS3.7 9.1.1.1.9 and Annex C), each with words for the sender's log
# (Error Comment, at most 64 characters).
SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
NOT_AUTHORIZED = 0x0124
OUT_OF_RESOURCES = 0xA700
NO_MATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000
# Not 0111H (duplicate SOP Instance): senders count that as delivered, and this one is not.
CONFLICT = 0xC100

_REJECTIONS = {(1, 7): "the called AE title is not this node's (node.ae_title)"}


class _Node(AE):
    @property
    def active_associations(self) -> list[Association]:
        """Those that have asked for an association: a silent connection takes nobody's place."""
        return [a for a in super().active_associations if a.requestor.primitive is not None]


class Listener:
    """The DIMSE server of the node."""

    def __init__(
        self,
        rules: NodeRules,
        intake: Intake,
        *,
        safekeeper: Safekeeper | None = None,
        tls: TlsRules | None = None,
    ) -> None:
        self._rules = rules
        self._tls = tls or TlsRules()
        self._intake = intake
        self._safekeeper = safekeeper
        self._ae = accepting_entity(rules, commitment=safekeeper is not None)
        self._servers: list[GuardedServer] = []

    def start(self) -> None:
        """Listen; returns at once. Raises BadConfiguration if a port cannot be bound, or TLS be spoken."""
        handlers: list[Any] = [
            (evt.EVT_C_STORE, on_c_store, [self._intake]),
            (evt.EVT_C_ECHO, on_c_echo),
            *self._commitment_handlers(),
            *mpps.handlers(self._intake.store, STORED, self._intake.known_as),
            (evt.EVT_ACCEPTED, _on_accepted),
            (evt.EVT_REJECTED, _on_rejected),
            (evt.EVT_RELEASED, _on_released),
            (evt.EVT_ABORTED, _on_aborted),
        ]
        limits = Limits.of(self._rules)
        spool = self._intake.spool
        door = Door(
            limits, Callers(self._rules.allowed_callers), Places(limits), spool.arriving, spool.require_space
        )
        self._open(self._rules.port, handlers, door, None)
        if self._tls.certificate is not None:
            self._open(self._tls.port, handlers, door, Credentials(self._tls))

    def _open(self, port: int, handlers: list[Any], door: Door, credentials: Credentials | None) -> None:
        where = (self._rules.host, port)
        try:
            server = GuardedServer(self._ae, where, self._ae.supported_contexts, handlers, door, credentials)
        except OSError as e:
            raise BadConfiguration(
                f"cannot listen on {where[0]}:{where[1]} ({e.strerror or e}): "
                "another program has the port, or node.host is not an address of this machine"
            ) from e
        self._ae._servers.append(server)  # where the server's own shutdown looks for it
        threading.Thread(target=server.serve_forever, args=(0.1,), name="listener", daemon=True).start()
        self._servers.append(server)
        _LOG.info(
            "listener.started",
            host=where[0],
            port=where[1],
            ae_title=self._rules.ae_title,
            tls=credentials is not None,
        )

    def _commitment_handlers(self) -> list[Any]:
        if self._safekeeper is None:
            return []
        return [
            (evt.EVT_N_ACTION, self._safekeeper.on_action),
            (evt.EVT_N_EVENT_REPORT, on_report, [self._intake.store]),
        ]

    def stop(self, drain_s: float = 20.0) -> None:
        """Accept nothing more, let running associations finish for ``drain_s`` seconds, then abort them."""
        servers, self._servers = self._servers, []
        if not servers:
            return
        for server in servers:
            server.shutdown()
        deadline = time.monotonic() + drain_s
        while self._ae.active_associations and time.monotonic() < deadline:
            time.sleep(0.05)
        for association in self._ae.active_associations:
            association.abort()
        for server in servers:
            server.hang_up()
        _LOG.info("listener.stopped")


def on_c_store(event: evt.Event, intake: Intake) -> Dataset | int:
    """Success means: on disk and in the store, even if the power goes now."""
    association = cast(GuardedAssociation, event.assoc)
    caller = association.requestor.ae_title
    arrival = cast(Arrival, cast(C_STORE, event.request).DataSet)
    if not association.caller.store:
        association.dimse.done_with(arrival)
        _LOG.warning(
            "instance.refused", caller=caller, status=f"{NOT_AUTHORIZED:04X}", reason="may not store"
        )
        return _status(NOT_AUTHORIZED, "this AE title may not store here")
    try:
        intake.accept(incoming(event, arrival), source=caller)
        return SUCCESS
    except TemporaryError as problem:
        status, words, reason = OUT_OF_RESOURCES, "out of resources: send again later", str(problem)
    except Mismatch as problem:
        status, words, reason = NO_MATCH, "data set does not match SOP Class or UID of request", str(problem)
    except Conflict as problem:
        status, words, reason = CONFLICT, "UID already used for other pixels, series or patient", str(problem)
    except NotDicom as problem:
        status, words, reason = CANNOT_UNDERSTAND, "cannot understand the data set", str(problem)
    except Exception as bug:
        # A bug of ours must not end the association. Its message may quote the data set: only its place.
        _LOG.error("instance.failed", caller=caller, **log.place_of(bug))
        return _status(PROCESSING_FAILURE, "internal error, see the node's log")
    finally:
        association.dimse.done_with(arrival)
    _LOG.warning("instance.refused", caller=caller, status=f"{status:04X}", reason=reason)
    return _status(status, words)


def on_c_echo(event: evt.Event) -> int:
    """Verification (PS3.4 A)."""
    return SUCCESS


def on_report(event: evt.Event, store: CommitmentStore) -> tuple[int, None]:
    """A destination reports what it keeps of our results (N-EVENT-REPORT, PS3.4 J.3.3)."""
    return take_report(event, store), None


def incoming(event: evt.Event, arrival: Arrival) -> Incoming:
    """The request's data set, bit for bit as received, as a Part 10 file with a preamble of ours.

    Nothing of sender or time goes into the file meta information: the same instance is the same bytes
    whoever sends it. Raises Mismatch if the request's SOP Class is not that of its presentation context,
    OutOfSpace if the data set found no room.
    """
    request = cast(C_STORE, event.request)
    sop_class, sop_instance = str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID)
    if sop_class != event.context.abstract_syntax:
        raise Mismatch("the request's SOP Class is not the one agreed for its presentation context")
    return Incoming(arrival.file, sop_class, sop_instance)


def _status(status: int, words: str) -> Dataset:
    answer = Dataset()
    answer.Status = status
    answer.ErrorComment = words
    return answer


def accepting_entity(rules: NodeRules, commitment: bool) -> AE:
    """The application entity that a node's ports offer; ``commitment``: Storage Commitment in both roles."""
    _config.LOG_HANDLER_LEVEL = "none"  # pynetdicom would write out every PDU, and then throw it away
    ae = _Node(rules.ae_title)
    ae.implementation_class_uid = u.UID(IMPLEMENTATION_CLASS_UID)
    ae.implementation_version_name = IMPLEMENTATION_VERSION
    ae.require_called_aet = rules.require_called_ae
    ae.maximum_associations = rules.max_associations
    ae.maximum_pdu_size = rules.max_pdu_bytes
    ae.acse_timeout = rules.acse_timeout_s
    ae.dimse_timeout = rules.dimse_timeout_s
    ae.network_timeout = rules.network_timeout_s
    ae.add_supported_context(Verification)
    ae.add_supported_context(ModalityPerformedProcedureStep)
    for sop_class in STORED:
        if sop_class.is_private:
            register_uid(sop_class, f"Private{sop_class.replace('.', '_')}", StorageServiceClass)
        ae.add_supported_context(sop_class, list(TRANSFER_SYNTAXES))
    if commitment:
        syntaxes = [u.ExplicitVRLittleEndian, u.ImplicitVRLittleEndian]
        ae.add_supported_context(PUSH_MODEL, syntaxes, scu_role=True, scp_role=True)
    return ae


def _on_accepted(event: evt.Event) -> None:
    _log("association.accepted", event)


def _on_released(event: evt.Event) -> None:
    _log("association.released", event)


def _on_aborted(event: evt.Event) -> None:
    _log("association.aborted", event)


def _on_rejected(event: evt.Event) -> None:
    question: Any = event.assoc.requestor.primitive
    answer: Any = event.assoc.acceptor.primitive
    reason = _REJECTIONS.get((answer.result_source, answer.diagnostic), "rejected")
    _log("association.rejected", event, called=question.called_ae_title, reason=reason)


def _log(what: str, event: evt.Event, **also: str) -> None:
    peer = event.assoc.requestor
    _LOG.info(what, caller=peer.ae_title, address=peer.address, **also)
