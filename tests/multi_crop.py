"""Views of two sizes for tests: the recipes of DINO, small."""

RECIPES = (
    "views.recipes=[{crop_area: [0.25, 1.0], blur_probability: 1.0}, {crop_area: [0.25, 1.0], blur_probability: 0.1, "
    "solarize_probability: 0.2}, {count: 3, crop_area: [0.05, 0.25], image_size: 8}]"
)
"""Override for two large views with different colors and three small ones."""
