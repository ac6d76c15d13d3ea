"""Kinds of image files: which are read, which are not, and how many pages one has."""

import struct

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
NOT_READ = (".heic", ".heif", ".avif", ".jxl", ".jp2", ".dng", ".cr2", ".nef", ".arw", ".psd", ".svg")
CONVERT = "Convert to JPEG first, for instance with `magick mogrify -format jpg FILES`"
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"avif", b"avis")
_MOST_PAGES = 1000
_MOST_BLOCKS = 200_000  # of a GIF that are looked at
_SUBFILE_TYPE = 254  # TIFF's tag; its bits 1 and 4 say that a page is a thumbnail or a mask


def is_heif(start: bytes) -> bool:
    """Whether a file that starts like this is HEIF or AVIF, as phones write them."""
    return start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS


def count_pages(data: bytes) -> int:
    """The pages of a TIFF or the frames of a GIF, up to 1000; 1 for other formats and where they cannot be counted."""
    try:
        if data[:4] in (b"II*\0", b"MM\0*"):
            return max(1, _pages_of_tiff(data))
        if data[:6] in (b"GIF87a", b"GIF89a"):
            return max(1, _frames_of_gif(data))
    except (struct.error, IndexError):  # damaged behind the first page, which may still be read
        pass
    return 1


def _pages_of_tiff(data: bytes) -> int:
    order = "<" if data[:2] == b"II" else ">"
    (place,) = struct.unpack_from(f"{order}I", data, 4)
    seen: set[int] = set()
    pages = 0
    while place and place not in seen and len(seen) < _MOST_PAGES:
        seen.add(place)
        (entries,) = struct.unpack_from(f"{order}H", data, place)
        tag, _, _, value = struct.unpack_from(f"{order}HHII", data, place + 2) if entries else (0, 0, 0, 0)
        pages += not (tag == _SUBFILE_TYPE and value & 0b101)
        (place,) = struct.unpack_from(f"{order}I", data, place + 2 + 12 * entries)
    return pages


def _frames_of_gif(data: bytes) -> int:
    place = 13 + _colour_table(data[10])
    frames = blocks = 0
    while frames < _MOST_PAGES and data[place] in (0x21, 0x2C):  # an extension, an image
        if data[place] == 0x2C:
            frames += 1
            place += 11 + _colour_table(data[place + 9])
        else:
            place += 2
        while data[place] and blocks < _MOST_BLOCKS:
            place += 1 + data[place]
            blocks += 1
        place += 1
        if blocks == _MOST_BLOCKS or place >= len(data):
            break
    return frames


def _colour_table(flags: int) -> int:
    """The bytes of a GIF's colour table."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
