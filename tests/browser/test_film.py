"""The whole play saved as a moving picture, read back by Pillow."""

import base64
import io
import random
import struct

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect
from tools import reused

import microgrid as mg
from microgrid.drawing.explorer import explore
from microgrid.theme import DARK, LIGHT


def frames_of(path):
    """Each frame as it is seen, and how long it stands, in milliseconds."""
    with Image.open(path) as film:
        for k in range(film.n_frames):
            film.seek(k)
            yield film.convert("RGB"), film.info["duration"]


def rgb(text):
    return tuple(int(text[k : k + 2], 16) for k in (1, 3, 5))


def saved(page, path, by="click"):
    with page.expect_download() as download:
        page.click("#save-gif") if by == "click" else page.locator("#save-gif").press("Enter")
    download.value.save_as(path)
    return download.value.suggested_filename


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_play_is_saved_as_a_gif_of_all_steps_that_runs_for_ever(browser, tmp_path, scheme):
    page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme=scheme)
    page.goto(explore(reused(), title="A lesson").save(tmp_path / "page.html").as_uri())
    page.evaluate("goTo(2)")
    name = saved(page, tmp_path / "film.gif", "click" if scheme == "light" else "key")
    assert name == "A lesson.gif"
    expect(page.locator("#said")).to_have_text("The film is saved", timeout=30_000)  # as long as drawing it takes
    assert page.evaluate("now") == 2, "the play stands where it stood"
    frames = list(frames_of(tmp_path / "film.gif"))
    assert len(frames) == page.evaluate("lastStep + 1")
    assert [pause for _, pause in frames] == [1300] * (len(frames) - 1) + [3000]
    assert b"NETSCAPE2.0\x03\x01\x00\x00" in (tmp_path / "film.gif").read_bytes(), "it begins again"
    colors = LIGHT if scheme == "light" else DARK
    for frame, _ in frames:
        assert frame.getpixel((3, 3)) == rgb(colors["paper"])
    seen = [{color for _, color in frame.getcolors(1 << 20)} for frame, _ in frames]
    tint = rgb(colors["positive 4"])
    assert tint not in seen[0]
    assert tint in seen[-1], "gradients have their colours at the end"
    page.close()


@pytest.mark.parametrize("step", [0, 3, "lastStep"])
def test_each_frame_is_the_picture_of_its_step_with_its_words(show, tmp_path, step):
    page = show(explore(reused(), theme="light"))
    saved(page, tmp_path / "film.gif")
    number = page.evaluate(f"goTo({step}), now")
    film = list(frames_of(tmp_path / "film.gif"))[number][0]
    drawn = page.evaluate(
        """async () => {
          const scale = Math.min(FILM.scale, FILM.width / (bounds[2] - bounds[0] + 2 * STEP_MARGIN));
          const columns = Math.floor(((bounds[2] - bounds[0] + 2 * STEP_MARGIN) * scale) / (0.58 * FILM.letter));
          const image = await rasterOf(svgOfStep(captionOf(columns), FILM.letter / scale));
          const canvas = document.createElement("canvas");
          [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight].map(x => Math.ceil(scale * x));
          canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
          return canvas.toDataURL().split(",")[1];
        }"""
    )
    with Image.open(io.BytesIO(base64.b64decode(drawn))) as image:
        pixels = np.asarray(image.convert("RGB"), dtype=int)
    far = np.abs(np.asarray(film, dtype=int) - pixels).max(axis=2) > 24
    assert far.mean() < 0.002
    assert page.evaluate("captionOf(200)")[0].startswith(("The leaves", "Forward", "Backward"))


def test_pixels_come_back_as_they_were_however_many_codes_they_need(show, tmp_path):
    page = show(explore(mg.Value(1.0, label="x")))
    generator = random.Random(0)
    width, height = 97, 83
    palette = [0xFF000000 | 16 * r | 4096 * g | (1 << 20) * b for r in range(7) for g in range(6) for b in range(6)]
    pictures = [[0xFFFFFFFF] * (width * height)]
    pictures.append([generator.choice(palette) for _ in range(width * height)])
    pictures.append(pictures[-1])
    pictures.append([*pictures[-1][:4000], palette[3], *pictures[-1][4001:]])
    data = page.evaluate(
        """([width, height, pictures]) => {
          const list = pictures.map(pixels => Uint32Array.from(pixels));
          const frames = list.map((pixels, k) => gif.changed(pixels, k ? list[k - 1] : null, width, 100));
          return [frames.map(frame => frame.width * frame.height), [...gif.encode(width, height, frames)]];
        }""",
        [width, height, pictures],
    )
    assert data[0] == [width * height, width * height, 1, 1], "only what changes is stored"
    (tmp_path / "noise.gif").write_bytes(bytes(data[1]))
    found = list(frames_of(tmp_path / "noise.gif"))
    assert len(found) == len(pictures)
    for (frame, _), pixels in zip(found, pictures, strict=True):
        assert frame.tobytes() == b"".join(struct.pack("<I", pixel)[:3] for pixel in pixels)


def test_a_play_too_long_for_a_film_says_so(show):
    y = mg.Value(0.5, label="x")
    for _ in range(150):
        y = mg.sin(y)
    page = show(explore(y))
    page.click("#save-gif")
    expect(page.locator("#said")).to_contain_text("A film has up to 240 steps, and this play has 302")
