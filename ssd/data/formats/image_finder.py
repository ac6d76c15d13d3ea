"""Finds images under the names that annotation files give them."""

import os
from collections.abc import Sequence
from pathlib import Path

from ssd.data.formats.paths import (
    IMAGE_FOLDERS,
    IMAGE_SUFFIXES,
    below,
    is_image,
    is_inside,
    is_there,
    named_subfolders,
    start_of,
    usual_split,
    walk,
)
from ssd.system.unicode_names import Named, nfc


class ImageFinder:
    """Finds images under the names that annotation files give them, which may be another machine's.

    `split` is that of the annotation files. Images are not looked for in the folders of other splits where this one has
    folders of its own.
    """

    def __init__(self, root: Path, folders: Sequence[Path] = (), split: str | None = None) -> None:
        self.root, self.split = root, split
        self.folders = list(dict.fromkeys((*folders, root)))
        self._by_name: dict[str, list[Path]] | None = None
        self._by_stem: dict[str, list[Path]] = {}
        self._listings: dict[str, Named[bool]] = {}
        self._inside: dict[str, bool] = {}
        self._image_folders: dict[Path, Sequence[Path]] = {}
        self._first, self._start = str(self.folders[0]), start_of(self.folders[0])

    def find(self, written: str) -> Path | None:
        """The image of that name: in one of the folders, else by the end of the path, else the only one so called.

        In each folder the name may have another Unicode form, if that leaves a single image.
        """
        name = written.replace("\\", "/")
        found = next((path for folder in self.folders if self._has(path := folder / name) or is_there(path)), None)
        if found is not None:
            return below(found, self.root)
        return find_tail(self.folders, name) or self.in_other_form(name) or self.only(name)

    def in_other_form(self, name: str, folder: Path | None = None) -> Path | None:
        """What has that path but for its Unicode form, in `folder` or in one of the folders."""
        for top in self.folders if folder is None else [folder]:
            place: Path | None = top
            for part in name.split("/"):
                spelling = None if place is None else self._listing(str(place)).spelling(part)
                place = None if place is None or spelling is None else place / spelling
            if place is not None:
                return place
        return None

    def plain(self, name: str) -> str | None:
        """The path of a file that lies in the first folder and is no link, in a folder in the root; else None."""
        if "/" in name or self._listing(self._first).get(name, True):
            return None
        if self._first not in self._inside:
            self._inside[self._first] = is_inside(self.folders[0], self.root)
        return f"{self._start}{name}" if self._inside[self._first] else None

    def is_inside(self, path: Path) -> bool:
        """Whether a file that was found lies in the root once `..` and links are followed.

        One folder is resolved once for all of its files that are no links.
        """
        parent = str(path.parent)
        if self._listing(parent).get(path.name, True):
            return is_inside(path, self.root)
        if parent not in self._inside:
            self._inside[parent] = is_inside(path.parent, self.root)
        return self._inside[parent]

    def _has(self, path: Path) -> bool:
        """Whether it is a listed file or folder, and no link, which may lead nowhere."""
        return not self._listing(str(path.parent)).get(path.name, True)

    def _listing(self, folder: str) -> Named[bool]:
        """The names in a folder, read once, and whether each is a link; none where it cannot be read."""
        if folder not in self._listings:
            try:
                with os.scandir(folder) as entries:
                    self._listings[folder] = Named((entry.name, entry.is_symlink()) for entry in entries)
            except (OSError, ValueError):
                self._listings[folder] = Named()
        return self._listings[folder]

    def image_folders(self, folder: Path) -> Sequence[Path]:
        """The folders of images in a folder below the root, looked for once."""
        if folder not in self._image_folders:
            inside = folder.is_relative_to(self.root)
            self._image_folders[folder] = named_subfolders(folder, IMAGE_FOLDERS) if inside else []
        return self._image_folders[folder]

    def only(self, written: str) -> Path | None:
        """The only image of that file name, or else of that name without its suffix, in any folder of the split."""
        if self._by_name is None:
            self._by_name = {}
            for path in self._of_split([path for path in walk(self.root) if is_image(path)]):
                self._by_name.setdefault(nfc(path.name).lower(), []).append(path)
                self._by_stem.setdefault(nfc(path.stem), []).append(path)
        name = written.rpartition("/")[2]
        named = self._by_name.get(nfc(name).lower(), [])
        found = [path for path in named if path.name == name] or named
        if not found:
            stem = Path(name).stem if name.lower().endswith(IMAGE_SUFFIXES) else name
            named = self._by_stem.get(nfc(stem), [])
            found = [path for path in named if path.stem == stem] or named
        return found[0] if len(found) == 1 else None

    def _of_split(self, images: Sequence[Path]) -> Sequence[Path]:
        """Those in no other split's folder, where some lie in a folder of this one; `valid` and `val2017` are one."""
        own = usual_split(self.split or "")
        if own is None:
            return images
        found = {path: {usual_split(part) for part in path.relative_to(self.root).parts[:-1]} for path in images}
        if not any(own in splits for splits in found.values()):
            return images
        return [path for path, splits in found.items() if own in splits or splits <= {None}]


def find_tail(folders: Sequence[Path], written: str) -> Path | None:
    """What lies in one of the folders under the longest end of a path written on another machine."""
    parts = [part for part in written.replace("\\", "/").split("/") if part not in ("", ".", "..")][-10:]
    tails = ("/".join(parts[start:]) for start in range(len(parts)))
    return next((path for tail in tails for folder in folders if is_there(path := folder / tail)), None)
