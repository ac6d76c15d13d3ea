"""The dataset doctor's page: what is in a data set, what is wrong with it, what the default boxes reach."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ssd.audit.page.distributions import SplitFigures, class_section, size_section
from ssd.report.axes import Axis
from ssd.report.blocks import (
    Block,
    Cell,
    Gallery,
    Image,
    Lines,
    Page,
    Row,
    Section,
    Source,
    Table,
    Text,
    Tile,
    number,
    percent,
)
from ssd.report.charts import bar_chart


@dataclass(frozen=True)
class Reached:
    """What one set of default boxes reaches; figures by object size, `all` among them."""

    name: str
    default_boxes: int
    recall: Mapping[str, float | None]
    mean: Mapping[str, float | None]


@dataclass(frozen=True)
class Fitted:
    """Default boxes fitted to the data."""

    splits: Sequence[str]
    reached: Mapping[str, Sequence[float | None]]  # by the name of the boxes: recall in each split
    worth: str
    config: str  # YAML, empty where the tables are as good


@dataclass(frozen=True)
class DatasetFigures:
    """Everything that the doctor's page shows."""

    folder: str
    verdict: str
    stops: bool
    cautions: Sequence[str]
    splits: Sequence[SplitFigures]
    input_size: int
    box_sizes: Sequence[float]  # of the levels' square default boxes, in pixels of the input
    box_ratios: Sequence[float]  # of all levels, 1 and inverses among them
    reached: Sequence[Reached]  # of the first split's objects
    remarks: Sequence[str]  # on what is not reached
    folder_problems: Sequence[str]
    wrong_images: Sequence[Image]
    hardest: Sequence[Image]
    copies: Sequence[str]
    augmented: Image | None
    fit: Fitted | None
    made: str = ""


def dataset_page(figures: DatasetFigures) -> Page:
    """Lay out the page."""
    counts = ", ".join(f"{split.name} {split.images} images" for split in figures.splits)
    sections = [
        _problems(figures),
        class_section(figures.splits),
        size_section(figures.splits, figures.input_size, figures.box_sizes, figures.box_ratios),
        _reach(figures),
        *([_fit(figures.fit)] if figures.fit is not None else []),
        _augmented(figures),
    ]
    return Page(
        title=f"Data set: {figures.folder.rstrip('/').rpartition('/')[2] or figures.folder}",
        subtitle=f"{figures.folder}: {counts}",
        sections=[section for section in sections if section.blocks],
        tiles=_tiles(figures),
        verdict=Text(f"{figures.verdict[:1].upper()}{figures.verdict[1:]}.", "bad" if figures.stops else "good"),
        made=figures.made,
    )


def _tiles(figures: DatasetFigures) -> list[Tile]:
    splits = figures.splits
    wrong = sum(wrong.count for split in splits for wrong in split.wrong if wrong.fate == "stops")
    tiles = [
        Tile(
            "images",
            f"{sum(split.images for split in splits):,}",
            f"in {len(splits)} split" + "s" * (len(splits) != 1),
        ),
        Tile("objects", f"{sum(split.objects for split in splits):,}", "crowd regions apart"),
        Tile("classes", str(len({row.name for split in splits for row in split.classes}))),
        Tile("bad", f"{wrong + len(figures.folder_problems):,}", "problems at which training would stop"),
    ]
    if figures.reached:
        own = figures.reached[0]
        tiles.append(Tile("reached", percent(own.recall["all"]), f"objects of {splits[0].name}, {own.name}"))
    return tiles


def _problems(figures: DatasetFigures) -> Section:
    blocks: list[Block] = []
    if figures.cautions:
        blocks.append(Lines(figures.cautions, "Worth a look"))
    if figures.folder_problems:
        blocks.append(Lines(figures.folder_problems, "The folder"))
    rows: list[Row] = [
        [split.name, wrong.kind, wrong.fate, str(wrong.count)] for split in figures.splits for wrong in split.wrong
    ]
    if rows:
        blocks.append(Table(["split", "problem", "what becomes of it", "count"], rows, words=3))
    if figures.wrong_images:
        note = "Orange: the box in question, as far as it lies in the image."
        blocks.append(Gallery(figures.wrong_images, "Where they are", note, 200))
    for split in figures.splits:
        for wrong in split.wrong:
            blocks.append(Lines(wrong.lines, f"{split.name}: {wrong.kind}", shown=20))
    if figures.copies:
        blocks.append(Lines(figures.copies, f"Images with the same content: {len(figures.copies)}", shown=20))
    return Section("problems", "Problems", blocks or [Text("None found.", "good")])


def _reach(figures: DatasetFigures) -> Section:
    if not figures.reached:
        return Section("reach", "What the default boxes reach", [])
    sizes = list(figures.reached[0].recall)
    chart = bar_chart(
        "Share reached",
        sizes,
        {one.name: [one.recall[size] for size in sizes] for one in figures.reached},
        x="size of the object",
        y=Axis(0, 1, "IoU of 0.5 or more"),
    )
    rows: list[Row] = [
        [one.name, f"{one.default_boxes:,}", *(f"{number(one.recall[s])} / {number(one.mean[s])}" for s in sizes)]
        for one in figures.reached
    ]
    note = "Share of the objects with an IoU of 0.5 / mean of the best IoUs. Sizes are COCO's, in pixels of the image."
    blocks: list[Block] = [chart, Table(["default boxes", "number", *sizes], rows, note=note)]
    if figures.remarks:
        blocks.append(Lines(figures.remarks))
    if figures.hardest:
        blocks.append(Gallery(figures.hardest, "Farthest from any default box", "", 180))
    intro = (
        f"An object of {figures.splits[0].name} is reached when a default box overlaps it by 0.5; otherwise it learns "
        "from its one best box, which has a long way to go. The paper's tables at 300 and 512 pixels side by side."
    )
    return Section("reach", "What the default boxes reach", blocks, intro)


def _fit(fit: Fitted) -> Section:
    rows: list[Row] = [
        [name, *(Cell(number(recall), bar=recall) for recall in recalls)] for name, recalls in fit.reached.items()
    ]
    blocks: list[Block] = [Table(["default boxes", *fit.splits], rows), Text(fit.worth)]
    if fit.config:
        blocks.append(Source(fit.config, "For the config of a run that does not start from another detector's weights"))
    return Section("fit", "Fitted default boxes", blocks, "Share of the objects with an IoU of 0.5.")


def _augmented(figures: DatasetFigures) -> Section:
    blocks = [Gallery([figures.augmented], width=600)] if figures.augmented is not None else []
    intro = "Augmented training images, as the network is shown them in the first epoch."
    return Section("augmented", "What training shows", blocks, intro)
