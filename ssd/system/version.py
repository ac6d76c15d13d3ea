"""The version of this package."""

from importlib import metadata


def _version() -> str:
    try:
        return metadata.version("ssd-vgg")
    except metadata.PackageNotFoundError:
        return "0+checkout"  # run from a folder that was never installed


__version__ = _version()
