"""A picture of one episode: frames above, the actions as a timeline below."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

CAMERA = "observation.images.main"
FRAMES, THUMB_WIDTH, LABEL_WIDTH, LANE_HEIGHT, MARGIN = 6, 240, 150, 26, 16
INK, PAPER, LINE, POSITIVE, NEGATIVE = "#1f2933", "#ffffff", "#d9dee4", (31, 119, 180), (214, 96, 77)


def draw_episode(dataset: Any, episode: int, path: Path) -> Path:
    """Draw an episode of a LeRobotDataset to a PNG file; returns its path."""
    meta = dataset.meta.episodes[episode]
    first, last = int(meta["dataset_from_index"]), int(meta["dataset_to_index"])
    actions = np.stack([np.asarray(row) for row in dataset.hf_dataset[first:last]["action"]])
    names = dataset.features["action"]["names"]
    shown = [first + round(i * (last - first - 1) / (FRAMES - 1)) for i in range(FRAMES)]
    thumbs = [_thumbnail(dataset[index][CAMERA]) for index in shown]
    font = ImageFont.load_default(size=14)

    width = 2 * MARGIN + LABEL_WIDTH + FRAMES * THUMB_WIDTH
    top = MARGIN + 28 + thumbs[0].height + 28
    sheet = Image.new("RGB", (width, top + len(names) * LANE_HEIGHT + 28 + MARGIN), PAPER)
    pen = ImageDraw.Draw(sheet)
    seconds = len(actions) / dataset.fps
    title = f"{str(meta['session']).partition('@')[0]}, episode {episode}: {len(actions)} frames, {seconds:.1f} s"
    pen.text((MARGIN, MARGIN), title, INK, font)
    for i, (index, thumb) in enumerate(zip(shown, thumbs, strict=True)):
        x = MARGIN + LABEL_WIDTH + i * THUMB_WIDTH
        sheet.paste(thumb, (x, MARGIN + 28))
        pen.text((x + 4, MARGIN + 30 + thumb.height), f"{(index - first) / dataset.fps:.2f} s", INK, font)
    for lane, name in enumerate(names):
        _lane(sheet, pen, (MARGIN, top + lane * LANE_HEIGHT), str(name), actions[:, lane], font)
    pen.text((MARGIN + LABEL_WIDTH, sheet.height - MARGIN - 18), "action: blue is positive, red negative", INK, font)
    sheet.save(path)
    return path


def _thumbnail(frame: Any) -> Image.Image:
    pixels = np.rint(np.moveaxis(frame.numpy(), 0, 2) * 255).astype(np.uint8)
    image = Image.fromarray(pixels)
    return image.resize((THUMB_WIDTH - 6, round(image.height * (THUMB_WIDTH - 6) / image.width)))


def _lane(sheet: Image.Image, pen: ImageDraw.ImageDraw, at: tuple[int, int], name: str, values: Any, font: Any) -> None:
    """One slot of the action over time, each column of pixels as strong as its largest value there."""
    x, y = at
    pen.text((x, y + 4), name, INK, font)
    columns = np.array_split(values, min(len(values), FRAMES * THUMB_WIDTH))
    strip = Image.new("RGB", (len(columns), 1), PAPER)
    for i, column in enumerate(columns):
        value = float(column[np.argmax(np.abs(column))])
        colour, weight = (POSITIVE if value > 0 else NEGATIVE), min(1.0, abs(value))
        strip.putpixel((i, 0), (_mix(colour[0], weight), _mix(colour[1], weight), _mix(colour[2], weight)))
    size = (FRAMES * THUMB_WIDTH - 6, LANE_HEIGHT - 6)
    sheet.paste(strip.resize(size, Image.Resampling.NEAREST), (x + LABEL_WIDTH, y))
    pen.line([(x + LABEL_WIDTH, y + size[1] + 2), (x + LABEL_WIDTH + size[0], y + size[1] + 2)], LINE)


def _mix(colour: int, weight: float) -> int:
    return round(255 + (colour - 255) * weight)
