"""What the columns and values of a table of labels may mean."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

UNKNOWN: Final = ("", "nan", "none", "na", "n/a", "<na>", "#n/a", "nat", "null")
"""Lower-case spellings of a value that is not known, pandas' and Excel's among them."""

NO_VALUE: Final = frozenset({"", "nan", "NaN", "<NA>", "#N/A", "NaT"})
"""Those that no person writes for something else."""

_NUMBER: Final = re.compile(r"([+-]?)([01])(?:([.,])0*)?(?:e[+-]?0+)?")

_PART: Final = (
    r"(?:train(?:ing)?|test(?:ing)?|val(?:id(?:ation)?)?|dev|eval(?:uation)?|holdout|heldout)"
)
_SPLIT: Final = re.compile(
    rf"(?:is|in|for|use|used|as)*{_PART}+(?:set|subset|data|flag|id|idx|mask|only|sample|images?)*"
    rf"|(?:{_PART}|data|dataset|official|random|stratified|group|original|default|new|cv|k|x|cross)*"
    r"(?:split|fold|partition|subset|phase|usage)s?(?:id|no|nr|number|name|idx|index|key|set)?"
    r"|cv|tvt|set"
)
"""Names of columns that hold a split, in small letters, without signs and figures."""

_IMAGES: Final = frozenset((
    "image", "images", "img", "imageid", "imageids", "imagename", "imagefile", "imagepath",
    "imgid", "imgname", "imgpath", "file", "files", "filename", "filepath", "path", "name",
    "names", "photo", "picture", "url", "key", "index", "id", "row", "hash", "md5", "sha1",
    "sha256", "uid", "uuid", "level0", "videoid", "frame", "frameid", "faceid",
))  # fmt: skip
_GROUPS: Final = frozenset((
    "identity", "identities", "identityname", "identityid", "personid", "person", "people",
    "subject", "subjectid", "subjects", "celebrity", "actor", "age", "ages", "agegroup",
    "source", "dataset", "domain", "session", "camera", "annotator", "rater",
))  # fmt: skip


class Codes(dict[str, int]):
    """Codes of lower-case values; a number counts in any spelling, such as `1.0` and `1e+00`.

    Args:
        codes: code of each value; of numbers those of `1`, `0` and `-1` that are allowed.
        decimal: what may stand before a fraction, `.` or both `.` and `,`.
    """

    def __init__(self, codes: Mapping[str, int], decimal: str = ".") -> None:
        super().__init__(codes)
        self._decimal = decimal

    def __missing__(self, text: str) -> int:
        """Return the code of another spelling of a number; raise `KeyError` for anything else."""
        number = _NUMBER.fullmatch(text)
        if number is None or (number[3] and number[3] not in self._decimal):
            raise KeyError(text)
        sign = "-" if number[1] == "-" and number[2] == "1" else ""
        code = self.get(sign + number[2])
        if code is None:
            raise KeyError(text)
        self[text] = code
        return code


def no_attribute(column: str) -> str | None:
    """Return what a column of this name holds in place of an attribute; None where it may be one.

    Case, blanks and signs in the name do not count: `Is_Train` is `istrain`.
    """
    plain = re.sub(r"[\W_]+", "", column.lower())
    if _SPLIT.fullmatch(plain.rstrip("0123456789")):
        return "a split"
    if plain in _IMAGES:
        return "names of images"
    return "who or what a face is of" if plain in _GROUPS else None


def no_attribute_error(where: str, column: str, settable: bool = True) -> str:
    """Return the sentence for a column that is taken for an attribute by nothing but its values.

    Without `settable` it names no setting of data sets.
    """
    meaning = no_attribute(column)
    seems = f"{where}: column '{column}' seems to hold {meaning}, no attribute;"
    if not settable:
        rename = " call it 'split', with train, val and test, or" if meaning == "a split" else ""
        return f"{seems}{rename} take it out of the file."
    use = {
        "a split": "call it 'split', with train, val and test,",
        "names of images": f"leave it out with ignore_columns={column},",
        "who or what a face is of": f"give it as group_columns={column},",
    }[meaning or "a split"]
    other = "" if meaning == "names of images" else f" leave it out with ignore_columns={column},"
    return f"{seems} {use}{other} or name it in a schema_file where it is one."


def image_column(header: Iterable[str]) -> str | None:
    """Return the first column whose name speaks of images."""
    return next((name for name in header if no_attribute(name) == "names of images"), None)
