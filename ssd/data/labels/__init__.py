"""Labels written in the formats of annotation tools: VOC, COCO, YOLO, LabelMe, Label Studio, CVAT."""
