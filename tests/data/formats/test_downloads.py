import hashlib
import io
import json
import shutil
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from ssd.data.dataset import open_dataset
from ssd.data.formats import downloads
from ssd.data.formats.registry import default_split
from ssd.errors import DownloadError
from tests.data.made import coco_content, voc_folder, write_image, write_text, xml, xml_object


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    """Nothing listens at the addresses of these tests; archives are put in place by hand."""
    monkeypatch.setattr(downloads, "download", lambda url, path, **rest: _refuse(url, path))


def _refuse(url, path):
    if not Path(path).is_file():
        raise DownloadError("cannot be fetched (no network)", place=url, remedy=f"Put it at {path}.")
    return path


def make_voc(root, year, splits):
    devkit = root / "VOCdevkit" / f"VOC{year}"
    for split, name in splits.items():
        voc_folder(devkit, {name: xml(xml_object("dog"))}, split)
    return root


def test_voc_joins_two_years_for_training_and_keeps_the_test_apart(tmp_path):
    make_voc(tmp_path, 2007, {"trainval": "000001", "test": "000002"})
    make_voc(tmp_path, 2012, {"trainval": "2012_000001"})
    train = open_dataset(tmp_path, "train", format="voc07+12")
    val = open_dataset(tmp_path, "val", format="voc07+12")
    assert [record.image_id for record in train.records] == ["000001", "2012_000001"]
    assert [record.image_id for record in val.records] == ["000002"]
    assert train.class_names == val.class_names == downloads.VOC_CLASSES
    assert train.records[0].labels.tolist() == [11]
    assert default_split(tmp_path, "voc07+12", "val") == "val"


def test_coco_reads_the_year_2017(tmp_path):
    write_text(tmp_path / "annotations" / "instances_val2017.json", json.dumps(coco_content()))
    for name in ("a.jpg", "b.jpg"):
        write_image(tmp_path / "val2017" / name)
    assert len(open_dataset(tmp_path, "val", format="coco2017")) == 2


def test_what_is_missing_is_named_with_the_place_for_it(tmp_path):
    with pytest.raises(DownloadError) as caught:
        open_dataset(tmp_path, "val", format="voc07+12")
    assert "voc2007/VOCtest_06-Nov-2007.tar" in str(caught.value)
    assert str(tmp_path / "VOCtest_06-Nov-2007.tar") in str(caught.value)


def test_every_archive_has_a_checksum():
    archives = {archive for group in downloads.ARCHIVES.values() for archive in group}
    assert len(archives) == 6
    assert all(len(archive.md5) == 32 for archive in archives)


def test_the_home_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("SSD_HOME", str(tmp_path))
    assert downloads.home("coco2017") == tmp_path / "data" / "coco2017"


def pack(source, path):
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for item in sorted(source.rglob("*")):
                archive.write(item, item.relative_to(source))
    else:
        with tarfile.open(path, "w") as archive:
            archive.add(source / "VOCdevkit", "VOCdevkit")
    shutil.rmtree(source)
    return path


def archive_for(path, unpacked):
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    return downloads.Archive(f"http://127.0.0.1:9/{path.name}", md5, unpacked)


def test_two_archives_unpack_into_one_folder(tmp_path):
    for split, name in (("trainval", "000001"), ("test", "000002")):
        path = pack(make_voc(tmp_path / "made", 2007, {split: name}), tmp_path / f"{split}.tar")
        downloads.fetch(archive_for(path, f"VOCdevkit/VOC2007/ImageSets/Main/{split}.txt"), tmp_path)
    folder = tmp_path / "VOCdevkit" / "VOC2007"
    assert sorted(path.name for path in (folder / "JPEGImages").iterdir()) == ["000001.jpg", "000002.jpg"]
    assert not list(tmp_path.glob(".*unpacking"))


def test_an_interrupted_unpacking_starts_again(tmp_path):
    path = pack(make_voc(tmp_path / "made", 2007, {"test": "000002"}), tmp_path / "test.zip")
    archive = archive_for(path, "VOCdevkit/VOC2007/ImageSets/Main/test.txt")
    write_text(tmp_path / archive.unpacked, "half")
    write_text(tmp_path / ".test.zip.unpacking" / "rest", "")
    downloads.fetch(archive, tmp_path)
    assert (tmp_path / archive.unpacked).read_text() == "000002\n"


def test_an_unpacked_archive_is_left_alone(tmp_path):
    write_text(tmp_path / "train2017" / "x.jpg", "")
    downloads.fetch(replace(downloads.COCO_TRAIN, url="http://127.0.0.1:9/none.zip"), tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["train2017", "x.jpg"]


def test_members_that_leave_the_folder_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("../evil.txt", "x")
    with tarfile.open(tmp_path / "bad.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("../evil.txt"), io.BytesIO())
    with tarfile.open(tmp_path / "link.tar", "w") as archive:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        archive.addfile(link)
    for name in ("bad.zip", "bad.tar", "link.tar"):
        with pytest.raises(DownloadError, match=r"unsafe|outside"):
            downloads.unpack(tmp_path / name, tmp_path / "out" / name)
    assert not (tmp_path / "out" / "evil.txt").exists()


def test_a_damaged_archive_is_named(tmp_path):
    path = write_text(tmp_path / "x.tar", "no archive")
    with pytest.raises(DownloadError, match="cannot be unpacked"):
        downloads.unpack(path, tmp_path / "out")
