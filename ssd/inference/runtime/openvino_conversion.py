"""Conversion of networks to OpenVINO, with the results kept in the cache folder.

Conversion through `torch.export` takes several seconds, reading from the cache a tenth of a second. The name of a
cached file is a digest of the weights, the network's code and the versions of the libraries, so that a change of any of
these converts the network again.
"""

import copy
import hashlib
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ssd.errors import CheckpointError, SSDError
from ssd.inference.runtime import ir
from ssd.inference.runtime.program import RawOutputs, record
from ssd.system.download import cache_folder
from ssd.system.optional import load_extra

log = logging.getLogger(__name__)
_KEPT = 8  # converted networks, as large as their weights


def converted(network: nn.Module, input_size: int, *, keep: bool = True) -> Any:
    """The network as an `openvino.Model`: images (B, 3, S, S) to offsets and logits; without `keep`, not in the cache.

    Raises:
        MissingExtraError: OpenVINO is not installed.
    """
    openvino = load_extra("openvino", "openvino")
    if not keep:
        return _convert_network(network, input_size)
    folder = cache_folder() / "openvino"
    path = folder / f"{_key(network, input_size, openvino.__version__)}.xml"
    if path.is_file():
        try:
            model = ir.read(path)
            os.utime(path)  # marks it as used, since `_prune` keeps the files used last
            return model
        except (CheckpointError, OSError) as error:
            log.warning("%s; converting again", error)
    # A warning explains the wait; most programs show no messages of lower levels.
    log.warning("converting the network for OpenVINO: some seconds, once; kept in %s", folder)
    model = _convert_network(network, input_size)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        ir.write(path, model)
        _prune(folder)
    except (SSDError, OSError) as error:
        log.warning("the converted network cannot be kept, so the next start converts again: %s", error)
    return model


def _convert_network(network: nn.Module, input_size: int) -> Any:
    return convert(RawOutputs(copy.deepcopy(network).float()), torch.zeros(2, 3, input_size, input_size))


def convert(module: nn.Module, *examples: torch.Tensor, free: tuple[int, ...] = ()) -> Any:
    """Convert any module; see `program.record` for the examples."""
    openvino = load_extra("openvino", "openvino")
    program = record(module, *examples, free=free)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # OpenVINO's converter uses deprecated names of PyTorch
        model = openvino.convert_model(program)
    round_up_as_openvino(model)
    return model


def round_up_as_openvino(model: Any) -> None:
    """Let pools that round up do so by OpenVINO's rule wherever PyTorch's gives the same.

    The rules differ in windows that start behind the input. Behind a pool by PyTorch's rule OpenVINO computes the next
    convolution in fp32, even where it is quantised: conv4_1 took a sixth of the time of SSD300 in 8 bits.
    """
    for node in model.get_ops():
        if node.get_type_name() != "MaxPool":
            continue
        facts = node.get_attributes()
        unpadded = not any((*facts["pads_begin"], *facts["pads_end"]))
        touching = all(step <= side for step, side in zip(facts["strides"], facts["kernel"], strict=True))
        if facts.get("rounding_type") == "ceil_torch" and unpadded and touching:
            node.set_attribute("rounding_type", "ceil")
    model.validate_nodes_and_infer_types()


def _key(network: nn.Module, input_size: int, version: str) -> str:
    """Digest of everything that affects the converted network."""
    sha = hashlib.sha256(f"{version} {torch.__version__} {input_size} {network}".encode())
    for name, tensor in network.state_dict().items():
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    code = sys.modules[type(network).__module__].__file__
    for path in sorted(Path(code).parent.glob("*.py")) if code is not None else ():
        sha.update(path.read_bytes())
    return sha.hexdigest()[:24]


def _prune(folder: Path) -> None:
    """Delete all but the `_KEPT` files that were used last."""
    for path in sorted(folder.glob("*.xml"), key=lambda path: path.stat().st_mtime, reverse=True)[_KEPT:]:
        for part in (path, path.with_suffix(".bin")):
            part.unlink(missing_ok=True)
