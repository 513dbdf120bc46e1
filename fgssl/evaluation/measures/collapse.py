"""Measure `collapse`: spread of the test features, and number of dimensions that they fill."""

from typing import TYPE_CHECKING

from fgssl.settings.declare import settings
from fgssl.settings.measure import Column, Measure

if TYPE_CHECKING:
    from fgssl.evaluation.features import Features


@settings
class Collapse(Measure):
    """Spread and effective rank of the test features."""

    def columns(self) -> list[Column]:
        """Return the columns `feature_std` and `effective_rank`."""
        spread = "1 if the features' directions are spread evenly, 0 if they are all the same"
        rank = "number of dimensions that the features fill"
        return [
            Column(name="feature_std", unit="number", note=spread),
            Column(name="effective_rank", unit="number", note=rank),
        ]

    def label_levels(self, label_level: int) -> dict[str, int]:
        """Return no levels, since collapse is a property of the features alone."""
        return {}

    def value(self, features: "Features") -> dict[str, float]:
        """Return both columns, as `fgssl.collapse` defines them."""
        from fgssl.collapse import effective_rank, normalized_std
        from fgssl.evaluation.features import require_finite

        require_finite(features.of_test, "collapse", "test")
        return {
            "feature_std": float(normalized_std(features.of_test.double())),
            "effective_rank": float(effective_rank(features.of_test)),
        }
