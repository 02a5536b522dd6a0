"""Journals of JSON lines after a kill at any byte."""

import io
import json

from hypothesis import given
from hypothesis import strategies as st

from sspl.io.json_lines import record_of, whole_lines

RECORDS = st.lists(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=9)))


@given(records=RECORDS, data=st.data())
def test_a_journal_cut_anywhere_keeps_the_records_before(
    records: list[dict[str, object]], data: st.DataObject
) -> None:
    written = [json.dumps(record).encode() + b"\n" for record in ({"sspl": 1}, *records)]
    content = b"".join(written)
    kept = content[: data.draw(st.integers(0, len(content)))]
    found = list(whole_lines(io.BytesIO(kept)))
    assert b"".join(found) == kept[: kept.rfind(b"\n") + 1]
    assert found == written[: len(found)]
    assert [record_of(line) for line in found[1:]] == records[: max(0, len(found) - 1)]


def test_a_last_line_that_is_no_record_was_cut_short_too() -> None:
    for tail in (b"\0\0\0\n", b"[1]\n", b"{\n", b"[" * 100_000 + b"\n", b'{"a": 1}'):
        assert list(whole_lines([b"head\n", b'{"b": 2}\n', tail])) == [b"head\n", b'{"b": 2}\n']


def test_a_line_in_between_is_left_to_who_reads_it() -> None:
    lines = [b"no record\n", b"nor this\n", b"{}\n"]
    assert list(whole_lines(lines)) == lines
    assert list(whole_lines(lines[:1])) == lines[:1]
    assert record_of(lines[1]) is None
