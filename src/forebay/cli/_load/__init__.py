"""`forebay load`: from files to rows of a table.

`load` has the order of the steps. Each step is in modules of its own:

| step | modules |
|---|---|
| read the options | `command`, `arguments`, `options` |
| open an input, make it UTF-8, split it into lines | `sources`, `encodings`, `lines` |
| parse CSV to lists of texts | `dialects`, `csv_rows` |
| parse JSON to objects | `json_rows`, `json_documents` |
| give every row its line, in chunks, and read ahead in a thread | `records`, `readers`, `reading` |
| detect the columns and their types from the first rows | `detect`, `column_types`, `sampled` |
| find the keys that only later objects have, for `--alter` | `late_keys`, `kept_inputs` |
| decide the table, also from the table that exists | `plan`, `target_columns`, `database` |
| convert rows to values of the table | `convert`, `cells` |
| write them through a buffer | `feed`, `writing` |
| record the rows that are not in the table | `rejects`, `pending_rows` |
| show what happens | `progress`, `bar`, `status`, `report`, `preview`, `advice` |
| rules that several of them share | `column_names`, `limits` |
| settings of the process | `interpreter`, `telemetry` |

Libraries were compared with our own modules. A library must keep four promises: an error names the
line, memory is bounded, rows from a pipe are loaded as they arrive, and every value comes back as
it was written. What was decided, with the lines of our modules before and after (2026-11-29):

| library | instead of | decision | lines |
|---|---|---|---|
| `csv`, `codecs`, `gzip`, `zipfile`, zstd | parsers and decoders | taken | - |
| msgspec | `json` for NDJSON | taken: a fifth less processor time; lines that it refuses go to \
`json`, which describes the error | 147, then 169 |
| sqlite-utils, `rows_from_file` | `sources`, `csv_rows`, `json_rows` | not taken: rows have no \
lines, it reads JSON whole, and it knows no gzip, zip, zstd or `sep=` | 630, which stay |
| sqlite-utils, `TypeTracker` | `column_types`, `detect` | not taken: 007 and 1e5 become numbers \
| 313, which stay |
| pyarrow.csv, duckdb | `lines`, `csv_rows`, `cells` | not taken: 007 becomes 7, rows arrive in \
large blocks and have no lines, and making Python's values of their columns takes longer than \
`csv` takes to make texts | 655, which stay |
| clevercsv | `csv.Sniffer` in `dialects` | not taken: the same result for 12 of 13 kinds of files \
in 35 times the time, with three more packages | 127, which stay |
| ijson | `json_documents` | not taken: it knows no lines, and a malformed object ends it \
| 197, which stay |
"""
