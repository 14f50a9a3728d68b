"""Files that appear complete or not at all."""

import os
import stat

import pytest

from luthier.whole_file import whole_file


@pytest.mark.parametrize("durable", [False, True])
def test_what_is_written_takes_the_place_of_what_was_there(tmp_path, durable):
    path = tmp_path / "file"
    path.write_bytes(b"before")
    with whole_file(path, durable=durable) as file:
        file.write(b"after")
        assert path.read_bytes() == b"before"
    assert path.read_bytes() == b"after" and list(tmp_path.iterdir()) == [path]
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


@pytest.mark.parametrize("failure", [OSError, ValueError, KeyboardInterrupt])
def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path, failure):
    path = tmp_path / "file"
    path.write_bytes(b"before")
    with pytest.raises(failure), whole_file(path) as file:
        file.write(b"half")
        raise failure
    assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]


def test_a_folder_is_not_replaced(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    with pytest.raises(OSError), whole_file(path) as file:
        file.write(b"content")
    assert list(tmp_path.iterdir()) == [path] and path.is_dir()


def test_a_link_stays(tmp_path):
    path, link = tmp_path / "file", tmp_path / "link"
    path.write_bytes(b"before")
    link.symlink_to(path)
    with whole_file(link) as file:
        file.write(b"after")
    assert link.is_symlink() and path.read_bytes() == b"after"


def test_a_device_is_written_to():
    with whole_file("/dev/null") as file:
        file.write(b"content")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_an_open_descriptor_is_written_to(tmp_path):
    reader, writer = os.pipe()
    with whole_file(f"/dev/fd/{writer}") as file:
        file.write(b"content")
    os.close(writer)
    with open(reader, "rb") as end:
        assert end.read() == b"content"
    with (tmp_path / "file").open("wb") as file:
        with whole_file(f"/dev/fd/{file.fileno()}") as same:
            same.write(b"content")
        assert os.fstat(file.fileno()).st_size == 7  # it is the same file, not one in its place
