"""Associations that we request: with the node's time-outs, and their failures in words."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from pydicom.uid import UID
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association

from .arrival import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION
from .checkpoint import Checkpoint
from .config import ClientTls, NodeRules
from .errors import PeerUnreachable, Refused
from .tls import ClientContext, client_context


class NothingAccepted(Refused):
    """The association was accepted, though not one of the presentation contexts that we asked for."""


class Peer(Protocol):
    """Where another application entity listens."""

    @property
    def ae_title(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def tls(self) -> ClientTls | None: ...


def requestor(node: NodeRules) -> AE:
    """An application entity under the node's title and with its time-outs."""
    _config.LOG_HANDLER_LEVEL = "none"  # pynetdicom would write out every PDU, and then throw it away
    ae = AE(ae_title=node.ae_title)
    ae.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    ae.implementation_version_name = IMPLEMENTATION_VERSION
    ae.acse_timeout = node.acse_timeout_s
    ae.dimse_timeout = node.dimse_timeout_s
    ae.network_timeout = node.network_timeout_s
    ae.connection_timeout = node.acse_timeout_s
    return ae


def ask(
    ae: AE,
    peer: Peer,
    tls: tuple[ClientContext, str] | None,
    roles: Sequence[Any] = (),
    handlers: Sequence[Any] = (),
) -> Association:
    """An association with ``peer``, or what came of asking for it. ``tls``: of ``tls_to``.

    Raises PeerUnreachable where not even a connection can be tried: a host name that nobody knows, say.
    """
    try:
        return ae.associate(
            peer.host,
            peer.port,
            ae_title=peer.ae_title,
            ext_neg=list(roles),
            evt_handlers=[BOUNDED, *handlers],
            tls_args=tls,
        )
    except OSError as e:
        raise PeerUnreachable(f"{peer.ae_title} at {peer.host}:{peer.port}: {e.strerror or e}") from e


def _bound(event: evt.Event) -> None:
    """Comes once the connection is there, before the association request goes out."""
    association: Any = event.assoc
    association._reactor_checkpoint = Checkpoint(association)
    wire: socket.socket = association.dul.socket.socket
    # pynetdicom reads and writes without a limit, and aborting waits for whoever reads or writes: a peer that
    # goes silent in the middle of a PDU, or stops reading, would be waited for until the node is restarted.
    wire.settimeout(association.network_timeout)
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # Without it Nagle's algorithm and the peer's delayed ACK cost up to 40 ms for each instance.
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


# Among the event handlers of every association that is requested.
BOUNDED = (evt.EVT_CONN_OPEN, _bound)


def no_association(where: str, tls: tuple[ClientContext, str] | None) -> PeerUnreachable | Refused:
    """Why there is none with ``where``, as far as it can be known."""
    if tls is None:
        return PeerUnreachable(f"{where} does not answer: is it running, and is the port right?")
    if problem := tls[0].problem:
        return Refused(f"{where}: its TLS certificate is not trusted here, see tls.trusted: {problem}")
    return PeerUnreachable(
        f"{where} does not answer over TLS: is it running, is that its TLS port, and does it trust our "
        "certificate?"
    )


def tls_to(peer: Peer) -> tuple[ClientContext, str] | None:
    """What pynetdicom wants for TLS to ``peer``: the context, and whom its certificate must name.

    Files are read anew each time: a renewed certificate needs no restart. Raises BadConfiguration.
    """
    return None if peer.tls is None else (client_context(peer.tls), peer.tls.server_name or peer.host)


@contextmanager
def associate(
    ae: AE,
    peer: Peer,
    name: str,
    *,
    roles: Sequence[Any] = (),
    handlers: Sequence[Any] = (),
) -> Iterator[Association]:
    """An association with ``peer``, released at the end. ``roles`` go into role selection (PS3.7 D.3.3.4).

    Raises PeerUnreachable (nobody there, or rejected-transient), Refused (rejected-permanent) or
    NothingAccepted, saying why.
    """
    where = f"{name} ({peer.ae_title} at {peer.host}:{peer.port})"
    tls = tls_to(peer)
    association = ask(ae, peer, tls, roles, handlers)
    if association.is_rejected:
        answer: Any = association.acceptor.primitive
        words = f"{where} rejected the association: {answer.reason_str if answer else 'no reason given'}"
        if answer is None or answer.result == 0x02:  # PS3.8 9.3.4: rejected-transient
            raise PeerUnreachable(f"{words} (for now, as it says)")
        raise Refused(f"{words}. Check that it knows our AE title {ae.ae_title!r} and that its own is right")
    if not association.is_established:
        if association.rejected_contexts and not association.accepted_contexts:
            raise NothingAccepted(f"{where} takes none of the objects or services that we ask for")
        raise no_association(where, tls)
    try:
        yield association
    finally:
        if association.is_established:
            association.release()
