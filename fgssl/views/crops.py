"""Square uint8 crops of encoded images, on the CPU."""

import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from fgssl import randomness
from fgssl.settings.views import ViewSettings

_TRIES = 10


def decode(encoded: bytes) -> Image.Image:
    """Return an upright RGB image; gray, palette, CMYK, transparent and 16-bit images are converted.

    Raises:
        OSError: The bytes are not a readable image.
    """
    return upright_rgb(Image.open(io.BytesIO(encoded)))


def upright_rgb(image: Image.Image) -> Image.Image:
    """Return the image turned upright and in RGB, as `decode` does."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # Pillow would clip 16 bits instead of scaling them
        image = Image.fromarray((np.asarray(image, dtype=np.float64) / 257).clip(0, 255).astype(np.uint8))
    return image if image.mode == "RGB" else image.convert("RGB")


def resized(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """Return the whole image as (size, size, 3), by bilinear interpolation with antialiasing."""
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image)


def center_cropped(image: Image.Image, shorter_side: int, size: int) -> NDArray[np.uint8]:
    """Resize the shorter side to `shorter_side` and take the middle `size` x `size`: (size, size, 3)."""
    width, height = image.size
    shorter = min(width, height)
    # Rounded down, as in torchvision.
    image = image.resize((width * shorter_side // shorter, height * shorter_side // shorter), Image.Resampling.BILINEAR)
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    return np.asarray(image.crop((left, top, left + size, top + size)))


def evaluation_crop(image: Image.Image, views: ViewSettings) -> NDArray[np.uint8]:
    """Return the fixed crop of an image that evaluations see: (image_size, image_size, 3)."""
    if views.evaluation_resize is not None:
        return center_cropped(image, views.evaluation_resize, views.image_size)
    return resized(image, views.image_size)


def crop_numbers(seed: int, stream: str, view_key: int, view: int, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return uniform numbers (N, tries, 4) that decide the crop of each image."""
    numbers = randomness.uniform(seed, f"crop/{stream}", view_key, view, rows=rows, columns=_TRIES * 4)
    return numbers.reshape(len(rows), _TRIES, 4)


def random_crop_box(
    width: int, height: int, numbers: NDArray[np.float64], area: tuple[float, float]
) -> tuple[int, int, int, int]:
    """Return the box (left, top, right, bottom) of torchvision's RandomResizedCrop.

    `area` bounds its share of the image's area; its aspect ratio is between 3/4 and 4/3. If no try of `numbers`
    (tries, 4) fits into the image, the box is in the middle, as in torchvision.
    """
    low, high = math.log(3 / 4), math.log(4 / 3)
    for share, ratio, across, down in numbers:
        crop_area = width * height * (area[0] + (area[1] - area[0]) * share)
        aspect = math.exp(low + (high - low) * ratio)
        crop_width, crop_height = round(math.sqrt(crop_area * aspect)), round(math.sqrt(crop_area / aspect))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            left, top = int(across * (width - crop_width + 1)), int(down * (height - crop_height + 1))
            return left, top, left + crop_width, top + crop_height
    crop_width = min(width, round(height * 4 / 3))
    crop_height = min(height, round(width * 4 / 3))
    left, top = (width - crop_width) // 2, (height - crop_height) // 2
    return left, top, left + crop_width, top + crop_height


def random_resized_crop(
    image: Image.Image, numbers: NDArray[np.float64], area: tuple[float, float], size: int
) -> NDArray[np.uint8]:
    """Return a random crop of the image, resized to (size, size, 3)."""
    box = random_crop_box(*image.size, numbers=numbers, area=area)
    return np.asarray(image.crop(box).resize((size, size), Image.Resampling.BILINEAR))
