"""What each attribute means, in the words of those who label: a file beside the answers."""

import threading
from pathlib import Path
from typing import Any, Final

import yaml

from sspl.data.adapters.dialect import read_csv
from sspl.errors import DataError
from sspl.io.files import write_csv, write_text
from sspl.settings.yaml_files import read_yaml

SUFFIX: Final = ".definitions.yaml"
LONGEST: Final = 600
COLUMNS: Final = ["attribute", "definition"]


class Definitions:
    """Attribute to definition, in a YAML file of such pairs or a CSV file with `COLUMNS`.

    Several pages may use one file: it is read again before it is changed.

    Args:
        file: where they are kept; it need not be there when `given` is False.
        given: whether the user named it.

    Raises:
        DataError: for a file that holds something else, naming the attribute.
    """

    def __init__(self, file: Path, given: bool = False) -> None:
        self.file = file
        self._lock = threading.Lock()
        if given and not file.is_file():
            raise DataError(f"{file}: no such file.")
        self._texts = self._there()

    @property
    def texts(self) -> dict[str, str]:
        """All of them, those of attributes that are not asked for included."""
        with self._lock:
            return dict(self._texts)

    def define(self, attribute: str, text: str) -> None:
        """Keep a definition, or none where the text is empty; raise `SsplError` if it cannot be."""
        with self._lock:
            changed = self._there() | {attribute: plain(text)}
            texts = {name: words for name, words in changed.items() if words}
            if self.file.suffix.lower() == ".csv":
                write_csv(self.file, COLUMNS, list(texts.items()))
            else:
                write_text(self.file, yaml.safe_dump(texts, allow_unicode=True, sort_keys=False))
            self._texts = texts

    def _there(self) -> dict[str, str]:
        return self._read() if self.file.exists() else {}

    def _read(self) -> dict[str, str]:
        is_table = self.file.suffix.lower() == ".csv"
        found = self._table() if is_table else read_yaml(self.file) or {}
        if not isinstance(found, dict):
            raise DataError(f"{self.file}: expected one 'attribute: definition' a line.")
        for name, text in found.items():
            if not isinstance(name, str) or not isinstance(text, str) or len(text) > LONGEST:
                raise DataError(
                    f"{self.file}: the definition of '{name}' must be a text of at most "
                    f"{LONGEST} characters; put it in quotes."
                )
        return {name: plain(text) for name, text in found.items()}

    def _table(self) -> dict[str, Any]:
        rows = read_csv(self.file)
        line, header = next(rows)
        if header != COLUMNS:
            raise DataError(f"{self.file}, line {line}: expected the columns {','.join(COLUMNS)}.")
        found: dict[str, Any] = {}
        for line, (name, text) in rows:
            if name in found:
                raise DataError(f"{self.file}, line {line}: '{name}' is defined twice; keep one.")
            found[name] = text
        return found


def plain(text: str) -> str:
    """Return a text in one line, without characters that are not seen."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
