"""Stored pictures of pages, and how far another is from one."""

from pathlib import Path

from PIL import Image, ImageChops, ImageStat

STORED = Path(__file__).parents[1] / "browser" / "screenshots"
GRAIN = 10  # pixels that an eye takes as one: letters blur, boxes, colours and lines of text remain
PAGE_TOLERANCE = 8.0  # root mean square, of 255: machines have other fonts, which break lines elsewhere


def distance(one: Image.Image, other: Image.Image) -> float:
    size = (one.width // GRAIN, one.height // GRAIN)
    grains = [picture.resize(size, Image.Resampling.BOX) for picture in (one, other)]
    channels: list[float] = ImageStat.Stat(ImageChops.difference(*grains)).rms
    return max(channels)
