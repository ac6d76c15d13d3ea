"""Reads and checks the annotations of a split, once for all runs where that takes long.

What one large COCO file gave is kept in the cache, with all that was wrong, so that a later start says the same.
"""

import dataclasses
import logging
from pathlib import Path
from typing import Any

from ssd.data import cache
from ssd.data.formats import coco
from ssd.data.formats.annotations import Problem, RawSplit
from ssd.data.formats.read_options import ReadOptions
from ssd.data.formats.registry import read_split
from ssd.data.index import Columns, RecordIndex, paths_of
from ssd.data.records import Built, build_records
from ssd.data.suspicious import find_misread
from ssd.system.garbage import collection_paused

log = logging.getLogger(__name__)


def read_records(root: Path, format: str, split: str, options: ReadOptions) -> Built:
    """The records of one split, its classes, and everything that is wrong with it.

    Raises:
        DatasetError: there is no such split.
    """
    key = {
        "what": "records 2",
        "root": str(root),
        "split": split,
        "classes": None if options.classes is None else list(options.classes),
        "allow_outside": options.allow_outside,
    }
    file = coco.annotation_file(root, split) if format == "coco" else None
    is_kept = file is not None and coco.is_large(file)
    if is_kept and (entry := cache.load(key)) is not None:
        return _said(_from_entry(entry))
    before = cache.states([file]) if is_kept and file is not None else []
    with collection_paused():
        raw = read_split(root, format, split, options)
        built = build_records(raw, options.classes)
        built = dataclasses.replace(built, problems=(*find_misread(raw), *built.problems), remarks=raw.remarks)
    if is_kept and _may_be_kept(raw, built):
        built = _keep(key, built, before, root)
    return _said(built)


def _said(built: Built) -> Built:
    for remark in built.remarks:
        log.info("%s", remark)
    return built


def _may_be_kept(raw: RawSplit, built: Built) -> bool:
    return raw.only_named and all(problem.level != "file" for problem in built.problems)


def _keep(key: dict[str, Any], built: Built, before: cache.States, root: Path) -> Built:
    """Store the records, and map what is stored in place of those in memory."""
    parents = sorted({path.rpartition("/")[0] or "." for path in paths_of(built.records)})
    facts = {
        "class_names": built.class_names,
        "category_ids": built.category_ids,
        "problems": [dataclasses.astuple(problem) for problem in built.problems],
        "remarks": built.remarks,
    }
    try:
        watched = before + cache.states({str(root): root, **dict.fromkeys(parents)})
    except OSError:  # removed meanwhile
        return built
    path = cache.store(key, watched, facts, built.records.columns.arrays())
    return built if path is None else dataclasses.replace(built, records=RecordIndex.mapped(path))


def _from_entry(entry: cache.Entry) -> Built:
    facts = entry.facts
    return Built(
        RecordIndex(Columns(**entry.arrays), entry.path),
        tuple(facts["class_names"]),
        tuple(facts["category_ids"]),
        tuple(Problem.of_list(values) for values in facts["problems"]),
        tuple(facts["remarks"]),
    )
