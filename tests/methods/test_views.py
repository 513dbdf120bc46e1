"""The views that a method's settings state are those that its two branches use."""

from collections.abc import Callable
from typing import Any

from fgssl.settings.config import Config


def test_settings_and_method_agree(
    every_method: tuple[str, ...], tiny_method: Callable[..., Any], tiny_config: Callable[..., Config]
) -> None:
    method = tiny_method(*every_method)
    config = tiny_config(*every_method)
    stated = config.method.num_views
    assert method.num_views == (config.views.num_recipes if stated is None else stated)
    assert {*method.online_views, *method.target_views} == set(range(method.num_views))
