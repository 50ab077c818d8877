"""Text files of every kind and with every fault, and the interactions or the refusal that reading them gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

HOUR = 1_500_003_600
HEAD = "user,item,timestamp\n"


@dataclass(frozen=True)
class Case:
    """A file, and what is to come of it.

    Attributes:
        content: the file's bytes; text is UTF-8.
        rows: (user, item) and what else there is; None where the file is refused.
        line: that a refusal names; 0 where it names none.
        says: words of the refusal, or of the one line that is told.
        encoding: that is asked for.
    """

    content: str | bytes
    rows: list[tuple[Any, ...]] | None = None
    line: int = 0
    says: tuple[str, ...] = ()
    encoding: str | None = None
    raw: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "raw", self.content.encode() if isinstance(self.content, str) else self.content)


def times(*values: object) -> str:
    return HEAD + "".join(f"1,{item},{value}\n" for item, value in enumerate(values))


LATIN = "user,item\nBjörn,1\nJosé,2\n".encode("latin-1")
MOSTLY_UTF8 = "user,item\nBjörn,1\nJosé,2\nZoë,3\n".encode() + b"\xff,4\n"

CASES = {
    # Units of time, which the range tells.
    "seconds": Case(times(HOUR, 0), [(1, 0, HOUR), (1, 1, 0)]),
    "small numbers are seconds": Case(times(7, 9), [(1, 0, 7), (1, 1, 9)]),
    "milliseconds": Case(times(HOUR * 1000, HOUR * 1000 + 1999), [(1, 0, HOUR), (1, 1, HOUR + 1)], says=("milli",)),
    "milliseconds as floats": Case(times(f"{HOUR}000.0"), [(1, 0, HOUR)], says=("taken as milliseconds",)),
    "microseconds": Case(times(HOUR * 10**6), [(1, 0, HOUR)], says=("taken as microseconds",)),
    "nanoseconds": Case(times(HOUR * 10**9), [(1, 0, HOUR)], says=("taken as nanoseconds",)),
    "an unknown time among milliseconds": Case(times(0, HOUR * 1000), [(1, 0, 0), (1, 1, HOUR)], says=("milli",)),
    "before 1970": Case(times(-HOUR * 1000), [(1, 0, -HOUR)], says=("milli",)),
    "two units": Case(times(HOUR, HOUR, HOUR * 1000), line=4, says=("one unit", "milliseconds", "seconds")),
    "two units without a header": Case(f"1\t2\t3\t{HOUR}\n1\t3\t3\t{HOUR}000\n", line=2, says=("one unit",)),
    "dates": Case(
        times("2017-07-14", "2017-07-14T04:40:00.7"), [(1, 0, 1499990400), (1, 1, 1500007200)], says=("ISO",)
    ),
    "dates with zones": Case(
        times("2017-07-14 04:40:00Z", "2017-07-14T04:40:00+02:00"),
        [(1, 0, 1500007200), (1, 1, HOUR - 3600)],
        says=("ISO",),
    ),
    "dates with slashes": Case(
        times("2017/07/14", "2017/7/4 1:02"), [(1, 0, 1499990400), (1, 1, 1499130120)], says=("ISO",)
    ),
    "no date of the calendar": Case(times("2017-07-14", "2017-02-30"), line=3, says=("an ISO date", "'2017-02-30'")),
    "a number among dates": Case(times("2017-07-14", "2017-07-15", HOUR), line=4, says=("an ISO date", str(HOUR))),
    "a date among numbers": Case(
        times(HOUR, HOUR, "2017-07-14"),
        line=4,
        says=("expected seconds since 1970, as most others are, as", "'2017-07-14'", "--time-column none"),
    ),
    "a date of no certain order": Case(times("01/02/2017"), line=2, says=("ISO date", "'01/02/2017'")),
    "fractions of seconds": Case(times(f"{HOUR}.75", "0.5", "-0.5"), [(1, 0, HOUR), (1, 1, 0), (1, 2, -1)]),
    # Headers.
    "a header with a number for a name": Case("user,item,2\n1,2,3\n", [(1, 2)]),
    "a header of numbers beside known names": Case("0\tuser_id\titem_id\n9\t1\t2\n", [(1, 2)]),
    "a column of two": Case("user,item,item\n1,2,3\n", says=("several columns called item; give each a name",)),
    "a column of two that is not used": Case("user,item,a,a\n1,2,3,4\n", [(1, 2)]),
    "text ids and a rating are no header": Case("a,b,2\n", [("a", "b", 2.0)]),
    # Ids.
    **{
        f"{text} is no id": Case(f"user,item\n1,2\n{text},3\n", line=3, says=("user id", repr(text)))
        for text in ("nan", "NaN", "NAN", "<NA>", "NaT", "null", "NULL", "None")
    },
    "nan is no item": Case("user,item\n1,2\n1, nan \n", line=3, says=("item id", "'nan'")),
    "Nan is a name": Case("user,item\nNan,nancy\n", [("Nan", "nancy")]),
    "NUL in an id": Case("user,item\na,1\na\0,2\n", line=3, says=("user id", r"'a\x00'")),
    "NUL inside an id": Case("user,item\na,1\nb\0c,2\n", line=3, says=("user id",)),
    "an id of 400 digits": Case(f"user,item\n{'9' * 400},1\n", [("9" * 400, 1)]),
    "an id of 5000 digits": Case(f"user,item\n{'9' * 5000},1\n", [("9" * 5000, 1)]),
    "5000 digits in LightGCN's lines": Case(f"1 2\n{'9' * 5000} 2\n", [("1", 2), ("9" * 5000, 2)]),
    # Numbers.
    "a rating in Python's own way": Case("user,item,rating\n1,2,1_0\n", line=2, says=("rating", "'1_0'")),
    "a time in Python's own way": Case(times("1_0"), line=2, says=("timestamp", "'1_0'")),
    "a time of 400 digits": Case(times("9" * 400), line=2, says=("timestamp",)),
    "a time of 5000 digits": Case(times("9" * 5000), line=2, says=("timestamp",)),
    "a time that overflows": Case(times("1e400"), line=2, says=("timestamp",)),
    "a rating that overflows": Case("user,item,rating\n1,2,1e400\n", line=2, says=("rating",)),
    "a missing rating": Case("user,item,rating\n1,2,\n", line=2, says=("finite number as rating, found ''",)),
    "an infinite rating": Case("user,item,rating\n1,2,inf\n", line=2, says=("finite number as rating, found 'inf'",)),
    "several malformed values": Case(
        "user,item,rating\n1,2,3\n1,3,x\n1,,y\n", line=3, says=("'x'", "2 other lines are")
    ),
    # Lines and quotes.
    "blank lines are no lines of data": Case("user,item\n1,2\n\n\n2,x\n\n", [(1, "2"), (2, "x")]),
    "blank lines before the header": Case(" \n\r\nuser,item\n1,2\r\n1,3\r", [(1, 2), (1, 3)]),
    "blank lines before tabs": Case("\n\n1\t2\n1\t3\n", [(1, 2), (1, 3)]),
    "a fault after a blank first line": Case(" \n\nuser,item\n\n-2,3\n", line=5, says=("'-2'",)),
    "a fault between tabs after a blank first line": Case(" \n\nuser\titem\n1\t\n", line=4, says=("item id",)),
    "a width after a blank first line": Case("\nuser,item\n2\n", line=3, says=("found 1",)),
    "a line after blank ones": Case("user,item\n1,2\n\n\n-2,3\n", line=5, says=("'-2'",)),
    "a width after blank ones": Case(
        "user,item\n1,2\n\n\n2\n", line=5, says=("expected 2 columns separated by ',', found 1",)
    ),
    "too many columns": Case("1::10::5::1\n1::2::3::4::5\n", line=2, says=("4 columns separated by '::', found 5",)),
    "several malformed lines": Case("1\t10\n1\n2\n3\n", line=2, says=("found 1; 2 other lines are malformed too",)),
    "one line without several columns": Case("1\t2\t3\t4\n1\n2\n", line=2, says=("; another line is malformed too",)),
    "line ends of Windows": Case("user,item\r\n1,2\r\n2,3\r\n", [(1, 2), (2, 3)]),
    "line ends of old Macs": Case("user,item\r1,2\r2,3\r", [(1, 2), (2, 3)]),
    "a lone carriage return in quotes": Case(
        'user,item\n"\r-1;0nan\r\n"é', says=("cannot be read as a table", "check its quotes and line ends")
    ),
    "mixed line ends": Case("user,item\r\n1,2\n2,3\r\n\n3,4", [(1, 2), (2, 3), (3, 4)]),
    "a fault among mixed line ends": Case("user,item\r\n1,2\n2,-3\r\n", line=3, says=("'-3'",)),
    "no last line end": Case("user\titem\n1\t2\n2\t3", [(1, 2), (2, 3)]),
    "a byte order mark": Case("\ufeffuser,item\n1,2\n", [(1, 2)]),
    "a byte order mark and a fault": Case("\ufeffuser,item\n1,2\n3\n", line=3, says=("found 1",)),
    "quotes": Case('"user","item"\n"a, b","c ""d"""\n', [("a, b", 'c "d"')]),
    "a line end in quotes": Case('user,item\n"a\nb",1\nc,2\n', [("a\nb", 1), ("c", 2)]),
    "a fault after a line end in quotes": Case('user,item\n"a\nb",1\n"c\n\nd",2\n,3\n', line=7, says=("user id",)),
    "a quote that never ends": Case('user,item\n1,2\n1,"2\n', line=3, says=("in quotes",)),
    "text after a quote": Case('user,item\n1,2\n1,"2"3\n', line=3, says=("in quotes",)),
    "a quote within a text": Case('user,item\n1,a "b" c\n', [(1, 'a "b" c')]),
    "quotes between tabs are characters": Case('user\titem\n"a\tb"\n', [('"a', 'b"')]),
    "spaces around ids in quotes": Case('user,item\n"  a ",1\na,2\n', [("a", 1), ("a", 2)]),
    "spaces around values": Case("user, item, rating\n 1 , 2 , 3\n\u3000x, 2,3\n", [("1", 2, 3.0), ("x", 2, 3.0)]),
    "leading zeros": Case("user,item\n00731,5\n731,6\n", [("00731", 5), ("731", 6)]),
    "a line that is too long": Case(
        f"user,item\n1,2\n3,{'x' * 9_000_000}\n" + "4,5\n", line=3, says=("at most 8,388,608 bytes, found 9",)
    ),
    # JSON lines.
    "JSON": Case(
        '{"user": "a", "item": 5, "x": {"y": [1]}}\n\n{"item": 6, "user": 7, "tags": []}\n', [("7", 6), ("a", 5)]
    ),
    "JSON with a null": Case(
        '{"user": 1, "item": 5}\n{"user": null, "item": 5}\n', line=2, says=("user id", "found ''")
    ),
    "JSON without a key": Case('{"user": 1, "item": 5}\n\n{"item": 5}\n', line=3, says=("user id",)),
    "JSON cut short": Case(
        '{"user": 1, "item": 5}\n{"user": 1,\n', line=2, says=("a JSON object, found '{\"user\": 1,'",)
    ),
    "JSON but no object": Case('{"user": 1, "item": 5}\n[1, 5]\n', line=2, says=("a JSON object, found '[1, 5]'",)),
    "JSON after a blank line": Case('\n{"user": 1, "item": 5}\n', [(1, 5)]),
    "a JSON array": Case('[{"user": "a", "item": 5}, {"item": 6, "user": 7}]', [("7", 6), ("a", 5)]),
    "a JSON array of lines": Case(
        '\n[\n  {\n    "user": 1, "item": 5\n  },\n{"item": 6, "user": 1}\n]\n', [(1, 5), (1, 6)]
    ),
    "a fault in a JSON array": Case('[{"user": 1, "item": 5},\n\n{"item": 5}]', says=(", row 2: expected a user id",)),
    "no object in a JSON array": Case('[{"user": 1, "item": 5},\n[1, 5]]', says=(", row 2: expected a JSON object",)),
    "a JSON array cut short": Case('[{"user": 1, "item": 5},\n{"user": 1', says=("is cut short or damaged",)),
    "brackets around an id": Case("[1],[2],5\n", [("[1]", "[2]", 5.0)]),
    # LightGCN's lines.
    "LightGCN": Case("0 5 3\n1 3 \n2\n7 5\n", [(0, 3), (0, 5), (1, 3), (7, 5)]),
    "a word in LightGCN's lines": Case(
        "0 1 2\n1 2 x\n", line=2, says=("'user item item ...', integers from 0 up, found 'x'",)
    ),
    "a negative number there": Case("0 1 -2\n", line=1, says=("integers from 0 up, found '-2'",)),
    "a blank line there": Case("0 1\n\n1 2\n", line=2, says=("found a blank line",)),
    "ratings between spaces": Case("1 10 5 978300760\n1 11 4 978300761\n", says=("tabs or commas",)),
    "a header and spaces after a blank line": Case("\nuser item\n1 2\n", [(1, 2)]),
    "a header and spaces": Case(
        "user item rating\n1  2 3\n\n1 3\n", line=4, says=("expected 3 columns separated by ' ', found 2",)
    ),
    # Files without interactions.
    "an empty file": Case("", says=("is empty",)),
    "blank lines alone": Case("\n \n", says=("is empty",)),
    "a header alone": Case("user,item\n", says=("holds no interactions, only a header",)),
    "users alone": Case("0\n1\n", says=("holds no interactions, only users",)),
    "no known column": Case(
        "who,what,rating\n1,2,3\n",
        says=(
            "the columns who, what, rating",
            "the user and the item cannot",
            "--user-column NAME and --item-column NAME",
            "--time-column, --rating-column",
        ),
    ),
    "no known item column": Case(
        "customer_id,thing\n1,2\n", says=("which of them is the item", "give --item-column NAME")
    ),
    "too many columns without a header": Case("1,2,3,4,5\n", line=1, says=("2 to 4 columns", "--user-column")),
    "no text": Case("user\0\x15", says=("is not a text file",)),
    "a zip archive": Case(b"PK\x03\x04\x14\0\xff\0", says=("is a zip archive or an Excel workbook; unpack it",)),
    "a bzip2 file": Case(b"BZh91AY&SY\xff", says=("is a bzip2 file; unpack it",)),
    "an xz file": Case(b"\xfd7zXZ\0\0", says=("is an xz file; unpack it",)),
    # Encodings.
    "UTF-8": Case("user,item\nBjörn,1\n", [("Björn", 1)]),
    "Latin-1": Case(LATIN, [("Björn", 1), ("José", 2)], says=("2 bytes, the first in line 2", "--encoding")),
    "Latin-1 after a blank line": Case(b"\n" + LATIN, [("Björn", 1), ("José", 2)], says=("the first in line 3",)),
    "Latin-1 that is asked for": Case(LATIN, [("Björn", 1), ("José", 2)], encoding="latin-1"),
    "UTF-8 that is asked for": Case(LATIN, says=("not in the encoding utf-8", "--encoding"), encoding="utf-8"),
    "one bad byte in UTF-8": Case(MOSTLY_UTF8, says=("1 byte, the first in line 5", "--encoding latin-1")),
    "UTF-16": Case("user,item\nBjörn,1\n".encode("utf-16"), [("Björn", 1)], encoding="utf-16"),
    "UTF-16 that is not asked for": Case("user,item\nBjörn,1\n".encode("utf-16"), [("Björn", 1)]),
    "UTF-16 cut short": Case("user,item\na,1\n".encode("utf-16")[:-1], says=("not in the encoding utf-16",)),
    "UTF-16 without its mark": Case("user,item\na,1\n".encode("utf-16-le"), says=("--encoding", "utf-16-le")),
    "no such encoding": Case("user,item\n1,2\n", says=("no text encoding 'latin1x'",), encoding="latin1x"),
    "an encoding of bytes": Case("user,item\n1,2\n", says=("no text encoding 'base64'",), encoding="base64"),
    "an encoding with NUL": Case("user,item\n1,2\n", says=("no text encoding",), encoding="a\0"),
    "half a character": Case("user,item\n\\ud800,2\n", says=("valid Unicode",), encoding="unicode_escape"),
}
