"""The network in plain PyTorch, in the memory layout and precision that its device likes."""

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ssd.structures import Predictions


class TorchRuntime:
    """A network converted once: channels last, and weights in the precision asked for.

    Converted weights beat autocast, which converts them again at every call (193 against 206 ms for one image, 379 in
    fp32; two cores with AVX512-BF16). A head kept in fp32 would cost another sixth and bring the logits from 1.1 % to
    1.0 % of their fp32 values: the error is the backbone's. So all layers compute in `dtype`; softmax and decoding
    come after, in fp32.
    """

    backend = "torch"

    def __init__(self, network: nn.Module, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        self._network = copy.deepcopy(network).eval().requires_grad_(False)
        self._network.to(device, dtype).to(memory_format=torch.channels_last)
        self._dtype = dtype
        self.device = str(device)
        self.precision = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[dtype]

    @torch.inference_mode()
    def predict(self, images: Float[Tensor, "B 3 S S"]) -> Predictions:
        """Offsets and logits for every default box, float32."""
        images = images.to(self.device, self._dtype, memory_format=torch.channels_last, non_blocking=True)
        predictions = self._network(images)
        return Predictions(predictions.offsets.float(), predictions.logits.float())
