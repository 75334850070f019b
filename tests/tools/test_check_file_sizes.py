from tools.check_file_sizes import FAIL_LINES, WARN_LINES, findings


def test_files_are_judged_by_their_length() -> None:
    long, too_long = findings(
        {"a.py": WARN_LINES - 1, "b.py": WARN_LINES, "c.py": FAIL_LINES - 1, "d.py": FAIL_LINES}
    )
    assert [sentence.split(":")[0] for sentence in long] == ["b.py", "c.py"]
    assert [sentence.split(":")[0] for sentence in too_long] == ["d.py"]
