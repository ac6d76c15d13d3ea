"""CUDA graphs: the work on a batch is recorded once for each batch size, and replayed by one launch.

A batch of SSD is about 200 launches, which take the host longer than a fast card needs for a small batch. A graph has
fixed shapes, so batches are padded to 1, 2, 4, ..., 64 images. A batch size is recorded when it comes the second time;
larger batches, and everything where recording fails, are launched as usual.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

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
_ONE_AT_A_TIME = threading.Lock()  # a recording begins with a wait for the device, which ends any other
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
        self._record = record or CudaGraphRecorder()
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
            self._graphs.clear()  # they hold memory
            _log.warning("no CUDA graphs, which makes small batches slower: %s", str(error).split("\n")[0][:200])
            return None
        return _Graph(still, replay, outputs)


class CudaGraphRecorder:
    """Records calls on a CUDA device. The graphs share one pool of memory, so that no two may be replayed at a time."""

    def __init__(self) -> None:
        self._pool: Any = None

    def __call__(self, call: Callable[[], _Outputs], device: torch.device) -> tuple[Callable[[], object], _Outputs]:
        """Record a call; returns the replay, and the outputs that it writes."""
        with _ONE_AT_A_TIME, torch.cuda.device(device):
            current, stream = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(current)
            with torch.cuda.stream(stream):
                for _ in range(_WARM_UP):
                    call()
            current.wait_stream(stream)
            self._pool = self._pool or torch.cuda.graph_pool_handle()
            graph = torch.cuda.CUDAGraph()
            try:
                # Other threads may allocate pinned memory meanwhile, which is forbidden by default.
                with torch.cuda.graph(graph, self._pool, stream, capture_error_mode="thread_local"):
                    outputs = call()
            finally:
                torch.cuda.set_stream(current)  # a capture that fails leaves the thread on its stream
        return graph.replay, outputs
