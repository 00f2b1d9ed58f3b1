"""A BEIR folder as the files of the chain: the rows of its train split, the corpus, and the folder unpacked.

python split.py FOLDER OUT: writes OUT/{all,part,corpus}.jsonl and OUT/beir/{corpus.jsonl,queries.jsonl,qrels/{dev,test}.tsv}.
`all` has every train query; `part` leaves out one of three, by a hash of its id, which are judged in qrels/dev.tsv.
The test split is only copied, for mteb-eval.
"""

import gzip
import json
import shutil
import sys
import zlib
from pathlib import Path
from typing import Any


def lines(folder: Path, name: str) -> list[dict[str, Any]]:
    path = folder / name
    with (
        path.open(encoding="utf-8")
        if path.exists()
        else gzip.open(f"{path}.gz", "rt", encoding="utf-8") as file
    ):
        return [json.loads(line) for line in file]


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")


def held_out(query: str) -> bool:
    return zlib.crc32(query.encode()) % 3 == 0


def main(folder: Path, out: Path) -> None:
    beir = out / "beir"
    (beir / "qrels").mkdir(parents=True, exist_ok=True)
    corpus, queries = lines(folder, "corpus.jsonl"), lines(folder, "queries.jsonl")
    write(beir / "corpus.jsonl", corpus)
    write(beir / "queries.jsonl", queries)
    shutil.copyfile(folder / "qrels" / "test.tsv", beir / "qrels" / "test.tsv")
    header, *judgements = (folder / "qrels" / "train.tsv").read_text("utf-8").splitlines()
    dev = [line for line in judgements if held_out(line.split("\t")[0])]
    (beir / "qrels" / "dev.tsv").write_text("\n".join([header, *dev]) + "\n", "utf-8")

    # mteb-eval, like hnmine, puts a blank between a title and its text.
    documents = {row["_id"]: f"{row.get('title', '')} {row['text']}".strip() for row in corpus}
    texts = {row["_id"]: row["text"] for row in queries}
    rows: dict[str, dict[str, Any]] = {}
    for line in judgements:
        query, document, score = line.split("\t")
        if float(score) > 0:
            row = rows.setdefault(
                query, {"id": query, "query": texts[query], "pos": [], "pos_ids": []}
            )
            row["pos"].append(documents[document])
            row["pos_ids"].append(document)
    write(out / "all.jsonl", list(rows.values()))
    write(out / "part.jsonl", [row for query, row in rows.items() if not held_out(query)])
    write(
        out / "corpus.jsonl",
        [{"id": document, "text": text} for document, text in documents.items()],
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
