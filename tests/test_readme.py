"""README's programs run in order and print what README says they print."""

from __future__ import annotations

import contextlib
import io
import re
from itertools import pairwise
from pathlib import Path

import fastlstm

README = Path(__file__).parent.parent / "README.md"


def blocks() -> list[tuple[str, str]]:
    return re.findall(r"```(\w+)\n(.*?)```", README.read_text(), flags=re.DOTALL)


def test_programs_print_what_readme_says() -> None:
    fastlstm.utils.clear_session()
    namespace: dict[str, object] = {}
    programs = 0
    found = blocks()
    for (language, program), (next_language, expected) in pairwise(found):
        if language != "python":
            continue
        assert next_language == "text", "each program is followed by its output"
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(program, str(README), "exec"), namespace)
        assert [line.rstrip() for line in printed.getvalue().splitlines()] == expected.splitlines()
        programs += 1
    assert programs == 4


def test_files_that_readme_names_exist() -> None:
    folder = README.parent
    table = README.read_text().split("## Map of the code")[1].split("##")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    names = [re.findall(r"`([^`]+)`", row) for row in rows]
    assert len(names) > 8
    for row in names:
        for name in row:
            inside = folder / Path(row[0]).parts[0] / name
            assert (folder / name).exists() or inside.exists(), name
