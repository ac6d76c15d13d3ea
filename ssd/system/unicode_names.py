"""File names in either Unicode form: macOS writes é as e and an accent (NFD), others as one character (NFC)."""

import unicodedata
from typing import TypeVar

T = TypeVar("T")


def nfc(name: str) -> str:
    """The name with composed characters."""
    return unicodedata.normalize("NFC", name)


class Named(dict[str, T]):
    """Things by their names, found under the other Unicode form too where it is the only thing of that name."""

    _forms: dict[str, list[str]] | None = None

    def spelling(self, name: str) -> str | None:
        """The key that a name stands for; None where there is none, or more than one in other forms."""
        if name in self or name.isascii():
            return name if name in self else None
        if self._forms is None:  # nothing is added after the first question
            self._forms = {}
            for key in self:
                self._forms.setdefault(nfc(key), []).append(key)
        keys = self._forms.get(nfc(name), [])
        return keys[0] if len(keys) == 1 else None

    def find(self, name: str) -> T | None:
        """The thing of that name."""
        key = self.spelling(name)
        return None if key is None else self[key]
