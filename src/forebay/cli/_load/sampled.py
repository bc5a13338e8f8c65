"""What follows from the sample of the first rows: the table, and the conversion of its rows."""

from __future__ import annotations

from collections.abc import Mapping

from forebay.cli._errors import InputError
from forebay.cli._load.column_types import DetectedType, JsonType
from forebay.cli._load.convert import Converter
from forebay.cli._load.csv_rows import MISSING_CELL
from forebay.cli._load.database import DatabaseState
from forebay.cli._load.detect import detect, json_types
from forebay.cli._load.options import LoadRequest
from forebay.cli._load.plan import Plan, plan_table
from forebay.cli._load.reading import Sample
from forebay.cli._load.rejects import RejectedRows


def detect_columns(request: LoadRequest, sample: Sample) -> dict[str, DetectedType]:
    """Return the columns of a sample and their types."""
    nulls = request.nulls | {MISSING_CELL}
    return detect(sample.detected or sample.chunks, nulls, types=request.detect_types)


def is_json(sample: Sample) -> bool:
    """Return whether the rows of a sample are JSON objects."""
    return sample.chunks[0].header is None


def plan_from_sample(
    request: LoadRequest,
    sample: Sample,
    found: Mapping[str, DetectedType],
    before: DatabaseState,
) -> Plan:
    """Decide the declaration of the table.

    Args:
        request: what to load, and how.
        sample: the first rows.
        found: the columns and their types.
        before: the database before the load.

    Raises:
        LoadError: as for `plan_table`.
    """
    return plan_table(
        request.table,
        found,
        existing=before.columns,
        keep_misfits=request.keep_misfits,
        json=_json_types_of_key(request, sample) if is_json(sample) else None,
    )


def _json_types_of_key(request: LoadRequest, sample: Sample) -> dict[str, JsonType]:
    return json_types(sample.detected, request.nulls, request.table.key)


def new_converter(request: LoadRequest, plan: Plan) -> Converter:
    """Return the converter for the rows of the table."""
    padding = {MISSING_CELL} if request.input.pad_short_rows else set[str]()
    return Converter(plan.columns, request.nulls | padding)


def has_header_alone(sample: Sample) -> bool:
    """Return whether the inputs have a header, no rows, and no error."""
    return (
        sample.ended
        and not sample.rows
        and any(chunk.header is not None for chunk in sample.chunks)
        and not any(isinstance(item, InputError) or item.errors for item in sample.items)
    )


def reject_all(sample: Sample, rejected: RejectedRows) -> None:
    """Count the malformed rows of a sample without any other row.

    Raises:
        InputError: the first error that ends the load.
    """
    for item in sample.items:
        if isinstance(item, InputError):
            raise item
        for error in item.errors:
            rejected.add(error)
