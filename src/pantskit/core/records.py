"""Records: one small JSON file a case and stage says what became of the case."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

from pantskit import __version__
from pantskit.core.errors import DatasetError
from pantskit.core.files import atomic_path, jsonable, write_text

Status = Literal["done", "failed", "quarantined", "skipped"]


@cache
def versions() -> dict[str, str]:
    """Versions that go into every record."""
    return {"pantskit": __version__, "python": platform.python_version()}


@dataclass(frozen=True)
class CaseRecord:
    """What one stage did with one case.

    Attributes:
        case_id: the case.
        stage: `"ingest"`, `"predict"`, ...
        status: done; failed (an error); quarantined (content in doubt); skipped (not ours).
        message: the reason, empty when done.
        fingerprint: hash of inputs and settings; a rerun with the same one has nothing to do.
        outputs: files written, relative to the folder that holds the records where possible.
        versions: of pantskit and Python.
        seconds: wall time.
        peak_memory_mb: largest resident memory of the worker seen while the case ran.
        data: what the stage has to say of the case.
    """

    case_id: str
    stage: str
    status: Status
    message: str = ""
    fingerprint: str = ""
    outputs: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=lambda: versions().copy())
    seconds: float = 0.0
    peak_memory_mb: float = 0.0
    data: dict[str, Any] = field(default_factory=dict)


class RecordStore:
    """The records of one output folder, under `<root>/.pantskit/records/<stage>/`."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.folder = self.root / ".pantskit" / "records"

    def path(self, stage: str, case_id: str) -> Path:
        """Where a record lies, whether or not it has been written."""
        return self.folder / stage / f"{case_id}.json"

    def read(self, stage: str, case_id: str) -> CaseRecord | None:
        """A record, or None where there is none or it cannot be read."""
        try:
            values = json.loads(self.path(stage, case_id).read_text("utf-8"))
            return CaseRecord(**{**values, "outputs": tuple(values["outputs"])})
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def write(self, record: CaseRecord) -> None:
        """Write a record atomically, in place of an earlier one.

        That of a case which is done is flushed to disk. The others say what the next run finds
        out again: ten thousand empty files would wait half a minute for the disk.

        Raises:
            TypeError: If its data holds what JSON cannot.
        """
        # A field a line: indenting what is inside takes ten times as long.
        lines = (f"  {json.dumps(k)}: {_json(v)}" for k, v in vars(record).items())
        text = "{\n" + ",\n".join(lines) + "\n}\n"
        path = self.path(record.stage, record.case_id)
        write_text(path, text, flush=record.status == "done")

    def all(self, stage: str) -> Iterator[CaseRecord]:
        """Records of a stage by case ID."""
        for path in sorted((self.folder / stage).glob("[!.]*.json")):
            record = self.read(stage, path.stem)
            if record is not None:
                yield record

    def stages(self) -> tuple[str, ...]:
        """Stages that left records here."""
        return tuple(sorted(p.name for p in self.folder.glob("*") if p.is_dir()))

    def clear(self, stage: str) -> None:
        """Forget a stage: its cases run again."""
        shutil.rmtree(self.folder / stage, ignore_errors=True)

    def compact(self, stage: str, out: Path) -> None:
        """Write all records of a stage as one table, `<out>.parquet` and `<out>.csv`."""
        write_table(out, (flat_record(r) for r in self.all(stage)))


def _json(value: Any) -> str:
    return json.dumps(jsonable(value), allow_nan=False)


def flat_record(record: CaseRecord) -> dict[str, Any]:
    """A record as one table row; what is not a number or text becomes JSON text."""
    row = {k: v for k, v in asdict(record).items() if k not in ("data", "versions", "outputs")}
    row["version"] = record.versions.get("pantskit", "")
    for key, value in record.data.items():
        plain = jsonable(value)
        simple = plain is None or isinstance(plain, (str, int, float, bool))
        row.setdefault(key, plain if simple else json.dumps(plain))
    return row


def write_table(out: Path, rows: Iterable[dict[str, Any]], *, columns: Iterable[str] = ()) -> None:
    """Write rows as `<out>.parquet` (zstd) and `<out>.csv`, atomically.

    Args:
        out: path without a suffix.
        rows: dictionaries; a column missing from a row is null there. NaN is null.
        columns: columns that come first, present even when there is no row.
    """
    import polars as pl

    table = [jsonable(row) for row in rows]
    names = list(dict.fromkeys([*columns, *(name for row in table for name in row)]))
    series = [pl.Series(n, [row.get(n) for row in table], strict=False) for n in names]
    frame = pl.DataFrame(series)
    # Suffixes are appended: `with_suffix` would eat the end of a name that holds a dot.
    with atomic_path(out.parent / f"{out.name}.parquet") as part:
        frame.write_parquet(part, compression="zstd")
    nested = [c for c, t in frame.schema.items() if isinstance(t, (pl.List, pl.Struct))]
    texts = [
        pl.Series(c, [None if v is None else json.dumps(jsonable(v)) for v in frame[c].to_list()])
        for c in nested
    ]
    with atomic_path(out.parent / f"{out.name}.csv") as part:
        frame.with_columns(texts).write_csv(part)


def read_table(path: Path) -> list[dict[str, Any]]:
    """Rows of a .parquet, .csv or .xlsx table.

    Raises:
        DatasetError: If it cannot be read.
    """
    import polars as pl

    try:
        if path.suffix == ".parquet":
            frame = pl.read_parquet(path)
        elif path.suffix == ".csv":
            frame = _read_csv(path)
        else:
            frame = _read_excel(path)
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DatasetError(f"{path}: table cannot be read: {reason}") from None
    return frame.to_dicts()


def _read_csv(path: Path) -> Any:
    import polars as pl

    names = pl.read_csv(path, n_rows=0).columns
    texts = {n: pl.String for n in names if n.strip().lower().endswith("id")}  # keeps "007"
    return pl.read_csv(path, infer_schema_length=None, schema_overrides=texts)


def _read_excel(path: Path) -> Any:
    import openpyxl
    import polars as pl
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except (BadZipFile, KeyError, InvalidFileException):
        raise ValueError("not an Excel workbook") from None
    rows = list(book.worksheets[0].iter_rows(values_only=True))
    book.close()
    header = rows[0] if rows else ()
    columns = [
        pl.Series(str(name).strip(), [row[i] for row in rows[1:]], strict=False)
        for i, name in enumerate(header)
        if name is not None  # cells beside the table
    ]
    return pl.DataFrame(columns)
