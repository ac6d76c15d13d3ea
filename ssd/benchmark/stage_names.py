"""The stages in order, without imports so that `--help` is quick; `stages.COMPARISONS` has their functions."""

STAGES = {
    "decode": "a JPEG to the network's input",
    "network": "the network alone, in the precision ours chooses by itself",
    "network_bf16": "the network alone, in bf16 by PyTorch",
    "network_fp32": "the network alone, in fp32",
    "detect_fp32": "a JPEG to detections, ours in fp32",
    "detect_bf16": "a JPEG to detections, ours in bf16",
    "detect_openvino_bf16": "a JPEG to detections, ours by OpenVINO",
    "detect_openvino_int8": "a JPEG to detections, ours by OpenVINO in 8 bits",
    "detect_batch8": "eight JPEGs to detections, ours in the precision it chooses by itself",
    "detect_many": "64 JPEGs to detections as a batch, against one by one by OpenVINO",
    "detect_many_fp32": "the same in fp32",
    "postprocess_typical": "predictions of a trained network to detections, 8 images",
    "postprocess_worst": "predictions of an untrained network to detections, 8 images",
    "loss": "matching, loss and its gradient, 32 images",
    "augmentation": "a JPEG to an augmented input, on one core",
    "train_step": "8 images, ours as it trains, theirs as it comes (fp32)",
    "train_step_best": "8 images, ours as it trains, theirs in bf16 and channels last",
    "network_batch32": "the network alone on 32 images, both as they come; on a GPU",
    "network_batch32_best": "the same, theirs in bf16 and channels last; on a GPU",
    "network_batch128": "the network alone on 128 images, both as they come; on a GPU",
    "detect_batch32": "32 JPEGs to detections, both as they come; on a GPU",
    "detect_batch32_best": "the same, theirs in bf16 and channels last; on a GPU",
    "detect_batch128": "128 JPEGs to detections, both as they come; on a GPU",
    "train_step32_best": "train_step_best with 32 images; on a GPU",
    "coco_eval": "COCO's figures, faster-coco-eval against pycocotools",
}

ON_GPU = frozenset(name for name, text in STAGES.items() if text.endswith("; on a GPU"))
"""Stages with large batches, which a CPU runs only if they are named."""

MEMORY = "memory"
