"""The same pictures as people have them: files, tables with bytes, tars, a saved dataset."""

import io
import json
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
from overpaint.pipeline.images import encode
from toy_runs import picture

PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def pictures(num):
    """Encoded pictures, by file name."""
    return {f"{index:03d}.png": encode(picture(index)) for index in range(num)}


def parquet_bytes(table, **options):
    """A table as a Parquet file."""
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def picture_table(files, column="image", **columns):
    """A table of pictures with bytes and paths, as the hub has them."""
    values = [{"bytes": data, "path": name} for name, data in files.items()]
    return pa.table({column: pa.array(values, PICTURE), **columns})


def tar_bytes(members, mode=tarfile.USTAR_FORMAT):
    """A tar of (name, bytes) pairs, in their order."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=mode) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return sink.getvalue()


def arrow_bytes(table, batch_rows):
    """A table in Arrow's format of streams."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=batch_rows)
    return sink.getvalue()


def saved_dataset(storage, folder, tables, batch_rows=3):
    """Writes the files that `save_to_disk` of `datasets` writes for one split."""
    names = [f"data-{i:05d}-of-{len(tables):05d}.arrow" for i in range(len(tables))]
    for name, table in zip(names, tables, strict=True):
        storage.write(f"{folder}{name}", arrow_bytes(table, batch_rows))
    state = {"_data_files": [{"filename": name} for name in names], "_fingerprint": "x"}
    storage.write(f"{folder}state.json", json.dumps(state).encode())
    storage.write(f"{folder}dataset_info.json", b"{}")
