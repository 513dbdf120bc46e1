"""How evenly the test features are spread and how many dimensions they fill."""

from typing import TYPE_CHECKING

from fgssl.settings.declare import settings
from fgssl.settings.measure import Column, Measure

if TYPE_CHECKING:
    from fgssl.evaluation.features import Features


@settings
class Collapse(Measure):
    """Spread and effective rank of the test features."""

    def columns(self) -> list[Column]:
        spread = "1 where the features' directions are spread evenly, 0 where they are all the same"
        rank = "number of dimensions that the features fill"
        return [
            Column(name="feature_std", unit="number", note=spread),
            Column(name="effective_rank", unit="number", note=rank),
        ]

    def label_levels(self, label_level: int) -> dict[str, int]:
        return {}

    def value(self, features: "Features") -> dict[str, float]:
        from fgssl.collapse import effective_rank, normalized_std
        from fgssl.evaluation.features import require_finite

        require_finite(features.of_test, "collapse", "test")
        return {
            "feature_std": float(normalized_std(features.of_test.double())),
            "effective_rank": float(effective_rank(features.of_test)),
        }
