"""Recipes: inheritance between views, and errors."""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import pytest
from ruamel.yaml import YAML

from fgssl.errors import SettingsError
from fgssl.settings import config as configs
from fgssl.settings import fingerprints
from fgssl.settings.config import Config
from fgssl.settings.methods import BYOLSettings, MethodSettings
from fgssl.settings.views import RecipeSettings, ViewRecipe, ViewSettings
from fgssl.settings.without_negatives import DINOSettings, VICRegSettings

MULTI_CROP = [{"count": 2, "crop_area": [0.25, 1.0]}, {"count": 8, "crop_area": [0.05, 0.25], "image_size": 96}]


def views(method: str = "byol", **settings: Any) -> ViewSettings:
    return configs.parse({"views": settings, "method": {"name": method}}, "run.yaml").views


def problems(method: str = "byol", **settings: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        views(method, **settings)
    return str(caught.value)


def test_without_recipes_all_views_are_made_alike() -> None:
    settings = ViewSettings(image_size=32)
    assert settings.of_each(3) == (settings,) * 3


def test_a_recipe_inherits_what_it_does_not_give() -> None:
    settings = ViewSettings(
        hue=0.2, horizontal_flip=False, recipes=(RecipeSettings(count=8, crop_area=(0.05, 0.25), image_size=96),)
    )
    recipes = settings.of_each(8)
    assert len(set(recipes)) == 1
    assert (recipes[0].image_size, recipes[0].crop_area) == (96, (0.05, 0.25))
    assert (recipes[0].hue, recipes[0].horizontal_flip, recipes[0].blur_probability) == (0.2, False, 0.5)


def test_asymmetric_colors() -> None:
    settings = views(saturation=0.2, recipes=[{"blur_probability": 1.0}, {"solarize_probability": 0.2}])
    first, second = settings.of_each(2)
    assert (first.blur_probability, first.solarize_probability, first.saturation) == (1.0, 0.0, 0.2)
    assert (second.blur_probability, second.solarize_probability, second.saturation) == (0.5, 0.2, 0.2)


def own_views(settings: type[MethodSettings]) -> ViewSettings:
    """Return the views of a method's paper, as the docstring of its settings gives them."""
    (given,) = re.findall(r"`(views: [^`]*)`", " ".join((settings.__doc__ or "").split()))
    return views(settings.name, **YAML(typ="safe").load(given)["views"])


def test_byols_own_views_are_as_its_settings_give_them() -> None:
    first, second = own_views(BYOLSettings).of_each(2)
    assert first == ViewRecipe(crop_area=(0.08, 1.0), saturation=0.2, blur_probability=1.0)
    assert second == dataclasses.replace(first, blur_probability=0.1, solarize_probability=0.2)


def test_dinos_own_views_are_as_its_settings_give_them() -> None:
    first, second, *small = own_views(DINOSettings).of_each(10)
    assert first == ViewRecipe(crop_area=(0.25, 1.0), saturation=0.2, blur_probability=1.0)
    assert second == dataclasses.replace(first, blur_probability=0.1, solarize_probability=0.2)
    assert small == [dataclasses.replace(first, blur_probability=0.5, crop_area=(0.05, 0.25), image_size=96)] * 8


def test_vicregs_own_views_are_as_its_settings_give_them() -> None:
    expected = ViewSettings(crop_area=(0.08, 1.0), saturation=0.2, solarize_probability=0.1)
    assert own_views(VICRegSettings) == expected


def test_a_method_that_takes_no_views_takes_any_recipes() -> None:
    assert views("decoder", image_size=64, recipes=[{}, {}]) == views("decoder", image_size=64)
    assert ViewSettings(recipes=(RecipeSettings(),)).of_each(0) == ()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"recipes": [{"blur_probability": 1.5}]}, "views.recipes.0.blur_probability: 1.5 is not allowed"),
        ({"recipes": [{}, {"crop_area": [0.5, 0.2]}]}, "recipes.1: crop_area (0.5, 0.2): the first number must not"),
        ({"recipes": [{}, {"crop_areas": [0.2, 0.5]}]}, "unknown key 'crop_areas': did you mean 'crop_area'?"),
        ({"recipes": [{"horizontal_flip": False}]}, "unknown key 'horizontal_flip'"),
        ({"recipes": [{"count": 0}]}, "views.recipes.0.count: 0 is not allowed"),
    ],
)
def test_a_faulty_recipe_is_named(settings: dict[str, Any], message: str) -> None:
    assert message in problems(**settings)


def test_the_method_says_how_many_views_it_takes() -> None:
    assert "method byol takes 2 views, but views.recipes makes 10: " in problems(recipes=MULTI_CROP)
    assert "method cross_entropy takes 1 view, but views.recipes makes 2: " in problems(
        "cross_entropy", recipes=[{}, {}]
    )


def test_a_method_of_any_number_of_views_needs_recipes() -> None:
    assert "method dino takes its views from views.recipes: give at least one recipe" in problems("dino")
    assert views("dino", recipes=[{"count": 3}]).num_recipes == 3


def test_recipes_that_change_nothing_are_none() -> None:
    assert views(hue=0.2, recipes=[{}, {"hue": 0.2}]) == views(hue=0.2)
    assert views(recipes=[{}, {"hue": 0.2}]).recipes


def test_recipes_come_back_from_yaml_and_are_in_the_fingerprint() -> None:
    config = configs.parse({"views": {"recipes": [{"blur_probability": 1.0}, {}]}, "method": {"name": "byol"}}, "x")
    assert configs.parse(fingerprints.to_mapping(config), "x") == config
    plain = configs.parse({"method": {"name": "byol"}}, "x")
    assert fingerprints.training_fingerprint(config) != fingerprints.training_fingerprint(plain)


def test_contrastive_crop_keeps_only_what_it_uses(tiny_config: Callable[..., Config]) -> None:
    """Equal runs share a folder: a fixed box is never searched, and a method without views crops nothing."""
    simclr = "method={name: simclr, hidden_width: 16, projection_width: 8}"
    center, other = (
        tiny_config(simclr, f"views.contrastive_crop={{boxes: center, every_epochs: {every}}}") for every in (5, 20)
    )
    assert center == other
    five, default = (
        tiny_config(simclr, "training.epochs=100", f"views.contrastive_crop={crop}")
        for crop in ("{every_epochs: 5}", "true")
    )
    assert five.views.contrastive_crop != default.views.contrastive_crop
    plain = tiny_config("method={name: decoder}")
    assert tiny_config("method={name: decoder}", "views.contrastive_crop=true") == plain


def test_background_keeps_only_what_it_uses(tiny_config: Callable[..., Config]) -> None:
    simclr = "method={name: simclr, hidden_width: 16, projection_width: 8}"
    plain, pasted = tiny_config(simclr), tiny_config(simclr, "views.background=true")
    assert tiny_config(simclr, "views.background={probability: 0}") == plain
    one, other = (
        tiny_config(simclr, f"views.background={{kinds: {kinds}}}")
        for kinds in ("[gray, image]", "[image, gray, gray]")
    )
    assert one == other != pasted
    decoder = "method={name: decoder}"
    assert tiny_config(decoder, "views.background=true") == tiny_config(decoder)
    with pytest.raises(SettingsError, match=r"views.background.*kinds: give at least one of image, gray and texture"):
        tiny_config(simclr, "views.background={kinds: []}")


def test_the_built_in_dataset_has_masks_where_views_need_them(tiny_config: Callable[..., Config]) -> None:
    simclr = "method={name: simclr, hidden_width: 16, projection_width: 8}"
    plain, pasted = tiny_config(simclr), tiny_config(simclr, "views.background=true")
    assert (plain.data.toy.draw_masks, pasted.data.toy.draw_masks) == (False, True)
    packed = tiny_config(simclr, "views.background=true", "data.folder=shards/toy")
    assert not packed.data.toy.draw_masks
    names = [fingerprints.training_fingerprint(config) for config in (plain, pasted, packed)]
    masked = tiny_config(simclr, "data.toy.draw_masks=true")
    assert fingerprints.training_fingerprint(masked) == names[0] != names[1] == names[2]


def test_hcl_ignores_the_size_of_weights_that_it_does_not_use(tiny_config: Callable[..., Config]) -> None:
    ignoring = "method={name: hcl, hidden_width: 16, projection_width: 8, weighting: ignore}"
    found = [tiny_config(ignoring, f"method.level_weights={weights}") for weights in ([1, 0.1], [1, 0.7], [1, 0])]
    assert found[0] == found[1]
    assert found[0] != found[2]
