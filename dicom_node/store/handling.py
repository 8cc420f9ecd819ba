"""What a person does with a delivery: stop it, let it go on, have it tried again."""

from __future__ import annotations

from dicom_node.errors import UnsuitableInput
from dicom_node.study import UNDER_WAY, DeliveryState

from .deliveries import DeliveryStore


class HandlingStore(DeliveryStore):
    """Deliveries, moved by hand."""

    def hold_delivery(self, delivery_id: str, because: str) -> None:
        """A person stops a delivery; a try under way ends first, and it is STOPPING until then.

        Raises UnsuitableInput if it is not known or not under way.
        """
        with self._write() as tx:
            delivery = self._named(tx, delivery_id)
            if delivery.state not in UNDER_WAY:
                raise UnsuitableInput(f"delivery {delivery_id} is {delivery.state}: there is nothing to hold")
            held = DeliveryState.STOPPING if delivery.state is DeliveryState.SENDING else DeliveryState.HELD
            self._move_in(tx, delivery, held, because, next_try_at=None)

    def release_delivery(self, delivery_id: str, because: str) -> None:
        """A held delivery goes on, with its whole time before it is given up; no try begins beside another.

        Raises UnsuitableInput if it is not known or not held.
        """
        with self._write() as tx:
            delivery = self._named(tx, delivery_id)
            anew = {"failures": 0, "started_at": self.clock()}
            if (
                delivery.state is DeliveryState.STOPPING
            ):  # the try that was under way when it was held still is
                self._move_in(tx, delivery, DeliveryState.SENDING, because, **anew)
            elif delivery.state is DeliveryState.HELD:
                tries = delivery.tries + 1  # the run that was due when it was held has ended unused
                self._move_in(tx, delivery, DeliveryState.PENDING, because, tries=tries, **anew)
            else:
                raise UnsuitableInput(f"delivery {delivery_id} is {delivery.state}, not held")

    def retry_delivery(self, delivery_id: str, because: str = "retried") -> None:
        """A person wants a failed delivery tried again: a new attempt, everything counted anew.

        Raises UnsuitableInput if it is not known or has not failed.
        """
        with self._write() as tx:
            delivery = self._named(tx, delivery_id)
            if delivery.state is not DeliveryState.FAILED:
                raise UnsuitableInput(
                    f"delivery {delivery_id} is {delivery.state}; only a FAILED one is retried"
                )
            self._move_in(
                tx,
                delivery,
                DeliveryState.PENDING,
                because,
                attempt=delivery.attempt + 1,
                tries=0,
                failures=0,
                resends=0,
                missing="",
                started_at=self.clock(),
                next_try_at=None,
            )
