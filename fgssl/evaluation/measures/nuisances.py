"""Measure `nuisances`: variance of light, pose or background that a linear model predicts from the features."""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Field

from fgssl.settings.declare import settings
from fgssl.settings.measure import Column, Measure
from fgssl.settings.validation import unknown

if TYPE_CHECKING:
    from fgssl.evaluation.features import Features, Splits
    from fgssl.store.manifest import Manifest


def _as_attributes(value: object) -> object:
    if value is True:
        raise ValueError("true names no attributes: give some of the data's, e.g. {light: [brightness, warmth]}")
    return {} if value is None or value is False else value


@settings
class Nuisances(Measure):
    """Recorded attributes that a linear model predicts from the features; a good encoder of species ignores them."""

    written: ClassVar[Any] = Annotated[
        dict[str, Annotated[tuple[str, ...], Field(min_length=1)]], BeforeValidator(_as_attributes)
    ]
    attributes: dict[str, tuple[str, ...]]
    """Attributes of the data by a name for the table, e.g. {light: [brightness, warmth]}. In the YAML this mapping is
    the value of the key `nuisances` itself."""

    @classmethod
    def default(cls) -> dict[str, tuple[str, ...]]:
        """Return no attributes."""
        return {}

    @classmethod
    def asked(cls, value: dict[str, tuple[str, ...]]) -> Self | None:
        """Return the measure, or None if no attributes are named."""
        return cls(attributes=value) if value else None

    def columns(self) -> list[Column]:
        """Return the columns `nuisance_<name>`, in percent; lower is better."""
        note = "percent of the attributes' variance that a linear model predicts from the features"
        return [
            Column(name=f"nuisance_{name}", unit="percent", lower_is_better=True, note=note) for name in self.attributes
        ]

    def label_levels(self, label_level: int) -> dict[str, int]:
        """Return no levels, since attributes take the place of labels."""
        return {}

    def lacks(self, manifest: "Manifest", label_level: int) -> list[str]:
        """Return a message for each attribute that the dataset does not record."""
        if not manifest.attributes:
            return [
                f"evaluation.nuisances: {manifest.title} records no attributes of its images: remove this key, or "
                "take data that has attributes, such as toy"
            ]
        if (images := manifest.count("train")) < 2:
            return [
                f"evaluation.nuisances: {manifest.title} has {images} training image, so none can be held out to "
                "choose a penalty: pack more images, or remove this key"
            ]
        return [
            f"evaluation.nuisances.{name}: {unknown(attribute, manifest.attributes, what='attribute')}"
            for name, attributes in self.attributes.items()
            for attribute in attributes
            if attribute not in manifest.attributes
        ]

    def check(self, splits: "Splits") -> None:
        """Raise a `DataError` for constant or infinite attributes, and if no image can be held out."""
        from fgssl.evaluation.nuisances import check_attributes, validation_split

        check_attributes(self.attributes, splits.train.attributes, splits.test.attributes)
        validation_split(splits.train.groups, splits.seed)

    def value(self, features: "Features") -> dict[str, float]:
        """Return the explained variance of each column, from `nuisance_probe`."""
        from fgssl.evaluation.nuisances import nuisance_probe

        return nuisance_probe(
            features.of_train,
            features.train.attributes,
            features.train.groups,
            features.of_test,
            features.test.attributes,
            self.attributes,
            features.seed,
        )
