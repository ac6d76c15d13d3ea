"""From uint8 RGB images of any size to the input that a network was trained with."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float32, UInt8
from torch import Tensor

from ssd.images.resize import neighbours, resize_8bit
from ssd.settings import Preprocessing


def preprocess_batch(
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    preprocessing: Preprocessing,
    size: int,
) -> Float32[Tensor, "B 3 {size} {size}"]:
    """Warp images of any sizes to the network's square input and normalise them.

    `preprocessing.resize` travels with the weights: "uint8" resizes the 8-bit image, as Caffe does, which is fast;
    "float" normalises first and resizes floats, as torchvision does, and moves most boxes by more than 0.1 pixel
    against the other. Both are plain bilinear without a filter. "antialias" is PIL's bilinear of the 8-bit image,
    which averages over all pixels that a new one covers, and so does "area", as training does by default: without a
    filter the grain of a large photograph stays, and the network has never seen any.
    """
    if preprocessing.resize == "float":
        rows = [_normalise_then_resize(image, preprocessing, size) for image in images]
        batch = torch.cat(rows) if rows else torch.empty(0, 3, size, size)
    else:
        batch = normalise(resized_batch(images, preprocessing, size), preprocessing)
    return batch.contiguous()


def resized_batch(
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    preprocessing: Preprocessing,
    size: int,
    *,
    pinned: bool = False,
    each: Callable[..., Iterable[object]] = map,
) -> UInt8[Tensor, "B 3 {size} {size}"]:
    """Resize in 8 bits as `preprocess_batch` does, without normalising; channels last in memory.

    `pinned` memory is copied to a CUDA device without making the host wait. `each` may be the `map` of a thread pool.
    """
    batch = torch.empty(len(images), size, size, 3, dtype=torch.uint8, pin_memory=pinned)

    def resize(image: UInt8[np.ndarray, "_ _ 3"], row: UInt8[np.ndarray, "S S 3"]) -> None:
        row[:] = resize_8bit(image, size, preprocessing.resize)

    for _ in each(resize, images, batch.numpy()):
        pass
    return batch.permute(0, 3, 1, 2)


def normalise(
    images: UInt8[Tensor, "B 3 S S"],
    preprocessing: Preprocessing,
    constants: tuple[Float32[Tensor, "3 1 1"], Float32[Tensor, "3 1 1"]] | None = None,
) -> Float32[Tensor, "B 3 S S"]:
    """`(pixel - mean) / std` on whichever device the images are; the memory layout stays.

    `constants` are `mean_and_std(preprocessing, images.device)`, for callers that keep them from batch to batch.
    """
    if preprocessing.channels == "bgr":
        images = images.flip(1)
    mean, std = constants or mean_and_std(preprocessing, images.device)
    return images.float().sub_(mean).div_(std)


def mean_and_std(
    preprocessing: Preprocessing, device: torch.device
) -> tuple[Float32[Tensor, "3 1 1"], Float32[Tensor, "3 1 1"]]:
    """Mean and standard deviation of each channel, in the order of `preprocessing.channels`."""
    mean, std = (
        torch.tensor(values, dtype=torch.float32, device=device).view(3, 1, 1)
        for values in (preprocessing.mean, preprocessing.std)
    )
    return mean, std


def mean_colour(preprocessing: Preprocessing) -> tuple[int, int, int]:
    """The mean as an RGB colour: what the expanded border of a training image is filled with."""
    red, green, blue = preprocessing.mean if preprocessing.channels == "rgb" else preprocessing.mean[::-1]
    return round(red), round(green), round(blue)


def _normalise_then_resize(
    image: UInt8[np.ndarray, "H W 3"], preprocessing: Preprocessing, size: int
) -> Float32[Tensor, "1 3 {size} {size}"]:
    if preprocessing.channels == "bgr":
        image = image[..., ::-1]
    if image.shape[0] * image.shape[1] > 4 * size**2:
        # Most pixels of a large image are nobody's neighbour. Both steps are linear: they may change places.
        resized = _resize_as_floats(image, size)
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (preprocessing.mean, preprocessing.std))
        return resized.sub_(mean).div_(std)
    # The division by 255 changes nothing but the last bits, which then are torchvision's.
    pixels = torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32, order="C"))[None].div_(255)
    mean, std = (torch.tensor([x / 255 for x in v]).view(3, 1, 1) for v in (preprocessing.mean, preprocessing.std))
    return F.interpolate(pixels.sub_(mean).div_(std), size=(size, size), mode="bilinear", align_corners=False)


def _resize_as_floats(image: UInt8[np.ndarray, "H W 3"], size: int) -> Float32[Tensor, "1 3 {size} {size}"]:
    """Bilinear, from the four neighbours of each pixel of the result alone, and from no other pixel."""
    (top, bottom, down), (left, right, across) = (neighbours(count, size) for count in image.shape[:2])
    near = image.take(np.concatenate([top, bottom]), axis=0).take(np.concatenate([left, right]), axis=1)
    pixels = torch.from_numpy(near).float()
    rows = torch.lerp(pixels[:, :size], pixels[:, size:], torch.from_numpy(across)[:, None])
    return torch.lerp(rows[:size], rows[size:], torch.from_numpy(down)[:, None, None]).permute(2, 0, 1)[None]
