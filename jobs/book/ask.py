"""Gives every question the address of the book's state."""

import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq

from rgpipeline import open_output

(state,) = open_output("out/book").to_table(columns=["state"])["state"].to_pylist()
questions = pyarrow.json.read_json("jobs/book/questions.jsonl")
states = pa.array([state] * len(questions), pa.string())
pq.write_table(questions.append_column("state", states), "out/questions.parquet")
