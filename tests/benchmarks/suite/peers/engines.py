"""Vector engines on vectors of a .npy: `python engines.py build|ask ENGINE VECTORS FOLDER [QUESTIONS OUT]`.

`build` writes the engine's index into FOLDER. `ask` opens it, chooses the least effort (`ef`, probes) at
which recall@10 on the first quarter of the questions is 0.98 or more, else the most it knows, and times the
others one by one; OUT gets a JSON. HNSW is built with M = 16 and an expansion of 100.
"""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np

WANTED, M, EXPANSION = 0.98, 16, 100
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


class FaissFlat:
    """Exact, float16, memory-mapped."""

    efforts = (None,)

    def __init__(self, folder):
        self.path = str(folder / "flat.faiss")

    def build(self, vectors):
        import faiss

        index = faiss.IndexScalarQuantizer(
            vectors.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
        )
        for start in range(0, len(vectors), 50_000):
            index.add(vectors[start : start + 50_000].astype(np.float32))
        faiss.write_index(index, self.path)

    def open(self):
        import faiss

        self.index = faiss.read_index(self.path, faiss.IO_FLAG_MMAP_IFC)

    def ask(self, query, effort):
        return self.index.search(query[None], 10)[1][0]


class Usearch:
    """HNSW, memory-mapped."""

    efforts = (16, 32, 64, 128, 256, 512, 1024)

    def __init__(self, folder, dtype):
        self.path, self.dtype = str(folder / f"{dtype}.usearch"), dtype

    def _index(self, dim):
        from usearch.index import Index

        return Index(ndim=dim, metric="ip", dtype=self.dtype, connectivity=M, expansion_add=EXPANSION)

    def build(self, vectors):
        index = self._index(vectors.shape[1])
        for start in range(0, len(vectors), 50_000):
            block = vectors[start : start + 50_000].astype(np.float32)
            index.add(np.arange(start, start + len(block)), block, threads=THREADS)
        index.save(self.path)

    def open(self):
        from usearch.index import Index

        self.index = Index.restore(self.path, view=True)

    def ask(self, query, effort):
        self.index.expansion_search = effort
        return self.index.search(query, 10).keys


class Hnswlib:
    """HNSW, float32, in memory."""

    efforts = (16, 32, 64, 128, 256, 512, 1024)

    def __init__(self, folder):
        self.path, self.dim = str(folder / "index.hnswlib"), folder / "dim"

    def build(self, vectors):
        import hnswlib

        index = hnswlib.Index("ip", vectors.shape[1])
        index.init_index(len(vectors), M=M, ef_construction=EXPANSION)
        for start in range(0, len(vectors), 50_000):
            block = vectors[start : start + 50_000].astype(np.float32)
            index.add_items(block, np.arange(start, start + len(block)), num_threads=THREADS)
        index.save_index(self.path)
        self.dim.write_text(str(vectors.shape[1]))

    def open(self):
        import hnswlib

        self.index = hnswlib.Index("ip", int(self.dim.read_text()))
        self.index.load_index(self.path)

    def ask(self, query, effort):
        self.index.set_ef(effort)
        return self.index.knn_query(query, 10, num_threads=1)[0][0]


class SqliteVec:
    """Exact, float32, in SQLite."""

    efforts = (None,)
    most = 12

    def __init__(self, folder):
        self.path = str(folder / "vectors.sqlite")

    def _connect(self):
        import apsw  # many builds of Python leave loading extensions out of sqlite3
        import sqlite_vec

        self.connection = apsw.Connection(self.path)
        self.connection.enable_load_extension(True)
        self.connection.load_extension(sqlite_vec.loadable_path())
        self.database = self.connection.cursor()

    def build(self, vectors):
        self._connect()
        self.database.execute("PRAGMA journal_mode=OFF").fetchall()
        self.database.execute(
            f"CREATE VIRTUAL TABLE v USING vec0(embedding float[{vectors.shape[1]}] distance_metric=cosine)"
        )
        self.database.execute("BEGIN")
        for start in range(0, len(vectors), 50_000):
            block = vectors[start : start + 50_000].astype(np.float32)
            self.database.executemany(
                "INSERT INTO v(rowid, embedding) VALUES (?, ?)",
                ((start + place, row.tobytes()) for place, row in enumerate(block)),
            )
        self.database.execute("COMMIT")

    def open(self):
        self._connect()

    def ask(self, query, effort):
        found = self.database.execute(
            "SELECT rowid FROM v WHERE embedding MATCH ? AND k = 10 ORDER BY distance", (query.tobytes(),)
        )
        return np.array([row[0] for row in found])


class Lance:
    """LanceDB: IVF_PQ with a refine, or IVF_HNSW_SQ."""

    def __init__(self, folder, kind):
        self.path, self.kind = str(folder / kind), kind
        pairs = [(probes, refine) for refine in (10, 40) for probes in (10, 20, 50, 100, 200)]
        self.efforts = pairs if kind == "IVF_PQ" else [(probes, 5) for probes in (1, 2, 5, 10, 20)]

    def build(self, vectors):
        import lancedb
        import pyarrow as pa

        dim = vectors.shape[1]
        schema = pa.schema([("number", pa.int64()), ("vector", pa.list_(pa.float16(), dim))])

        def batches():
            for start in range(0, len(vectors), 50_000):
                block = np.ascontiguousarray(vectors[start : start + 50_000])
                values = pa.array(block.reshape(-1), pa.float16())
                numbers = pa.array(np.arange(start, start + len(block)))
                yield pa.RecordBatch.from_arrays(
                    [numbers, pa.FixedSizeListArray.from_arrays(values, dim)], schema=schema
                )

        table = lancedb.connect(self.path).create_table("v", batches(), schema=schema, mode="overwrite")
        if len(vectors) >= 5_000:
            partitions = (
                max(2, int(len(vectors) ** 0.5)) if self.kind == "IVF_PQ" else max(1, len(vectors) // 250_000)
            )
            more = (
                {"num_sub_vectors": dim // 8}
                if self.kind == "IVF_PQ"
                else {"m": M, "ef_construction": EXPANSION}
            )
            table.create_index(
                metric="cosine",
                vector_column_name="vector",
                index_type=self.kind,
                num_partitions=partitions,
                **more,
            )

    def open(self):
        import lancedb

        self.table = lancedb.connect(self.path).open_table("v")

    def ask(self, query, effort):
        probes, refine = effort
        found = self.table.search(query).distance_type("cosine").nprobes(probes).refine_factor(refine)
        if self.kind != "IVF_PQ":
            found = found.ef(100)
        return found.select(["number"]).limit(10).to_arrow()["number"].to_numpy()


ENGINES = {
    "faiss-flat": FaissFlat,
    "usearch-f16": lambda folder: Usearch(folder, "f16"),
    "usearch-i8": lambda folder: Usearch(folder, "i8"),
    "hnswlib": Hnswlib,
    "sqlite-vec": SqliteVec,
    "lancedb-ivf-pq": lambda folder: Lance(folder, "IVF_PQ"),
    "lancedb-hnsw-sq": lambda folder: Lance(folder, "IVF_HNSW_SQ"),
}


def recall(found, near):
    return len(set(np.asarray(found).tolist()) & set(near.tolist())) / len(near)


def ask(engine, questions):
    began = time.perf_counter()
    engine.open()
    engine.ask(questions["pictures"][0], engine.efforts[0])
    result = {"open_s": time.perf_counter() - began}
    for kind in ("texts", "pictures"):
        asked, near = questions[kind], questions[f"{kind}_near"]
        quarter = min(len(asked) // 4, getattr(engine, "most", len(asked)))
        for effort in engine.efforts:
            right = [
                recall(engine.ask(q, effort), n) for q, n in zip(asked[:quarter], near[:quarter], strict=True)
            ]
            if np.mean(right) >= WANTED:
                break
        rest = slice(quarter, quarter + min(len(asked) - quarter, getattr(engine, "most", len(asked))))
        seconds, right = [], []
        for q, n in zip(asked[rest], near[rest], strict=True):
            began = time.perf_counter()
            found = engine.ask(q, effort)
            seconds.append(time.perf_counter() - began)
            right.append(recall(found, n))
        result[kind] = {"seconds": seconds, "recall": float(np.mean(right)), "effort": effort}
    return result


def main():
    action, name, vectors, folder, *more = sys.argv[1:]
    folder = Path(folder)
    engine = ENGINES[name](folder)
    if action == "build":
        folder.mkdir(parents=True, exist_ok=True)
        engine.build(np.load(vectors, mmap_mode="r"))
    else:
        Path(more[1]).write_text(json.dumps(ask(engine, np.load(more[0]))))


if __name__ == "__main__":
    main()
