"""Weights of a very small network with loud random numbers: it finds something in every image."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import torch

from ssd.model import factory
from ssd.weights.native import save_weights


def save_small_weights(path: Path) -> Path:
    """A detector of cats and dogs, 64 pixels a side."""
    torch.manual_seed(0)
    settings = factory.settings_for(("cat", "dog"), input_size=64, width=0.125)
    network = factory.from_settings(settings)
    for level in network.head.classes:
        torch.nn.init.normal_(level.weight, std=0.05)
        level.bias.data.view(-1, 3)[:, 0] = 5  # background
    save_weights(path, network.state_dict(), settings)
    return path


def write_image(path: Path, height: int = 50, width: int = 70, seed: int = 0) -> Path:
    """An image of noise, as a file."""
    image = np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix.lower(), image)[1].tobytes())
    return path


def write_video(path: Path, frames: int = 20, height: int = 48, width: int = 64, fps: float = 10) -> Path:
    """A bright square that moves to the right, four pixels a frame."""
    os.environ.setdefault(
        "OPENCV_FFMPEG_LOGLEVEL", "-8"
    )  # as ssd.images.video_reader does; FFmpeg looks once in a process
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (width, height))
    for index in range(frames):
        image = np.full((height, width, 3), 40, np.uint8)
        left = 4 * index % width
        image[10:30, left : left + 20] = (0, 0, 250)  # BGR: red
        writer.write(image)
    writer.release()
    return path


def read_rows(folder: Path) -> list[dict]:
    """The lines of a folder's journal."""
    return [json.loads(line) for line in (folder / "detections.jsonl").read_text(encoding="utf-8").splitlines()]


def snapshot(folder: Path) -> dict[Path, bytes]:
    """Every file below a folder with its bytes."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
