"""The bytes of one picture out of a request: as its body, or as a file of a form."""

from typing import Final

from fastapi import HTTPException, Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from sspl.apps.serving.rooms import Share
from sspl.apps.serving.shell import read_body

FORM: Final = "multipart/form-data"
BYTES: Final = ("application/octet-stream", "binary/octet-stream")
"""What says nothing of the content; `image/...` and none at all are taken like it."""

FORM_EXTRA: Final = 65_536
"""Bytes that a form may have beside its picture."""

MOST_HEADER: Final = 8192
"""Bytes of the headers of one part of a form."""

HOW: Final = (
    "send the picture's bytes: curl -H 'Content-Type: image/jpeg' --data-binary @face.jpg URL, "
    "or as the file of a form: curl -F file=@face.jpg URL"
)


def check_kind(content_type: str) -> None:
    """Refuse what announces itself as no picture; what it is is told by its bytes alone."""
    kind = _kind(content_type)
    if kind and kind != FORM and kind not in BYTES and not kind.startswith("image/"):
        shown = kind[:60].encode("ascii", "replace").decode()
        raise HTTPException(415, f"content type '{shown}' is no picture; {HOW}.")


def _kind(content_type: str) -> str:
    return content_type.split(";")[0].strip().lower()


class _Form:
    """Collects the files of a form while it arrives; no more than one is kept."""

    def __init__(self, content_type: str, max_bytes: int) -> None:
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise HTTPException(400, f"a form without a boundary cannot be read; {HOW}.")
        self.content = bytearray()
        self.files = 0
        self.ended = False
        self._max_bytes = max_bytes
        self._name, self._value = bytearray(), bytearray()
        self._headers = 0
        self._is_file = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._field,
                    "on_header_value": self._said,
                    "on_header_end": self._header,
                    "on_part_data": self._data,
                    "on_end": self._end,
                },
            )
        except FormParserError:
            raise _broken() from None

    def write(self, chunk: bytes) -> None:
        """Take the next piece of the body."""
        try:
            self._parser.write(chunk)
        except FormParserError:
            raise _broken() from None

    def picture(self) -> bytes:
        """Return the one file."""
        if not self.ended:
            raise _broken()
        if self.files != 1:
            found = "no file" if not self.files else f"{self.files} files"
            raise HTTPException(400, f"the form holds {found}; send one picture a request.")
        return bytes(self.content)

    def _begin(self) -> None:
        self._is_file = False
        self._headers = 0
        self._name.clear()
        self._value.clear()

    def _field(self, data: bytes, start: int, end: int) -> None:
        self._grown(end - start)
        self._name += data[start:end]

    def _said(self, data: bytes, start: int, end: int) -> None:
        self._grown(end - start)
        self._value += data[start:end]

    def _grown(self, size: int) -> None:
        self._headers += size
        if self._headers > MOST_HEADER:
            raise _broken()

    def _header(self) -> None:
        if self._name.lower() == b"content-disposition":
            _, options = parse_options_header(bytes(self._value))
            # A field where no file was chosen has an empty name.
            if options.get(b"filename") or b"filename*=" in self._value.lower():
                self._is_file = True
                self.files += 1
        self._name.clear()
        self._value.clear()

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file and self.files == 1:
            self.content += data[start:end]
            if len(self.content) > self._max_bytes:
                raise HTTPException(413, f"the picture is larger than {self._max_bytes} bytes.")

    def _end(self) -> None:
        self.ended = True


def _broken() -> HTTPException:
    return HTTPException(400, f"the form is damaged or breaks off; {HOW}.")


async def read_picture(request: Request, max_bytes: int, seconds: float, share: Share) -> bytes:
    """Return the picture that a request brings; each byte is taken from `share` as it arrives.

    Raises `BusyError` when there is no room for it, and `HTTPException`.
    """
    content_type = request.headers.get("content-type", "")
    content: bytes
    if _kind(content_type) == FORM:
        form = _Form(content_type, max_bytes)

        def write(chunk: bytes) -> None:
            share.take(len(chunk))
            form.write(chunk)

        await read_body(request, max_bytes + FORM_EXTRA, seconds, "form", write)
        content = form.picture()
    else:
        body = bytearray()

        def keep(chunk: bytes) -> None:
            share.take(len(chunk))
            body.extend(chunk)

        await read_body(request, max_bytes, seconds, "picture", keep)
        content = bytes(body)
    if not content:
        raise HTTPException(400, f"no bytes came; {HOW}.")
    return content
