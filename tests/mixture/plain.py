"""AGMMLoss as the equations of the method read: every term, and each cell by itself."""

from typing import Any

from agmm.mixture import AGMMLoss

PLAIN: dict[str, Any] = {
    "mixture_likelihood": 0.03, "mutual": 0.1, "mutual_features": 0.1, "maximisation": 0.01,
    "separation": 0.01, "unlabelled_weight": 0.1, "running_share": 0.0, "temperature": 0.1,
    "coherence": 0.0, "network_prior": False, "confidence": "largest", "label_worth": 0.0,
    "presence": False, "prior_floor": 0.0,
}  # fmt: skip


def plain_loss(num_classes: int, feature_channels: int, **options: Any) -> AGMMLoss:
    """The loss with these options, where no others are given; one temperature for all images."""
    options = {**PLAIN, **options}
    return AGMMLoss(
        num_classes,
        feature_channels,
        **{"prediction_temperature": options["temperature"], **options},
    )
