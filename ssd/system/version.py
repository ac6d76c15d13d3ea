"""The version of this package."""

from importlib import metadata

NEVER_INSTALLED = "0+checkout"  # run from a folder


def _version() -> str:
    try:
        return metadata.version("ssd-vgg")
    except metadata.PackageNotFoundError:
        return NEVER_INSTALLED


__version__ = _version()
