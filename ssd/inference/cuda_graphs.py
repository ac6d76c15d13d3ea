"""CUDA graphs: the work on a batch is recorded once for each batch size, and replayed by one launch.

A batch of SSD is about 200 launches, which take the host longer than a fast card needs for a small batch. A graph has
fixed shapes, so batches are padded to 1, 2, 4, ..., 64 images. A batch size is recorded when it comes the second time;
larger batches, and everything where recording fails, are launched as usual.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ssd.settings import Postprocessing

_log = logging.getLogger(__name__)
_Outputs = TypeVar("_Outputs")
_Work = Callable[[Tensor, Postprocessing], _Outputs]
Recorder = Callable[[Callable[[], _Outputs], torch.device], tuple[Callable[[], object], _Outputs]]

LARGEST = 64
"""Images of the largest recorded batch; for larger ones the launches hardly matter."""
_MOST_GRAPHS = 16  # the one unused for the longest time goes
_WARM_UP = 3  # calls before recording: libraries allocate, and cuDNN chooses its algorithms


@dataclass
class _Graph(Generic[_Outputs]):
    images: Tensor  # read at each replay
    replay: Callable[[], object]
    outputs: _Outputs  # written at each replay


class CudaGraphs(Generic[_Outputs]):
    """`work` on images and rules, recorded for each batch size and rules that come twice.

    Outputs have a row for each image of the padded batch, the caller's first, and are valid until the next call.
    `record` is for tests, which have no CUDA device.
    """

    def __init__(self, work: _Work[_Outputs], device: torch.device, record: "Recorder[_Outputs] | None" = None) -> None:
        self._work, self._device = work, device
        self._record = record or record_cuda_graph
        self._graphs: OrderedDict[object, _Graph[_Outputs] | None] = OrderedDict()  # None: has come once
        self.enabled = True

    def __call__(self, images: UInt8[Tensor, "B 3 S S"] | Float[Tensor, "B 3 S S"], rules: Postprocessing) -> _Outputs:
        """The outputs for images from the host or the device."""
        if not self.enabled or not 0 < len(images) <= LARGEST:
            return self._work(images, rules)
        size = 1 << (len(images) - 1).bit_length()
        key = size, tuple(images.shape[1:]), images.dtype, rules
        if key not in self._graphs:
            self._graphs[key] = None
            if len(self._graphs) > _MOST_GRAPHS:
                self._graphs.popitem(last=False)
            return self._work(images, rules)
        self._graphs.move_to_end(key)
        graph = self._graphs[key] or self._recorded(images, size, rules)
        if graph is None:
            return self._work(images, rules)
        self._graphs[key] = graph
        graph.images[: len(images)].copy_(images, non_blocking=True)
        graph.replay()
        return graph.outputs

    def _recorded(self, images: Tensor, size: int, rules: Postprocessing) -> _Graph[_Outputs] | None:
        shape = (size, *images.shape[1:])
        still = torch.zeros(shape, dtype=images.dtype, device=self._device).to(memory_format=torch.channels_last)
        still[: len(images)].copy_(images)  # pixels like those to come: cuDNN times its algorithms on them
        try:
            replay, outputs = self._record(lambda: self._work(still, rules), self._device)
        except RuntimeError as error:
            self.enabled = False
            _log.warning("no CUDA graphs, which makes small batches slower: %s", str(error).split("\n")[0][:200])
            return None
        return _Graph(still, replay, outputs)


def record_cuda_graph(call: Callable[[], _Outputs], device: torch.device) -> tuple[Callable[[], object], _Outputs]:
    """Record `call` on a CUDA device; returns the replay, and the outputs that it writes."""
    with torch.cuda.device(device):
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                call()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Other threads may allocate pinned memory meanwhile, which is forbidden by default.
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            outputs = call()
    return graph.replay, outputs
