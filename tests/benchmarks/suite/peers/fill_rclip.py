"""Fill rclip's database through its own code: `python fill_rclip.py DB PHOTOS ROWS`, or with FILES for ROWS.

With a number the rows are of files that are not there; with `FILES` they are of the files below PHOTOS, as
rclip would have written them, so that its next run finds all of them unchanged. Vectors are random.
"""

import os
import sys

import numpy as np
from rclip import db, fs


def rows(photos, count):
    if count != "FILES":
        for number in range(int(count)):
            yield f"{photos}/{number // 1000:04}/IMG_{number:07}.jpg", 0.0, 3_000_000
        return
    import re

    for entry in fs.walk(photos, re.compile("^$"), re.compile(r"^.+\.jpg$")):
        stat = entry.stat()
        yield entry.path, stat.st_mtime, stat.st_size


def main():
    path, photos, count = sys.argv[1:]
    database = db.DB(path)
    rng = np.random.default_rng(0)
    for number, (name, modified_at, size) in enumerate(rows(os.path.realpath(photos), count)):
        if number % 10_000 == 0:
            vectors = rng.standard_normal((10_000, 512), np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        database.upsert_image(
            db.NewImage(
                filepath=name,
                modified_at=modified_at,
                size=size,
                vector=vectors[number % 10_000].tobytes(),
                hash=f"{number:064x}",
            ),
            commit=False,
        )
    database.close()


if __name__ == "__main__":
    main()
