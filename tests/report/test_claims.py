import pytest

from mas_hooks.core.errors import EmptyError
from mas_hooks.report import Claim, claims_table

ROWS = [
    Claim("a", "transformers, hidden state", "0.09", "0.087", True),
    Claim("a", "CKA | RSA", "0.70", "0.96\n(appendix)", False, "other tokens"),
    Claim("b", "GRU, Count", "0.93", "high", None, "the paper gives no number"),
]


def cells(line):
    return [cell.strip() for cell in line.replace("\\|", "¦").strip("|").split("|")]


def test_cells_are_the_claims():
    lines = claims_table(ROWS, "What the paper says.").splitlines()
    assert lines[0] == "What the paper says."
    assert cells(lines[4]) == ["panel", "what", "ours", "paper", "agrees?"]
    assert [cells(line) for line in lines[6:]] == [
        ["a", "transformers, hidden state", "0.09", "0.087", "yes"],
        ["a", "CKA ¦ RSA", "0.70", "0.96 (appendix)", "**no**: other tokens"],
        ["b", "GRU, Count", "0.93", "high", "not comparable: the paper gives no number"],
    ]


@pytest.mark.parametrize(
    ("rows", "count"),
    [
        (ROWS, "1 of 2 claims agree; 1 not comparable."),
        (ROWS[:1], "1 of 1 claim agrees."),
        (ROWS[2:], "0 of 0 claims agree; 1 not comparable."),
        (ROWS[:1] * 3, "3 of 3 claims agree."),
    ],
)
def test_claims_are_counted(rows, count):
    assert claims_table(rows, "Claims.").splitlines()[2] == count


def test_a_backslash_before_a_pipe_hides_no_column():
    (line,) = claims_table([Claim("a", "x\\|y", "1", "1", True)], "Claims.").splitlines()[6:]
    assert line == "| a | x\\\\\\|y | 1 | 1 | yes |"


def test_no_claims_is_said():
    with pytest.raises(EmptyError, match="the table of claims is empty; give at least one claim"):
        claims_table([], "Claims.")
