"""Weights in Hugging Face repositories: `hf://owner/name[@revision][/file]`, fetched and published.

Only the one weights file is fetched, into the cache of huggingface_hub (`$HF_HOME`), and nothing of a repository is
ever executed. Tokens are huggingface_hub's business: `hf auth login`, or `$HF_TOKEN`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import TypeVar
from urllib.parse import quote, unquote

from ssd.errors import ArgumentError, DownloadError
from ssd.system.optional import load_extra

SCHEME = "hf://"
DEFAULT_FILE = "model.safetensors"
FORMATS = (".safetensors", ".pth", ".pt", ".npz", ".caffemodel", ".onnx")

_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_ADDRESS = re.compile(rf"hf://(?P<repository>{_PART}/{_PART})(?:@(?P<revision>[^/@\s]+))?(?:/(?P<file>\S+))?/?")
_FETCH_ELSEWHERE = "Without internet: fetch the file elsewhere and name its path; what was fetched before is kept."
_TRY_AGAIN = "Try again later; files that arrived whole are not sent twice."
_LOG_IN = "Check the name; a private repository needs `hf auth login` or $HF_TOKEN."

T = TypeVar("T")


@dataclass(frozen=True)
class HubAddress:
    """A repository, perhaps at a branch, tag or commit, and perhaps one file in it."""

    repository: str
    revision: str | None = None
    file: str | None = None

    def __str__(self) -> str:
        revision = f"@{quote(self.revision, safe='')}" if self.revision else ""
        return f"{SCHEME}{self.repository}{revision}"


def is_hub_address(source: object) -> bool:
    """Whether `source` is meant as an address here."""
    return isinstance(source, str) and source.startswith(SCHEME)


def parse_address(text: str) -> HubAddress:
    """Take an address apart; a slash in a revision is written %2F.

    Raises:
        ArgumentError: not of the form `hf://owner/name[@revision][/file]`.
    """
    found = _ADDRESS.fullmatch(text)
    file = found["file"] if found else None
    if found is None or (file is not None and ".." in PurePosixPath(file).parts):
        raise ArgumentError("is no Hugging Face address", place=text, remedy="Write hf://owner/name[@revision][/file].")
    return HubAddress(found["repository"], unquote(found["revision"]) if found["revision"] else None, file)


def fetch_from_hub(text: str) -> Path:
    """Path of the weights file at an address, fetched unless that very version is in the cache.

    Without a file in the address it is `model.safetensors`, or else the only weights file of the repository.

    Raises:
        ArgumentError: not an address, or a file that is no weights file.
        DownloadError: no such repository, revision or file, or no network and no copy.
        MissingExtraError: huggingface_hub is not installed.
    """
    address = parse_address(text)
    if address.file is not None and PurePosixPath(address.file).suffix.lower() not in FORMATS:
        raise ArgumentError(f"{address.file} is no weights file", place=text, remedy=f"Known: {', '.join(FORMATS)}.")
    hub = load_extra("huggingface_hub", "hub")
    errors = load_extra("huggingface_hub.errors", "hub")

    def fetch(name: str) -> Path:
        place = {"repo_id": address.repository, "filename": name, "revision": address.revision}
        # Of a file that is not in the cache a download asks six times, with longer and longer waits.
        offline = not isinstance(hub.try_to_load_from_cache(**place), str) and not _answers(hub, errors, place)
        return Path(hub.hf_hub_download(**place, library_name="ssd-vgg", local_files_only=offline))

    def fetch_default() -> Path:
        try:
            return fetch(DEFAULT_FILE)
        except errors.RemoteEntryNotFoundError:
            return fetch(
                _only_weights(hub.HfApi().list_repo_files(address.repository, revision=address.revision), text)
            )
        except errors.LocalEntryNotFoundError:  # without internet: what was fetched before
            folder = hub.snapshot_download(address.repository, revision=address.revision, local_files_only=True)
            kept = [path for path in Path(folder).rglob("*") if path.suffix.lower() in FORMATS]
            if not kept:
                raise
            return Path(folder) / _only_weights([path.relative_to(folder).as_posix() for path in kept], text)

    work = fetch_default if address.file is None else lambda: fetch(str(address.file))
    return _explained(work, text, _FETCH_ELSEWHERE)


def _answers(hub: ModuleType, errors: ModuleType, place: dict[str, str | None]) -> bool:
    """Whether the hub says anything about a file, were it that there is none or to ask again later."""
    try:
        hub.get_hf_file_metadata(hub.hf_hub_url(**place))
    except errors.HfHubHTTPError:
        return True
    except (errors.HTTPError, OSError):
        return False
    return True


def push_to_hub(folder: Path, address: HubAddress, *, private: bool, message: str) -> str:
    """Upload the files of `folder` in one commit, making the repository if need be; its web address.

    Raises:
        DownloadError: not logged in, not allowed, or no network.
        MissingExtraError: huggingface_hub is not installed.
    """
    api = load_extra("huggingface_hub", "hub").HfApi(library_name="ssd-vgg")

    def push() -> str:
        page = api.create_repo(address.repository, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=address.repository, folder_path=folder, revision=address.revision, commit_message=message
        )
        return str(page)

    return _explained(push, str(address), _TRY_AGAIN)


def _only_weights(files: list[str], place: str) -> str:
    found = [name for name in files if PurePosixPath(name).suffix.lower() in FORMATS]
    if len(found) == 1:
        return found[0]
    if not found:
        raise DownloadError("holds no weights file", place=place, remedy=f"Known: {', '.join(FORMATS)}.")
    some = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
    raise DownloadError(
        f"holds {len(found)} weights files: {some}", place=place, remedy=f"Name one: {place}/{found[0]}."
    )


def _explained(work: Callable[[], T], place: str, otherwise: str) -> T:
    """Do `work`; of the hub's many errors each becomes one line with a remedy, `otherwise` where none fits."""
    errors = load_extra("huggingface_hub.errors", "hub")
    try:
        return work()
    except DownloadError:
        raise
    except errors.GatedRepoError:
        problem, remedy = "asks for permission first", "Ask on its page, then `hf auth login` or set $HF_TOKEN."
    except errors.RepositoryNotFoundError:
        problem, remedy = "no such repository, or a private one", _LOG_IN
    except errors.RevisionNotFoundError:
        problem, remedy = "has no such branch, tag or commit", "Look at its page, or leave @revision out."
    except errors.RemoteEntryNotFoundError:
        problem, remedy = "has no such file", "Look at the files on its page."
    except errors.LocalTokenNotFoundError:
        problem, remedy = "nobody is logged in", "Run `hf auth login`, or set $HF_TOKEN."
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        problem = f"the hub answers {status}" if status else f"cannot be reached ({type(error).__name__})"
        remedy = _LOG_IN if status in (401, 403) else otherwise
    except errors.LocalEntryNotFoundError:
        problem, remedy = "cannot be reached, and is not in the cache", otherwise
    except errors.HTTPError as error:
        problem, remedy = f"cannot be reached ({_reason(error)})", otherwise
    except Exception as error:  # a full disk, a cache that cannot be written: its libraries raise anything
        problem, remedy = f"failed ({_reason(error)})", otherwise
    raise DownloadError(problem, place=place, remedy=remedy) from None


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
