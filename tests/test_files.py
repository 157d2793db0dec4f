from pathlib import Path

import pytest

from agmm.files import written_atomically


def test_the_finished_file_replaces_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "note.txt"
    target.write_text("old")

    with written_atomically(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"

    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_folders_are_made(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "note.txt"

    with written_atomically(target) as temporary:
        temporary.write_text("new")

    assert target.read_text() == "new"


def test_the_temporary_file_is_hidden_beside_the_target_and_has_its_suffix(tmp_path: Path) -> None:
    target = tmp_path / "mask.png"

    with written_atomically(target) as first, written_atomically(target) as second:
        first.write_text("first")
        second.write_text("second")
        assert first != second
        assert {first.parent, second.parent} == {tmp_path}
        assert {first.suffix, second.suffix} == {".png"}
        assert first.name.startswith(".")

    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_what_was_there(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "note.txt"
    target.write_text("old")

    with pytest.raises(error), written_atomically(target) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise error

    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_failure_before_the_first_byte_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "note.txt"

    with pytest.raises(ValueError, match="no"), written_atomically(target):
        raise ValueError("no")

    assert list(tmp_path.iterdir()) == []
