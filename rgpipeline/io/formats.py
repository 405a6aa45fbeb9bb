"""Which reader reads which format."""

from rgpipeline.io.jsonl import JsonLinesReader
from rgpipeline.io.openai_requests import OpenAIBatchReader
from rgpipeline.io.parquet import ParquetReader
from rgpipeline.io.readers import Reader
from rgpipeline.storage.filesystems import StorageOptions


def reader_for(format: str, options: StorageOptions | None) -> Reader:
    """The reader of a format: parquet, jsonl or openai-batch."""
    if format == "parquet":
        return ParquetReader(options)
    if format == "jsonl":
        return JsonLinesReader(options)
    if format == "openai-batch":
        return OpenAIBatchReader(options)
    raise ValueError(f"no format {format!r}")
