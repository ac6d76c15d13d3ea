"""The network in plain PyTorch, in the memory layout and precision that its device likes."""

import contextlib
import copy
import logging

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ssd.inference.runtime.prepacked import prepack_
from ssd.structures import Predictions
from ssd.system.device import ieee_fp32, tuned_convolutions

_log = logging.getLogger(__name__)


class TorchRuntime:
    """A network converted once: channels last, and weights in the precision asked for; on a CPU in oneDNN's layout.

    Converted weights beat autocast, which converts them again at every call (193 against 206 ms for one image, 379 in
    fp32; two cores with AVX512-BF16). A head kept in fp32 would cost another sixth and bring the logits from 1.1 % to
    1.0 % of their fp32 values: the error is the backbone's. So all layers compute in `dtype`; softmax and decoding
    come after, in fp32.
    """

    backend = "torch"

    def __init__(self, network: nn.Module, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        self._network = copy.deepcopy(network).eval().requires_grad_(False)
        self._network.to(device, dtype).to(memory_format=torch.channels_last)
        if device.type == "cpu":
            prepack_(self._network, dtype)
        self._dtype = dtype
        self.device = str(device)
        self.precision = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[dtype]
        self._seen: set[torch.Size] = set()

    @torch.inference_mode()
    def predict(self, images: Float[Tensor, "B 3 S S"]) -> Predictions:
        """Offsets and logits for every default box, float32; on CUDA in IEEE float32 where the precision is fp32."""
        try:
            with self._switches(images.shape):
                ahead = self.device.startswith("cuda")  # MPS can lose the data of a copy that does not wait
                images = images.to(self.device, self._dtype, memory_format=torch.channels_last, non_blocking=ahead)
                predictions = self._network(images)
        except NotImplementedError as error:
            if not self.device.startswith("mps"):
                raise
            _log.warning("the CPU is used, since MPS lacks an operator: %s", str(error).split(". ")[0])
            self._network.to("cpu")
            self.device = "cpu"
            return self.predict(images)
        return Predictions(predictions.offsets.float(), predictions.logits.float())

    def _switches(self, shape: torch.Size) -> contextlib.AbstractContextManager[object]:
        """PyTorch's global switches during the network's work on CUDA; other devices need none."""
        switches = contextlib.ExitStack()
        if self.device.startswith("cuda"):
            if self._dtype == torch.float32:
                switches.enter_context(ieee_fp32())
            if shape in self._seen and not torch.backends.cudnn.deterministic:
                switches.enter_context(tuned_convolutions())  # worth it for shapes that recur
            self._seen.add(shape)
        return switches
