"""What a person does with a delivery: stop it, let it go on, have it tried again."""

from __future__ import annotations

from dicom_node.errors import UnsuitableInput
from dicom_node.study import UNDER_WAY, DeliveryState

from .deliveries import DeliveryStore


class HandlingStore(DeliveryStore):
    """Deliveries, moved by hand."""

    def hold_delivery(self, delivery_id: str, because: str) -> None:
        """A person stops a delivery; a try under way ends first.

        Raises UnsuitableInput if it is not known or not under way.
        """
        delivery = self.delivery(delivery_id)
        if delivery.state not in UNDER_WAY:
            raise UnsuitableInput(f"delivery {delivery_id} is {delivery.state}: there is nothing to hold")
        self._move(delivery, DeliveryState.HELD, because, next_try_at=None)

    def release_delivery(self, delivery_id: str, because: str) -> None:
        """A held delivery goes on, with its whole time before it is given up.

        Raises UnsuitableInput if it is not known or not held.
        """
        delivery = self.delivery(delivery_id)
        if delivery.state is not DeliveryState.HELD:
            raise UnsuitableInput(f"delivery {delivery_id} is {delivery.state}, not held")
        self._move(
            delivery,
            DeliveryState.PENDING,
            because,
            tries=delivery.tries + 1,  # the run that was due when it was held has ended unused
            failures=0,
            started_at=self.clock(),
        )

    def retry_delivery(self, delivery_id: str, because: str = "retried") -> None:
        """A person wants a failed delivery tried again: a new attempt, everything counted anew.

        Raises UnsuitableInput if it is not known or has not failed.
        """
        delivery = self.delivery(delivery_id)
        if delivery.state is not DeliveryState.FAILED:
            raise UnsuitableInput(f"delivery {delivery_id} is {delivery.state}; only a FAILED one is retried")
        self._move(
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
