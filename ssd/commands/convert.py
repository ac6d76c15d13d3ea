"""`convert IN OUT.safetensors`: converts a checkpoint of another project to a weights file of this package."""

import argparse
from pathlib import Path

from ssd.commands._shared import add_force, guarded
from ssd.errors import printable

EPILOG = """examples:
  ssd convert ssd300_mAP_77.43_v2.pth voc.safetensors                       amdegroot/ssd.pytorch
  ssd convert VGG_VOC0712_SSD_300x300_iter_120000.caffemodel voc.safetensors
  ssd convert model.pth cells.safetensors --names labels.txt --boxes voc    lufficc/SSD with classes of one's own

Read are: torchvision ssd300_vgg16 and ssdlite320_mobilenet_v3_large, amdegroot/ssd.pytorch, lufficc/SSD (VGG16,
MobileNet v2), sgrvinod's tutorial (its state dict), qfgaohao/pytorch-ssd (vgg16-ssd, mb1-ssd, mb2-ssd-lite),
mmdetection SSD300 and SSD512, chainercv (.npz), Caffe (.caffemodel, or its blobs as .npz), and our own files, to
give their classes other names. `ssd.load` reads all of them as they
are, too; converted, a file says by itself what it needs, and a changed byte in it is noticed.

The new file is read back and compared on an image before it gets its name. Exit code 2: nothing was written."""


def parser() -> argparse.ArgumentParser:
    """Arguments of the command."""
    p = argparse.ArgumentParser(
        prog="ssd convert",
        description="Turn a checkpoint of another SSD code into a weights file of this package.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("source", metavar="IN", help="a checkpoint, a run's folder, hf://owner/name, or coco")
    p.add_argument("out", metavar="OUT", type=Path, help="the file to write, ending in .safetensors")
    p.add_argument("--names", metavar="FILE|a,b,c", help="class names in the order of training, background left out")
    p.add_argument("--boxes", choices=("voc", "coco"), help="its default boxes, where the checkpoint cannot tell them")
    p.add_argument("--image", metavar="IMAGE", help="compare on this image; default: coloured noise")
    add_force(p)
    return p


@guarded
def main(argv: list[str] | None = None) -> int:
    """Convert, and print the recognised format."""
    args = parser().parse_args(argv)

    from ssd.api.convert import convert  # brings torch, so only now

    result = convert(
        args.source, args.out, class_names=args.names, boxes=args.boxes, image=args.image, force=args.force
    )
    print(result.to_text())
    print(f"  compared       the same {result.detections} detections before and after")
    print(printable(f"{result.path}: {result.path.stat().st_size / 1e6:.1f} MB"))
    return 0
