"""Files as people have them, each with the table that a person expects, or the refusal.

The files are generated here. Those of `SPECTRUM` say what the twelve files of csv-spectrum say, a
collection of CSV that parsers misread (npm, BSD-2-Clause).
"""

from __future__ import annotations

import gzip
import io
import json
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


@dataclass(frozen=True)
class InputFile:
    """A file, and what `forebay load` makes of it.

    Attributes:
        what: what the file is.
        name: its name.
        data: its bytes.
        arguments: what a person adds to the command.
        columns: the names and types of the table's columns, as `name TYPE`; empty if no table is
            expected.
        rows: the rows of the table.
        message: a part of what the command prints to standard error.
        exit_code: the exit code.
    """

    what: str
    name: str
    data: bytes
    arguments: Sequence[str] = ()
    columns: str = ""
    rows: Sequence[tuple[Any, ...]] = ()
    message: str = ""
    exit_code: int = 0


def loads(
    what: str,
    name: str,
    data: str | bytes,
    columns: str,
    rows: Sequence[tuple[Any, ...]],
    *arguments: str,
    message: str = "",
    exit_code: int = 0,
) -> InputFile:
    """Return a file that loads."""
    raw = data.encode() if isinstance(data, str) else data
    return InputFile(what, name, raw, arguments, columns, rows, message, exit_code)


def refused(what: str, name: str, data: str | bytes, message: str, *arguments: str) -> InputFile:
    """Return a file that is refused before any row is loaded, with a message that helps."""
    raw = data.encode() if isinstance(data, str) else data
    return InputFile(what, name, raw, arguments, message=message, exit_code=2)


def zipped(members: Mapping[str, str]) -> bytes:
    """Return a zip archive of texts, by the names of its files."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return file.getvalue()


def lines(*rows: str, end: str = "\n") -> str:
    """Return lines of text."""
    return "".join(row + end for row in rows)


SPREADSHEETS = [
    loads(
        "Excel's CSV UTF-8",
        "people.csv",
        lines("id,name", "1,Zoë", "2,Łukasz", end="\r\n").encode("utf-8-sig"),
        "id INTEGER, name TEXT",
        [(1, "Zoë"), (2, "Łukasz")],
    ),
    loads(
        "Excel's CSV in Germany",
        "umsatz.csv",
        lines("Datum;Straße;Betrag", "01.02.2024;Königsallee;1.234,56", end="\r\n").encode(
            "cp1252"
        ),
        "Datum TEXT, Straße TEXT, Betrag TEXT",
        [("01.02.2024", "Königsallee", "1.234,56")],
        *("--delimiter", ";", "--encoding", "cp1252"),
    ),
    loads(
        "Excel's Unicode Text",
        "sheet.txt",
        lines("id\tcity", "1\tŁódź", '2\t"a ""b"""', end="\r\n").encode("utf-16"),
        "id INTEGER, city TEXT",
        [(1, "Łódź"), (2, 'a "b"')],
        *("--format", "tsv"),
    ),
    loads(
        "Excel's CSV on an old Mac",
        "mac.csv",
        lines("id,name", "1,Zoë", "2,Bob", end="\r").encode("mac_roman"),
        "id INTEGER, name TEXT",
        [(1, "Zoë"), (2, "Bob")],
        *("--encoding", "mac_roman"),
    ),
    loads(
        "a Japanese export",
        "shohin.csv",
        lines("番号,商品", "1,りんご", "2,表示", end="\r\n").encode("shift_jis"),
        "番号 INTEGER, 商品 TEXT",
        [(1, "りんご"), (2, "表示")],
        *("--encoding", "shift_jis"),
    ),
    loads(
        "Excel's CSV with a line sep=",
        "sep.csv",
        lines("sep=;", "id;price", "1;2.5", "2;3.25", end="\r\n"),
        "id INTEGER, price REAL",
        [(1, 2.5), (2, 3.25)],
    ),
    loads(
        "LibreOffice's CSV with every cell quoted",
        "quoted.csv",
        lines('"id","note"', '"1","says ""hi"""', '"2",""'),
        "id INTEGER, note TEXT",
        [(1, 'says "hi"'), (2, "")],
    ),
    loads(
        "a sheet with line breaks in cells",
        "notes.csv",
        'id,note\r\n1,"first\r\nsecond"\r\n2,one\r\n',
        "id INTEGER, note TEXT",
        [(1, "first\r\nsecond"), (2, "one")],
    ),
    loads(
        "a sheet with an empty column and an empty row at the end",
        "wide.csv",
        lines("id,name,", "1,Ada,", ",,"),
        "id INTEGER, name TEXT, untitled_3 TEXT",
        [(1, "Ada", ""), (None, "", "")],
    ),
    loads(
        "identifiers with leading zeros, and phone numbers",
        "contacts.csv",
        lines("zip,phone,account", "02139,+1 617 555 0100,12345678901234567890"),
        "zip TEXT, phone TEXT, account TEXT",
        [("02139", "+1 617 555 0100", "12345678901234567890")],
    ),
    loads(
        "dates, percentages, amounts and truth values, which stay as they are",
        "report.csv",
        lines("day,share,amount,ok", '2024-02-30,12%,"1,234.50",TRUE', "2024-03-01,5%,$3,FALSE"),
        "day TEXT, share TEXT, amount TEXT, ok TEXT",
        [("2024-02-30", "12%", "1,234.50", "TRUE"), ("2024-03-01", "5%", "$3", "FALSE")],
    ),
    loads(
        "prices that end in zeros",
        "prices.csv",
        lines("item,price", "tea,1.10", "pie,2.00"),
        "item TEXT, price REAL",
        [("tea", 1.1), ("pie", 2.0)],
        *("--type", "price", "REAL"),
    ),
    loads(
        "a sheet with errors of formulas and gaps",
        "formulas.csv",
        lines("id,rate", "1,0.5", "2,#N/A", "3,", "4,#DIV/0!"),
        "id INTEGER, rate REAL",
        [(1, 0.5), (2, None), (3, None), (4, None)],
        *("--null", "#N/A", "--null", "#DIV/0!"),
    ),
    refused(
        "a CSV with semicolons, without an option",
        "umsatz.csv",
        lines("Datum;Betrag", "01.02.2024;5"),
        "name its delimiter, such as --delimiter ';', or use --sniff",
    ),
    loads(
        "a CSV with spaces after its commas, with --sniff",
        "typed.csv",
        lines("id, name, place", '1, "Doe, J", here', '2, "Roe, R", there'),
        "id INTEGER, name TEXT, place TEXT",
        [(1, "Doe, J", "here"), (2, "Roe, R", "there")],
        "--sniff",
    ),
    refused(
        "a CSV with spaces after its commas, without an option",
        "typed.csv",
        lines("id, name", '1, "Doe, J"'),
        "line 2: the row has 3 cells; expected 2, as in the header; a quote after a space does not "
        "begin a quoted cell; --sniff skips spaces",
    ),
    loads(
        "a report with a title above its header",
        "title.csv",
        lines("Sales 2024,,", ",,", "id,name,size", "1,Ada,2"),
        "Sales 2024 TEXT, untitled_2 TEXT, untitled_3 TEXT",
        [("", "", ""), ("id", "name", "size"), ("1", "Ada", "2")],
        message="most columns have no name in the first line; if the header is in a later one",
    ),
    loads(
        "the same file with --sniff",
        "umsatz.csv",
        lines("Datum;Betrag", "01.02.2024;5", "02.02.2024;1,5"),
        "Datum TEXT, Betrag TEXT",
        [("01.02.2024", "5"), ("02.02.2024", "1,5")],
        "--sniff",
    ),
    refused(
        "an export in another encoding, without an option",
        "people.csv",
        lines("id,name", "1,Zoë").encode("cp1252"),
        "line 2: byte 5 of the line, 0xeb, is not UTF-8; if the input has another encoding, name",
    ),
    refused(
        "an Excel workbook",
        "book.xlsx",
        zipped({"[Content_Types].xml": "<x/>", "xl/workbook.xml": "<x/>"}),
        "book.xlsx: the input is a spreadsheet; save the sheet as CSV",
    ),
    refused(
        "an old Excel workbook with a name that misleads",
        "book.csv",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512),
        "book.csv: the input is an Excel workbook; save the sheet as CSV",
    ),
]

LOGS = [
    loads(
        "a log with vertical bars",
        "app.log",
        lines("time|level|text", "2024-01-01 10:00:00|INFO|a: b, c", "2024-01-01 10:00:01|WARN|"),
        "time TEXT, level TEXT, text TEXT",
        [("2024-01-01 10:00:00", "INFO", "a: b, c"), ("2024-01-01 10:00:01", "WARN", "")],
        *("--delimiter", "|"),
    ),
    loads(
        "events of several kinds",
        "events.ndjson",
        lines(
            '{"id":1,"kind":"a"}', '{"id":2,"kind":"b","ms":1.5}', '{"id":3,"kind":"a","ok":true}'
        ),
        "id INTEGER, kind TEXT, ms REAL, ok INTEGER",
        [(1, "a", None, None), (2, "b", 1.5, None), (3, "a", None, 1)],
    ),
    loads(
        "compressed events with nested values",
        "events.jsonl.gz",
        gzip.compress(lines('{"id":1,"user":{"name":"ä"},"tags":["x"]}').encode()),
        "id INTEGER, user TEXT, tags TEXT",
        [(1, '{"name": "ä"}', '["x"]')],
    ),
    loads(
        "events compressed by zstd",
        "events.ndjson.zst",
        zstd.compress(b'{"id": 1}\n{"id": 2}\n'),
        "id INTEGER",
        [(1,), (2,)],
    ),
    loads(
        "a log whose last line was cut off",
        "events.ndjson",
        '{"id": 1}\n{"id": 2}\n{"id": 3, "te',
        "id INTEGER",
        [(1,), (2,)],
        "--skip-malformed",
        message="events.ndjson, line 3: the line is not JSON: Unterminated string",
        exit_code=1,
    ),
    loads(
        "an access log without a header",
        "access.csv",
        lines("10.0.0.1,GET,/,200,512", "10.0.0.2,POST,/a,404,0"),
        "host TEXT, method TEXT, path TEXT, status INTEGER, bytes INTEGER",
        [("10.0.0.1", "GET", "/", 200, 512), ("10.0.0.2", "POST", "/a", 404, 0)],
        *("--header", "host,method,path,status,bytes"),
    ),
    loads(
        "measurements without a header",
        "sensor.tsv",
        lines("1\t20.5", "2\t21.25"),
        "column1 INTEGER, column2 REAL",
        [(1, 20.5), (2, 21.25)],
        "--no-headers",
    ),
    loads(
        "text with tabs and stray quotes",
        "quotes.tsv",
        lines("id\ttext", '1\t"unbalanced', '2\tsays "hi"'),
        "id INTEGER, text TEXT",
        [(1, '"unbalanced'), (2, 'says "hi"')],
        *("--quotechar", ""),
    ),
    loads(
        "a log with blank lines between the rows",
        "gaps.csv",
        "\n\nid,v\n1,x\n\n\n2,y\n\n",
        "id INTEGER, v TEXT",
        [(1, "x"), (2, "y")],
    ),
    loads(
        "a log that was rotated within a line",
        "app.csv",
        b"id,v\n1,x\n2,\0\0\0\0\n3,y\n",
        "id INTEGER, v TEXT",
        [(1, "x"), (3, "y")],
        "--skip-malformed",
        message="app.csv, line 3: character 3 of the line is NUL",
        exit_code=1,
    ),
]

OBJECTS = [{"id": 1, "name": "é", "tags": ["a", "b"]}, {"id": 2, "name": None, "tags": []}]
OBJECT_ROWS = [(1, "é", '["a", "b"]'), (2, None, "[]")]
OBJECT_COLUMNS = "id INTEGER, name TEXT, tags TEXT"

ANSWERS = [
    loads("an array in one line", "dump.json", json.dumps(OBJECTS), OBJECT_COLUMNS, OBJECT_ROWS),
    loads(
        "an indented array",
        "dump.json",
        json.dumps(OBJECTS, indent=4, ensure_ascii=False),
        OBJECT_COLUMNS,
        OBJECT_ROWS,
    ),
    loads(
        "objects that jq printed one after the other",
        "dump.json",
        "\n".join(json.dumps(row, indent=2) for row in OBJECTS),
        OBJECT_COLUMNS,
        OBJECT_ROWS,
    ),
    loads(
        "one object per line in a file .json",
        "dump.json",
        lines(*map(json.dumps, OBJECTS)),
        OBJECT_COLUMNS,
        OBJECT_ROWS,
    ),
    refused(
        "an array in a file .ndjson",
        "dump.ndjson",
        json.dumps(OBJECTS),
        "line 1: the line is an array; expected one object per line; --format json reads",
    ),
    loads(
        "nested objects, flattened",
        "users.json",
        '[{"id": 1, "address": {"city": "Bern", "geo": {"lat": 46.95}}}]',
        "id INTEGER, address_city TEXT, address_geo_lat REAL",
        [(1, "Bern", 46.95)],
        "--flatten",
    ),
    loads(
        "an answer with the rows in a key",
        "page.json",
        '{"next": null, "items": [{"id": 1}]}',
        "next TEXT, items TEXT",
        [(None, '[{"id": 1}]')],
        message="its key 'items' has 1 object; to load these, run: jq",
    ),
    loads(
        "numbers that are no JSON, or too large",
        "numbers.json",
        '[{"a": 1},\n{"a": NaN},\n{"a": 2}]',
        "a INTEGER",
        [(1,), (2,)],
        "--skip-malformed",
        message="numbers.json, line 2: the object is not JSON: NaN is not a JSON number",
        exit_code=1,
    ),
    loads(
        "identifiers beyond 64 bits",
        "ids.ndjson",
        lines('{"id": 12345678901234567890123}', '{"id": 5}'),
        "id TEXT",
        [("12345678901234567890123",), ("5",)],
    ),
    loads("an empty array", "none.json", "[]", "", []),
    *(
        refused(
            f"an answer of JSON with a name of CSV, {what}",
            "answer.csv",
            text,
            "answer.csv, line 1: the input is JSON; to load it, add --format json",
        )
        for what, text in (
            ("an array", '[{"id": 1, "name": "x"}]'),
            ("indented", '[\n  {\n    "id": 1\n  }\n]\n'),
            ("lines", '{"id": 1, "v": 2}\n{"id": 2, "v": 3}\n'),
        )
    ),
    loads(
        "an object of objects",
        "users.json",
        '{"ada": {"id": 1}, "bob": {"id": 2}}',
        "ada TEXT, bob TEXT",
        [('{"id": 1}', '{"id": 2}')],
        message="each of its 2 values is an object; to load these, run: jq '.[]' FILE",
    ),
    loads(
        "an array that was cut off in an object",
        "cut.json",
        '[{"id": 1}, {"id":',
        "id INTEGER",
        [(1,)],
        message="cut.json, line 1: the input is not JSON: Expecting value; is the file complete?",
        exit_code=2,
    ),
    loads(
        "an array with a comma after its last object",
        "comma.json",
        '[\n{"id": 1},\n]',
        "id INTEGER",
        [(1,)],
        message="comma.json, line 3: a comma follows the last object; remove it",
        exit_code=2,
    ),
    loads(
        "an array that was cut off",
        "cut.json",
        '[{"id": 1},\n{"id": 2},\n',
        "id INTEGER",
        [(1,), (2,)],
        message="cut.json, line 3: the array does not end; is the file complete?",
        exit_code=2,
    ),
]

DUMPS = [
    loads(
        "psql's CSV, in which NULL is an empty cell",
        "t.csv",
        lines("id,name,born", "1,Ada,1815-12-10", "2,,"),
        "id INTEGER, name TEXT, born TEXT",
        [(1, "Ada", "1815-12-10"), (2, None, None)],
        *("--null", ""),
    ),
    loads(
        "psql's COPY in text format",
        "t.copy",
        lines("1\tAda\t\\N", '2\tsays "hi"\t5'),
        "id INTEGER, name TEXT, n INTEGER",
        [(1, "Ada", None), (2, 'says "hi"', 5)],
        *("--format", "tsv", "--quotechar", "", "--null", "\\N", "--header", "id,name,n"),
    ),
    loads(
        "the output of mysql --batch",
        "t.tsv",
        lines("id\tname", "1\tAda", "2\tNULL"),
        "id INTEGER, name TEXT",
        [(1, "Ada"), (2, None)],
        *("--null", "NULL", "--key", "id"),
    ),
    loads(
        "the sqlite3 shell's CSV, without a header",
        "t.csv",
        lines('1,"it\'s",x', '2,"a ""b""",', end="\r\n"),
        "column1 INTEGER, column2 TEXT, column3 TEXT",
        [(1, "it's", "x"), (2, 'a "b"', "")],
        "--no-headers",
    ),
    refused(
        "a MySQL export with quotes after backslashes",
        "t.csv",
        lines("id,note", '1,"says \\"hi\\""'),
        "line 2: ',' expected after '\"'; write a quote inside quotes twice, or use --quotechar ''",
    ),
    refused(
        "an SQLite database",
        "t.db.csv",
        b"SQLite format 3\0" + bytes(100),
        "the input is an SQLite database; open it, or export its table as CSV",
    ),
    refused(
        "a dump of SQL with a name of CSV",
        "t.csv",
        "-- MySQL dump 10.13\nCREATE TABLE t (a int);\n",
        "t.csv, line 1: the input is SQL, such as a dump of a database",
    ),
    refused("a dump of SQL", "t.sql", "CREATE TABLE t (a);\n", "name the format with --format"),
    refused("a Parquet file", "t.csv", b"PAR1" + bytes(50), "the input is a Parquet file"),
]

BROKEN = [
    refused("an empty file", "empty.csv", "", "the input is empty; expected a header"),
    loads("a header without rows", "head.csv", "id,name\n", "id TEXT, name TEXT", []),
    refused(
        "a quote that is never closed",
        "open.csv",
        'id,v\n1,"x\n2,y\n',
        "open.csv, line 2: a quote is opened and never closed; add the closing quote",
    ),
    refused(
        "rows with too few cells",
        "short.csv",
        "id,v\n1\n2,y\n",
        "line 2: the row has 1 cell; expected 2, as in the header; --short-rows pad fills it",
    ),
    loads(
        "rows with too few cells, filled",
        "short.csv",
        "id,v,w\n1\n2,y\n3,y,z\n",
        "id INTEGER, v TEXT, w TEXT",
        [(1, None, None), (2, "y", None), (3, "y", "z")],
        *("--short-rows", "pad"),
    ),
    loads(
        "a row with a delimiter too many",
        "long.csv",
        "id,v\n1,x\n2,y,z\n3,w\n",
        "id INTEGER, v TEXT",
        [(1, "x"), (3, "w")],
        "--skip-malformed",
        message="line 3: the row has 3 cells; expected 2, as in the header; a cell with ',' in it",
        exit_code=1,
    ),
    refused(
        "a header that names a column twice",
        "twice.csv",
        "id,Name,name\n1,a,b\n",
        "column 'name' repeats column 'Name'; name each column once; to name them, run: tail -n +2",
    ),
    refused(
        "a download that was an error page",
        "data.csv",
        "<!DOCTYPE html>\n<html><body>Please log in</body></html>\n",
        "data.csv, line 1: the input is HTML or XML, such as an error page; expected CSV",
    ),
    refused(
        "a compressed file that was cut off in the header",
        "cut.csv.gz",
        gzip.compress(b"id,name\n1,x\n")[:14],
        "cut.csv.gz, line 1: the input cannot be read: Compressed file ended",
    ),
    refused(
        "an archive of two files",
        "two.zip",
        zipped({"a.csv": "id\n1\n", "b.csv": "id\n2\n"}),
        "two.zip: a zip archive of 2 files; expected exactly one file; extract the files",
    ),
    loads(
        "an archive as Finder makes it",
        "one.zip",
        zipped({"data.csv": "id\n1\n", "__MACOSX/._data.csv": "x"}),
        "id INTEGER",
        [(1,)],
    ),
    loads(
        "a number that is a text in the row after 10,000 rows",
        "late.csv",
        "id\n" + lines(*map(str, range(10_000))) + "unknown\n",
        "id INTEGER",
        [(i,) for i in range(10_000)],
        message="line 10002: column 'id' has the value 'unknown'; expected an integer, as in the "
        "first rows; --type id TEXT loads the column as text",
        exit_code=2,
    ),
    loads(
        "two exports of Excel joined by cat",
        "both.csv",
        2 * "\ufeffid,name\n1,a\n",
        "id INTEGER, name TEXT",
        [(1, "a")],
        message="line 3: the line begins with a byte order mark; were files joined? load each of "
        "them",
        exit_code=2,
    ),
    refused(
        "more columns than a table has",
        "genes.csv",
        lines(",".join(f"gene{n}" for n in range(2001)), ",".join("1" * 2001)),
        "the input has 2,001 columns, and a table of SQLite has 2,000 at most; load fewer of them",
    ),
    refused(
        "semicolons below a header with a comma",
        "names.csv",
        lines("id;name, first name", "1;Ada"),
        "line 2: the row has 1 cell; expected 2, as in the header; if the delimiter is ';', name "
        "it: --delimiter ';'",
    ),
    loads(
        "an export of MySQL whose NULL nobody names",
        "people.tsv",
        lines("id\tname", "1\t\\N"),
        "id INTEGER, name TEXT",
        [(1, "\\N")],
        message="--null '\\N' loads them as NULL",
    ),
]

FILES = [*SPREADSHEETS, *LOGS, *ANSWERS, *DUMPS, *BROKEN]

SPECTRUM = [
    loads(
        "comma_in_quotes",
        "a.csv",
        'first,last,address,city,zip\nJohn,Doe,120 any st.,"Anytown, WW",08123',
        "first TEXT, last TEXT, address TEXT, city TEXT, zip TEXT",
        [("John", "Doe", "120 any st.", "Anytown, WW", "08123")],
    ),
    *(
        loads(
            f"empty{name}",
            "a.csv",
            end.join(["a,b,c", '1,"",""', "2,3,4"]),
            "a INTEGER, b INTEGER, c INTEGER",
            [(1, None, None), (2, 3, 4)],
        )
        for name, end in (("", "\n"), ("_crlf", "\r\n"))
    ),
    loads(
        "escaped_quotes",
        "a.csv",
        'a,b\n1,"ha ""ha"" ha"\n3,4\n',
        "a INTEGER, b TEXT",
        [(1, 'ha "ha" ha'), (3, "4")],
    ),
    loads(
        "json",
        "a.csv",
        'key,val\n1,"{""type"": ""Point"", ""coordinates"": [102.0, 0.5]}"\n',
        "key INTEGER, val TEXT",
        [(1, '{"type": "Point", "coordinates": [102.0, 0.5]}')],
    ),
    # The expected values of the collection have another telephone number than its input.
    loads(
        "location_coordinates",
        "a.csv",
        "Contact Phone Number,Location Coordinates,Cities,Counties\n"
        "2095257564,37\ufffd36'37.8\"N 121\ufffd2'17.9\"W,Modesto,Stanislaus",
        "Contact Phone Number INTEGER, Location Coordinates TEXT, Cities TEXT, Counties TEXT",
        [(2095257564, "37\ufffd36'37.8\"N 121\ufffd2'17.9\"W", "Modesto", "Stanislaus")],
    ),
    *(
        loads(
            f"newlines{name}",
            "a.csv",
            end.join(["a,b,c", "1,2,3", '"Once upon ', 'a time",5,6', "7,8,9", ""]),
            "a TEXT, b INTEGER, c INTEGER",
            [("1", 2, 3), (f"Once upon {end}a time", 5, 6), ("7", 8, 9)],
        )
        for name, end in (("", "\n"), ("_crlf", "\r\n"))
    ),
    loads(
        "quotes_and_newlines",
        "a.csv",
        'a,b\n1,"ha \n""ha"" \nha"\n3,4\n',
        "a INTEGER, b TEXT",
        [(1, 'ha \n"ha" \nha'), (3, "4")],
    ),
    *(
        loads(
            f"simple{name}",
            "a.csv",
            end.join(["a,b,c", "1,2,3", ""]),
            "a INTEGER, b INTEGER, c INTEGER",
            [(1, 2, 3)],
        )
        for name, end in (("", "\n"), ("_crlf", "\r\n"))
    ),
    loads(
        "utf8",
        "a.csv",
        "a,b,c\n1,2,3\n4,5,ʤ",
        "a INTEGER, b INTEGER, c TEXT",
        [(1, 2, "3"), (4, 5, "ʤ")],
    ),
]
