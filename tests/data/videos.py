"""Folders of drawn "videos": scenes of shapes, each shown in frames that differ by a jitter of camera and light."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from ssd.data.shapes.dataset import shapes
from tests.data.made import write_text, xml, xml_object

FRAMES = 20


def write_videos(
    root: Path, scenes: int, *, frames: int = FRAMES, size: int = 96, seed: int = 0, name: str = "{order:05d}"
) -> list[list[str]]:
    """A VOC folder without splits of shuffled frames, named by `name` of video, frame and order; the names by video."""
    rng = np.random.default_rng(seed)
    numbers = iter(rng.permutation(scenes * frames))
    names: list[list[str]] = []
    for video in range(scenes):
        names.append([])
        for frame, (image, boxes, labels) in enumerate(jittered(rng, video, frames, size, seed)):
            names[-1].append(name.format(video=video, frame=frame, order=next(numbers)))
            encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
            path = root / "JPEGImages" / f"{names[-1][-1]}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded.tobytes())
            objects = [xml_object(label, box + 1) for label, box in zip(labels, boxes, strict=True)]
            write_text(root / "Annotations" / f"{names[-1][-1]}.xml", xml(*objects, size=(size, size)))
    return names


def jittered(
    rng: np.random.Generator, video: int, frames: int, size: int, seed: int
) -> Iterator[tuple[UInt8[np.ndarray, "_ _ 3"], Float[np.ndarray, "_ 4"], list[str]]]:
    """Frames of one scene: shifted by up to 2 % and zoomed by up to 2 %, lighter or darker, and noisy."""
    scenes = shapes(f"video-{seed}", video + 1, size)
    scene = scenes.load(video)
    for _ in range(frames):
        zoom, shift = 1 + rng.uniform(-0.02, 0.02), rng.uniform(-0.02, 0.02, 2) * size
        matrix = np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]])
        moved = cv2.warpAffine(scene.image, matrix, (size, size), borderMode=cv2.BORDER_REPLICATE).astype(float)
        lit = moved * rng.uniform(0.85, 1.15) + rng.uniform(-10, 10) + rng.normal(0, 5, moved.shape)
        boxes = (scene.boxes * zoom + np.tile(shift, 2)).clip(0, size)
        kept = (boxes[:, 2:] - boxes[:, :2]).min(axis=1) > 2 if len(boxes) else np.zeros(0, bool)
        labels = [scenes.class_names[label] for label in scene.labels[kept]]
        yield lit.clip(0, 255).astype(np.uint8), boxes[kept], labels
