"""Small files with the exact columns of the published data sets."""

import csv
import gzip
import json

HH = [
    {
        "chosen": f"\n\nHuman: Hi {i}\n\nAssistant: Hello!\n\nHuman: Why {i}?\n\nAssistant: Because it is {i}.",
        "rejected": f"\n\nHuman: Hi {i}\n\nAssistant: Hello!\n\nHuman: Why {i}?\n\nAssistant: Go away {i}.",
    }
    for i in range(6)
]
JIGSAW = ["id", "comment_text", "toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate"]
CHAT = ["conv_id", "user_input", "model_output", "human_annotation", "toxicity", "jailbreaking", "openai_moderation"]


def csv_file(path, columns, rows):
    with path.open("w", newline="", encoding="utf-8") as held:
        csv.writer(held).writerows([columns, *rows])
    return path


def hh_folder(folder):
    """As it is published: gzipped JSON lines of two parts in a folder for each of its subsets."""
    for subset, rows in (("harmless-base", HH[:4]), ("helpful-base", HH[4:])):
        (folder / subset).mkdir(parents=True)
        for part, own in (("train", rows[:-1]), ("test", rows[-1:])):
            with gzip.open(folder / subset / f"{part}.jsonl.gz", "wt", encoding="utf-8") as held:
                held.writelines(json.dumps(row) + "\n" for row in own)
    (folder / "README.md").write_text("a card")
    return folder


def jigsaw_file(path):
    """As Kaggle gives it, with one unscored comment of the test."""
    rows = [[f"{i:016x}", f"A plain, quiet\ncomment {i}", 0, 0, 0, 0, 0, 0] for i in range(5)]
    rows += [[f"{i:016x}", f"Flagged by {JIGSAW[2 + i]}", *(int(i == j) for j in range(6))] for i in range(6)]
    return csv_file(path, JIGSAW, [*rows, ["f", "Not scored", -1, -1, -1, -1, -1, -1]])


def chat_file(path, rows=((0, 0), (1, 0), (0, 1), (1, 1))):
    """Annotated chats by (toxicity, jailbreaking)."""
    filled = [
        [f"c{i}", f"question {i} of {path.parent.name}", "an answer", True, *flags, "[]"]
        for i, flags in enumerate(rows)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    return csv_file(path, CHAT, filled)
