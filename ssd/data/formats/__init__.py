"""Annotation formats: VOC, COCO, YOLO, and the named sets that are downloaded."""
