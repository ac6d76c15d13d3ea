import errno
import os
import shutil
from pathlib import Path

import pytest

from ssd.errors import ArgumentError, ImageDecodeError, SSDError
from ssd.images.decode import load_image
from ssd.inference.bulk import output_folder, sources


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    for name in ("b.png", "a.JPG", "deep/a.JPG", "notes.txt", "clip.MP4"):
        (folder / name).write_text("only the name counts here")
    (folder / "folder.png").mkdir()
    return folder


def test_sources_are_found_once_and_in_order(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    a, b = Path("photos/a.JPG"), Path("photos/b.png")
    assert sources.find_images(["photos"]) == [a, b]
    assert sources.find_images(["photos/b.png", "photos", "photos/*.JPG"]) == [b, a]
    assert sources.find_images(["photos"], recursive=True) == [a, b, Path("photos/deep/a.JPG")]
    assert sources.find_images(["photos/**/*.JPG"]) == [a, Path("photos/deep/a.JPG")]
    assert sources.find_images([str(photos / "*.png")]) == [photos / "b.png"]
    assert sources.find_images(["photos/notes.txt"]) == [Path("photos/notes.txt")]  # named on purpose: tried


def test_a_file_whose_name_looks_like_a_glob_is_that_file(photos, tmp_path):
    odd = photos / "b[1].png"
    shutil.copy(photos / "b.png", odd)
    assert sources.find_images([str(odd)]) == [odd]


def test_videos_cameras_and_streams_are_known_by_their_names(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(photos)
    found = sources.find_sources([".", "0", "rtsp://user:secret@host:554/live/1", "http://host/a.mjpg?x=1"])
    assert [(s.address, s.kind, s.suffix) for s in found] == [
        ("a.JPG", "image", ".JPG"),
        ("b.png", "image", ".png"),
        ("clip.MP4", "video", ".mp4"),
        ("0", "live", ".mp4"),
        ("rtsp://user:secret@host:554/live/1", "live", ".mp4"),
        ("http://host/a.mjpg?x=1", "live", ".mp4"),
    ]
    assert [s.key for s in found[3:]] == ["camera-0", "host-live-1", "host-a.mjpg"]  # no password in a file's name
    (photos / "0").write_text("a file that is called 0")
    assert [s.kind for s in sources.find_sources(["0"])] == ["image"]


def test_images_alone_are_found_without_videos(photos):
    assert [path.name for path in sources.find_images([str(photos)])] == ["a.JPG", "b.png"]
    with pytest.raises(ArgumentError, match="no image found"):
        sources.find_images([str(photos / "*.MP4")])


def names_of(*keys: str, taken: tuple[str, ...] = ()) -> list[str]:
    return list(sources.output_names([sources.Source(key, "image", key, ".jpg") for key in keys], taken).values())


def test_no_two_sources_get_one_name():
    assert names_of("x/a.jpg", "y/a.jpg", "z/A.png", "a-2.jpg") == ["a", "a-2", "A-3", "a-2-2"]
    assert names_of("x/a.jpg", taken=("A", "a-2")) == ["a-3"]


def test_a_gif_is_drawn_as_png(tmp_path):
    for name, suffix in (("a.gif", ".png"), ("a", ".png"), ("a.JPG", ".JPG"), ("a.txt", ".png")):
        (tmp_path / name).write_text("")
        assert sources.find_sources([str(tmp_path / name)])[0].suffix == suffix


def fake_folder(top: str, count: int) -> list[sources.Source]:
    return [sources.Source(f"{top}/{n // 50}/{n}.jpg", "image", f"{n // 50}/{n}.jpg", ".jpg") for n in range(count)]


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_shares_are_disjoint_complete_and_of_about_one_size(count):
    everything = fake_folder("photos", 2000)
    shares = [sources.share(everything, number, count) for number in range(1, count + 1)]
    assert sorted(s.address for part in shares for s in part) == sorted(s.address for s in everything)
    assert all(0.8 < len(part) * count / len(everything) < 1.2 for part in shares)


def test_a_share_stays_where_the_folder_is_mounted_elsewhere_or_grows():
    here, there = fake_folder("/mnt/a", 500), fake_folder("/data", 1000)
    keys = [source.key for source in sources.share(there, 2, 3)]
    assert [source.key for source in sources.share(here, 2, 3)] == [key for key in keys if int(Path(key).stem) < 500]
    # The same on every machine and in every version: written down once.
    assert [source.key for source in sources.share(here, 2, 3)][:5] == [
        "0/0.jpg",
        "0/2.jpg",
        "0/3.jpg",
        "0/4.jpg",
        "0/5.jpg",
    ]


def test_the_key_is_the_path_below_what_was_named(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for named in ("photos", str(photos), "photos/**/*.JPG", str(photos / "**" / "*.JPG")):
        keys = [source.key for source in sources.find_sources([named], recursive=True)]
        assert "deep/a.JPG" in keys
    assert [source.key for source in sources.find_sources(["photos/deep/a.JPG"])] == ["a.JPG"]


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_is_not_the_current_folder(name):
    with pytest.raises(ArgumentError, match="names no file or folder"):
        sources.find_sources([name])


@pytest.mark.parametrize("text", ["", "1", "0/3", "4/3", "1/0", "a/b", "1/3/5", "-1/3"])
def test_what_is_no_share_is_named(text):
    with pytest.raises(ArgumentError, match="is not a share"):
        sources.parse_shard(text)


def test_the_folder_for_results_is_the_next_free_number(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "detect" / "9").mkdir(parents=True)
    (tmp_path / "runs" / "detect" / "notes").mkdir()
    assert output_folder.output_folder(None, []) == Path("runs/detect/10")
    assert output_folder.output_folder(None, [], resume=True) == Path("runs/detect/10")


def test_resume_without_an_earlier_run_starts_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert output_folder.output_folder(None, [], resume=True, journal="a.jsonl") == Path("runs/detect/1")
    assert output_folder.output_folder(Path("new"), [], resume=True, journal="a.jsonl") == Path("new")


def test_a_folder_that_can_be_gone_on_in_says_so(tmp_path):
    (tmp_path / "a.jsonl").write_text("")
    with pytest.raises(ArgumentError, match="--resume to go on"):
        output_folder.output_folder(tmp_path, [], journal="a.jsonl")
    assert output_folder.output_folder(tmp_path, [], journal="a.jsonl", resume=True) == tmp_path


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SSDError, match=r"file/deeper.*cannot be written \(Not a directory\)"):
        output_folder.output_folder(tmp_path / "file" / "deeper", [])


def test_a_folder_of_folders_points_to_the_one_with_images(tmp_path):
    (tmp_path / "voc" / "JPEGImages").mkdir(parents=True)
    (tmp_path / "voc" / "JPEGImages" / "a.jpg").touch()
    with pytest.raises(ArgumentError, match=r"Did you mean .*JPEGImages\?"):
        sources.find_sources([str(tmp_path / "voc")])


def test_dangling_links_and_folders_that_cannot_be_opened_are_sources_that_fail(photos, monkeypatch):
    (photos / "deep" / "gone.png").symlink_to("nowhere.png")
    (photos / "deep" / "loop.png").symlink_to("loop.png")
    (photos / "closed").mkdir()
    (photos / "closed" / "c.png").touch()
    opened = os.scandir

    def refused(folder):
        if Path(folder).name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return opened(folder)

    monkeypatch.setattr("os.scandir", refused)
    found = sources.find_images([str(photos)], recursive=True)
    names = ["a.JPG", "b.png", "closed", "deep/a.JPG", "deep/gone.png", "deep/loop.png"]
    assert [path.relative_to(photos).as_posix() for path in found] == names
    assert sources.find_images([f"{photos}/**/*.png"]) == [
        photos / name for name in names if "." not in name or "png" in name
    ]
    assert sources.find_images([f"{photos}/*.png"]) == [photos / "b.png"]
    for path in (found[2], *found[4:]):
        with pytest.raises(ImageDecodeError, match=rf"{path.name}: "):
            load_image(path)
    for recursive in (False, True):
        with pytest.raises(
            ArgumentError, match=r"closed: cannot be read \(Permission denied\)\. Check its permissions"
        ):
            sources.find_sources([str(photos / "closed")], recursive=recursive)


@pytest.mark.parametrize(
    "url", ["http://host/a.JPG", "https://host/a/b.png?size=3", "file:///a.webp", "http://host/a.heic"]
)
def test_the_address_of_an_image_is_no_stream(url):
    with pytest.raises(ArgumentError, match=r"is a URL, not a file\. Download it first, and name the file\."):
        sources.find_sources([url])


@pytest.mark.parametrize("address", ["http://[", "rtsp://[x]:1/a", "http://[/a.jpg"])
def test_what_cannot_be_an_address_is_one_line(address):
    with pytest.raises(ArgumentError, match=r"is no address \(.*\)\. Check it\."):
        sources.find_sources([address])
