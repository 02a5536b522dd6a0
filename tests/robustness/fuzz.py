"""Every reader on damaged, twisted and hostile input.

    python -m tests.robustness.fuzz --cases 1000000
    python -m tests.robustness.fuzz --cases 1000000 --record tests/robustness/fuzz.txt
    python -m tests.robustness.fuzz --only csv --case 4711      # one case again

Valid files are changed at random, byte by byte and word by word, and given to the readers. A reader
may refuse its input with an error of this software. Anything else is a finding: another exception,
a process that dies or hangs, memory beyond bounds, labels other than an independent reading of the
same bytes gives. Prints a record as JSON; exits with 1 when there is a finding. Cases are functions
of seed, reader and number, and run in processes of their own, so that one that dies is only one.
With `--record` the record is a file, written anew after each reader; readers whose line is there
already are not run again.
"""

import csv
import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import metadata as installed
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import unquote

import click
import h5py
import numpy as np
import torch
from PIL import Image
from scipy.io import savemat

from sspl.apps.labelling.label_journal import LabelJournal
from sspl.apps.serving.reader import open_picture
from sspl.data.adapters.celeba import read_celeba
from sspl.data.adapters.lfwa import read_lfwa
from sspl.data.adapters.maad import read_maad
from sspl.data.adapters.source import read_split_list
from sspl.data.adapters.table import read_table
from sspl.data.data_settings import parse_data_spec
from sspl.data.images import WHOLE_FRAME, image_canvas, read_canvas, read_image, read_mask
from sspl.data.packs.layout import INDEX_FILE, Index, PackPlan
from sspl.data.packs.read import read_pack
from sspl.data.packs.write import Encoded, write_shard
from sspl.data.skipping import Skipped
from sspl.domain.attributes import load_schema
from sspl.domain.taxonomy import load_taxonomy
from sspl.errors import SsplError
from sspl.evaluation.predictions import Predictions, load_predictions, save_predictions
from sspl.faces.photographs import _entry
from sspl.inference.drawing import inside
from sspl.io.files import write_csv, write_text
from sspl.io.names import path_below
from sspl.io.runs import versions
from sspl.io.weight_headers import CHECKSUM_KEY, METADATA_KEY
from sspl.io.weights import read_tensors
from sspl.models.bundle import AttributeModel, load_model, save_model
from sspl.models.network_settings import BackboneSettings, HeadSettings
from sspl.models.splnet import build_attribute_network
from sspl.settings import build, dump_yaml, read_settings
from sspl.training.stage_settings import FinetuneSettings, PretrainSettings

BATCH: Final = 250
ALIKE: Final = 30
CPU_SECONDS: Final = 20.0
MORE_MEMORY: Final = 6 * 2**30
VERSIONED: Final = ("h5py", "onnx", "onnxruntime", "pyyaml", "scipy")
NAMES: Final = ("a.png", "b.png", "c d.png", "ä.png", "sub/e.png")
WORDS: Final = [
    b"", b"0", b"1", b"-1", b"2", b"true", b"nan", b"inf", b"1e400", b"-0", b"\r\n",
    b"\xef\xbb\xbf", b"\n", b"\r", b",", b'"', b"'", b";", b"\t", b"\0", b"\xff", b"../", b"/",
    b"\\", b"image", b"split", b"train", b"a.png", b"b.png", b" ", b"[", b"]", b"{", b"}", b":",
    b"- ", b"&a ", b"*a", b"!!python/object/apply:os.system ", b"<<: ", b"null", b"~", b"0x7f",
    b"2147483648", b"18446744073709551616", b"99999999999999999999999999", b"\xe2\x80\xae",
    b"\xed\xa0\x80", b"sspl", b"celeba", b"crop=", b"masks=", b"background", b"%s", b"#", b"|",
    b">", b"? ",
]  # fmt: skip


class WrongError(Exception):
    """A reader took its input for something else than it says."""


def twist(seed: bytes, other: bytes, rng: random.Random) -> bytes:
    """Return `seed` changed in one to four places."""
    content = bytearray(seed)
    for _ in range(rng.randint(1, 4)):
        at, length = rng.randint(0, len(content)), rng.randint(1, 16)
        match rng.randrange(9):
            case 0 if content:
                content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
            case 1 if content:
                content[rng.randrange(len(content))] = rng.randrange(256)
            case 2:
                del content[at:]
            case 3:
                del content[at : at + length]
            case 4:
                content[at:at] = content[at : at + length] * rng.randint(1, 3)
            case 5:
                content[at:at] = rng.choice(WORDS)
            case 6:
                content[at : at + length] = rng.choice(WORDS)
            case 7:
                content[at:] = other[rng.randint(0, len(other)) :]
            case _:
                content[at : at + 4] = rng.randbytes(4)
    return bytes(content)


@dataclass(frozen=True)
class Reader:
    """What is fuzzed.

    Args:
        seeds: valid contents.
        read: reads a content in a folder of its own; raises `WrongError` when it is mistaken.
    """

    seeds: list[bytes]
    read: Callable[[bytes, Path], object]


def _file(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def _pictures(folder: Path) -> None:
    for name in NAMES:
        path = folder / name
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            path.touch()


def _encoded(kind: str, mode: str, **options: Any) -> bytes:
    pixels = np.random.default_rng(1).integers(0, 256, (12, 10, 4), dtype=np.uint8)
    image = Image.fromarray(pixels).convert("RGB").convert(mode)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def images() -> Reader:
    exif = Image.Exif()
    exif[0x0112] = 6
    seeds = [
        _encoded("JPEG", "RGB", exif=exif), _encoded("JPEG", "RGB", progressive=True),
        _encoded("JPEG", "CMYK"), _encoded("PNG", "P"), _encoded("PNG", "RGBA"),
        _encoded("PNG", "I;16"), _encoded("PNG", "1"), _encoded("BMP", "RGB"),
        _encoded("WEBP", "RGBA"), _encoded("TIFF", "RGB"), _encoded("TIFF", "LAB"),
        _encoded("TIFF", "RGB", compression="tiff_lzw"),
        _encoded("PNG", "RGB", save_all=True, append_images=[Image.new("RGB", (10, 12))]),
    ]  # fmt: skip

    def read(content: bytes, folder: Path) -> None:
        path = _file(folder, "x.jpg", content)
        image = read_image(path)
        if image.mode != "RGB" or image.width * image.height == 0:
            raise WrongError(f"{image.mode} {image.size}")
        image_canvas(image, WHOLE_FRAME, 8)
        read_canvas(path, WHOLE_FRAME, 8)

    return Reader(seeds, read)


def masks() -> Reader:
    seeds = []
    for mode in ("L", "P"):
        image = Image.fromarray(np.arange(120, dtype=np.uint8).reshape(12, 10) % 19)
        if mode == "P":
            image = image.convert("P")
            image.putpalette(bytes(range(256)) * 3)
        file = io.BytesIO()
        image.save(file, "PNG")
        seeds.append(file.getvalue())

    def read(content: bytes, folder: Path) -> None:
        mask = read_mask(_file(folder, "x.png", content), (10, 12), 19)
        ids = np.unique(np.asarray(mask))
        if mask.size != (10, 12) or any(19 <= i < 255 for i in ids):
            raise WrongError(f"{mask.size} {ids}")

    return Reader(seeds, read)


def _compare(faces: Any, expected: dict[str, dict[str, int]]) -> None:
    """Compare labels with those of a plain reading; pictures are found under other spellings."""
    loose: dict[str, list[dict[str, int]]] = {}
    for name, labels in expected.items():
        loose.setdefault(_loose(name), []).append(labels)
    for face in faces:
        mine = dict(zip(faces.schema.names, face.labels.tolist(), strict=True))
        said = [expected[face.name]] if face.name in expected else loose.get(_loose(face.name), [])
        if mine not in said:
            raise WrongError(f"{face.name}: {mine}, but the file says {said}")


def _loose(name: str) -> str:
    plain = unicodedata.normalize("NFC", unquote(name)).replace("\\", "/").casefold()
    return str(PurePosixPath(os.path.normpath(plain)).with_suffix(""))


def _cells(row: list[str], names: list[str]) -> dict[str, str]:
    """Return the cells of a row by column; commas at its end count for nothing."""
    cells = [cell.strip() for cell in row]
    while len(cells) > len(names) and not cells[-1]:
        cells.pop()
    return dict(zip(names, cells, strict=True))


def _plain(name: str) -> str:
    return os.path.normpath(name)


TRUTH: Final = {"1": 1, "true": 1, "0": 0, "false": 0, "-1": 0, "": -1}


def tables() -> Reader:
    seeds = [
        "image,split,Smiling,Young\na.png,train,1,0\nb.png,val,0,1\nc d.png,,1,\nä.png,test,,\n",
        'image,X\r\n"a.png",1\r\n"c d.png",-1\r\nsub/e.png,\r\n',
        "\ufeffimage,A,B\na.png,true,FALSE\n\nb.png,False,True\n",
    ]

    def read(content: bytes, folder: Path) -> None:
        _pictures(folder)
        path = _file(folder, "x.csv", content)
        faces = read_table(path, missing="skip")
        text = content.decode("utf-8-sig")
        rows = [r for r in csv.reader(io.StringIO(text, newline="")) if any(c.strip() for c in r)]
        names = [c.strip() for c in rows[0]]
        while not names[-1]:
            names.pop()
        found = [_cells(row, names) for row in rows[1:]]
        _compare(
            faces,
            {
                _plain(r["image"]): {
                    k: TRUTH[v.lower()] for k, v in r.items() if k not in ("image", "split")
                }
                for r in found
            },
        )

    return Reader([seed.encode() for seed in seeds], read)


def celeba() -> Reader:
    attributes = "3\nSmiling Young\na.png 1 -1\nb.png -1 -1\nä.png  1  1\n"
    partition = "a.png 0\nb.png 1\nä.png 2\n"
    middle = b"\n====\n"

    def read(content: bytes, folder: Path) -> None:
        _pictures(folder)
        first, _, second = content.partition(middle)
        faces = read_celeba(
            folder,
            folder,
            _file(folder, "a.txt", first),
            _file(folder, "p.txt", second),
            missing="skip",
        )
        lines = [line for line in _lines(first) if line.strip()]
        names = lines[1].split()
        expected = {
            _plain(parts[0]): {n: int(v == "1") for n, v in zip(names, parts[1:], strict=True)}
            for parts in (line.split() for line in lines[2:])
        }
        _compare(faces, expected)
        splits = {
            _plain(line.split()[0]): line.split()[1] for line in _lines(second) if line.split()
        }
        for face in faces:
            if {"train": "0", "val": "1", "test": "2"}[str(face.split)] != splits[face.name]:
                raise WrongError(f"{face.name} is in {face.split}")

    return Reader([attributes.encode() + middle + partition.encode()], read)


def _lines(content: bytes) -> list[str]:
    return io.StringIO(content.decode("utf-8-sig"), newline=None).read().split("\n")


def maad() -> Reader:
    seed = "Filename,Identity,Male,Young\na.png,n1,1,-1\nb.png,n1,0,1\nsub/e.png,n2,-1,0\n"

    def read(content: bytes, folder: Path) -> None:
        _pictures(folder)
        faces = read_maad(_file(folder, "MAAD_Face.csv", content), missing="skip")
        text = content.decode("utf-8-sig")
        rows = [r for r in csv.reader(io.StringIO(text, newline="")) if any(c.strip() for c in r)]
        names = [c.strip() for c in rows[0]][2:]
        values = {"1": 1, "-1": 0, "0": -1, "-0": -1}
        _compare(
            faces,
            {
                _plain(r[0].strip()): {
                    n: values[v.strip()] for n, v in zip(names, r[2:], strict=True)
                }
                for r in rows[1:]
            },
        )

    return Reader([seed.encode()], read)


def lfwa() -> Reader:
    def cells(texts: list[str]) -> Any:
        array = np.empty((len(texts), 1), dtype=object)
        array[:, 0] = texts
        return array

    names, attributes = ["a.png", "b.png", r"sub\e.png"], ["Male", "Young"]
    labels = np.array([[1.0, 0], [0, 0], [0, 1]])
    seeds = []
    for compressed in (False, True):
        file = io.BytesIO()
        content = {"name": cells(names), "label": labels, "AttrName": cells(attributes)}
        savemat(file, content, do_compression=compressed)
        # The first bytes tell the time, which must not make other cases of one number.
        seeds.append(b"MATLAB 5.0 MAT-file".ljust(116) + file.getvalue()[116:])
    file = io.BytesIO()
    with h5py.File(file, "w") as hdf5:
        hdf5["label"] = labels.T
        for key, texts in (("name", names), ("AttrName", attributes)):
            references = hdf5.create_dataset(key, (1, len(texts)), dtype=h5py.ref_dtype)
            for i, text in enumerate(texts):
                units = np.frombuffer(text.encode("utf-16-le"), dtype=np.uint16)
                references[0, i] = hdf5.create_dataset(f"r/{key}{i}", data=units[:, None]).ref
    seeds.append(file.getvalue())

    def read(content: bytes, folder: Path) -> None:
        _pictures(folder)
        faces = read_lfwa(_file(folder, "lfw_att_40.mat", content), missing="skip")
        if not np.isin(faces.labels, (0, 1)).all():
            raise WrongError("labels other than 0 and 1")

    return Reader(seeds, read)


def settings() -> Reader:
    seeds = [dump_yaml(PretrainSettings()).encode(), dump_yaml(FinetuneSettings()).encode()]
    seeds.append(b"seed: 3\noptim: {epochs: 4, lr: 1.0e-3}\ntasks: [prt, pct]\n")

    def read(content: bytes, folder: Path) -> None:
        found = read_settings(_file(folder, "x.yaml", content))
        for kind in (PretrainSettings, FinetuneSettings):
            try:
                build(kind, found)
            except SsplError:
                continue

    return Reader(seeds, read)


def specs() -> Reader:
    seeds = [
        b"celeba:faces,masks=masks,crop=celeba",
        b"csv:labels.csv,images=faces,on_missing=skip",
        b"folder:.,crop=0.1:0.1:0.9:0.9",
        b"csv:x.csv,ignore_columns=a:b",
        b"maad:x",
        b".",
    ]

    def read(content: bytes, folder: Path) -> None:
        os.chdir(folder)
        _pictures(folder)
        text = content.decode("utf-8", "surrogateescape").replace("\0", "")
        data = parse_data_spec(text)
        left, top, right, bottom = data.box()
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise WrongError(f"box {data.box()}")
        # What lies elsewhere, all of this disk say, is not there to be walked.
        if Path(os.path.normpath(folder / data.root)).is_relative_to(folder):
            data.open()

    return Reader(seeds, read)


def _model(folder: Path) -> bytes:
    from sspl.domain.attributes import AttributeSchema

    schema = AttributeSchema(("Smiling", "Young"), ("whole", "whole"))
    backbone = BackboneSettings(width=0.02, stem_stride=2)
    network = build_attribute_network("sspl", backbone, HeadSettings(), schema).eval()
    ones = np.ones(2)
    save_model(folder, AttributeModel(network, schema, WHOLE_FRAME, 40, 32, True, ones, ones))
    return (folder / "model.safetensors").read_bytes()


def models() -> Reader:
    with tempfile.TemporaryDirectory() as folder:
        content = _model(Path(folder))
        load_model(Path(folder))  # torch imports much at the first one, which each process would
    length = int.from_bytes(content[:8], "little")
    metadata, body = json.loads(content[8 : 8 + length]), content[8 + length :]
    # The checksum would give away every change before anything else is looked at.
    del metadata["__metadata__"][CHECKSUM_KEY]
    header, said = (
        json.dumps(metadata, sort_keys=True).encode(),
        metadata["__metadata__"][METADATA_KEY].encode(),
    )

    def read(content: bytes, folder: Path) -> None:
        """Take the header, or in it the metadata alone, changed; the rest is only numbers."""
        which, changed = content[:1], content[1:]
        if which == b"f":
            metadata = {METADATA_KEY: changed.decode("utf-8", "replace")}
            changed = json.dumps(metadata | {"__metadata__": metadata}).encode()
        file = len(changed).to_bytes(8, "little") + changed + body
        load_model(_file(folder, "model.safetensors", file))

    return Reader([b"h" + header, b"f" + said], read)


def tensors() -> Reader:
    from safetensors.torch import save

    values = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(2, dtype=torch.int64)}
    seeds = [save(values, {"sspl": '{"kind": "x"}'}), save(values)]
    return Reader(seeds, lambda content, folder: read_tensors(_file(folder, "x", content)))


def taxonomies() -> Reader:
    seeds = [
        b"name: mine\nclasses: [background, skin, l_eye, r_eye]\nmirror: [[l_eye, r_eye]]\n"
        b"regions: {upper: [l_eye, r_eye]}\nfrom: {lapa11: {eye: l_eye}}\n",
        b"0 background\n1 skin\n2 l_eye\n3 r_eye\n",
        b"attributes: {Smiling: whole, Bald: upper}\n",
        b"attributes: [A, B]\n",
    ]

    def read(content: bytes, folder: Path) -> None:
        readers: tuple[Callable[[], object], ...] = (
            lambda: load_taxonomy(str(_file(folder, "x.yaml", content))),
            lambda: load_taxonomy(str(_file(folder, "classes.txt", content))),
            lambda: load_schema(_file(folder, "schema.yaml", content)),
        )
        for reader in readers:
            try:
                reader()
            except SsplError:
                continue

    return Reader(seeds, read)


def lists() -> Reader:
    seeds = [b"name,split\na.png,train\nb.png,test\n", b'source,image,reason\ns,"a",broken\n']

    def read(content: bytes, folder: Path) -> None:
        for reader in (read_split_list, Skipped("skip").read):
            try:
                reader(_file(folder, "x.csv", content))
            except SsplError:
                continue

    return Reader(seeds, read)


def onnx_files() -> Reader:
    from onnx import TensorProto, helper, numpy_helper

    from sspl.inference.portable import METADATA_KEY, load_portable

    weight = numpy_helper.from_array(np.ones((48, 2), np.float32), "w")
    nodes = [
        helper.make_node("Cast", ["images"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["f"], ["g"]),
        helper.make_node("MatMul", ["g", "w"], ["probabilities"]),
    ]
    image = helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", 4, 4, 3])
    out = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 2])
    graph = helper.make_graph(nodes, "g", [image], [out], [weight])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    proto.ir_version = 9
    metadata = {
        "attributes": {"A": "whole", "B": "upper"}, "thresholds": [0.5, 0.5], "box": [0, 0, 1, 1],
        "canvas": 4, "input_size": 4, "flip_average": True, "opset": 18, "versions": {},
    }  # fmt: skip
    helper.set_model_props(proto, {METADATA_KEY: json.dumps(metadata)})

    def read(content: bytes, folder: Path) -> None:
        load_portable(_file(folder, "x.onnx", content))

    return Reader([proto.SerializeToString()], read)


def packs() -> Reader:
    from sspl.cli.main import cli

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for i in range(3):
            Image.new("RGB", (8, 8), (i, 0, 0)).save(folder / f"{i}.png")
        (folder / "x.csv").write_text("image,split,A\n0.png,train,1\n1.png,train,0\n2.png,val,1\n")
        out = folder / "pack"
        arguments = ["data", "pack", f"csv:{folder / 'x.csv'}", "--out", str(out)]
        cli.main(arguments, standalone_mode=False)
        files = {path.name: path.read_bytes() for path in out.iterdir()}
        # Where it came from differs each time, and must not make other cases of one number.
        files["pack.json"] = files["pack.json"].replace(place.encode(), b"place")
    tables = sorted(name for name in files if name.endswith(".npz"))
    targets = ("pack.json", tables[0])
    mark = b"\n=which=\n"

    def read(content: bytes, folder: Path) -> None:
        which, _, changed = content.partition(mark)
        name = targets[len(which) % 2]
        for other, whole in files.items():
            _file(folder, other, changed if other == name else whole)
        for face in read_pack(folder):
            read_image(face.image)

    return Reader([b"x" * i + mark + files[name] for i, name in enumerate(targets)], read)


def names() -> Reader:
    """Names in every carrier of names: where one that passes leads to is below one folder."""
    between = b"|"
    seeds = [
        b"a.png|sub/e.png|../x.png|/tmp/x.png",
        b"C:\\x.png|..\\x.png|a/../../x.png|nul.png",
        b"=a.png|-1.png|@b/c.png|./d.png",
        "ä.png|a\u202eb.png|a\tb.png|a..b/c.png".encode(),
    ]

    def packed(name: str, folder: Path) -> tuple[str, ...]:
        shard = write_shard(folder, "faces-000000", "faces", [Encoded(name, b"x", ".png")])
        plan = PackPlan(
            source="x",
            canvas=None,
            box=None,
            encoding="as is",
            classes=None,
            attributes={},
            groups=(),
            splits={"faces": 1},
            shard_faces=9,
            fingerprint="0",
        )
        index = Index(plan=plan, faces=1, shards=(shard,))
        _file(folder, INDEX_FILE, index.model_dump_json().encode())
        return read_pack(folder).names

    def detected(name: str, _: Path) -> tuple[str, ...]:
        rows = [{"image": name}]
        entry = _entry(json.dumps({"source": name, "bytes": 1, "faces": rows}))
        if entry is None:
            raise SsplError("no entry")
        return tuple(row["image"] for row in entry.faces)

    def listed(name: str, folder: Path) -> tuple[str, ...]:
        path = folder / "x.csv"
        write_csv(path, ("name", "split"), [(name, "train")])
        return tuple(read_split_list(path))

    def read(content: bytes, folder: Path) -> None:
        out, said = folder / "out", Counter[str]()
        for raw in content.split(between):
            name = raw.decode("utf-8", "replace")
            for number, carry in enumerate((packed, detected, listed)):
                place = folder / str(number)
                place.mkdir(exist_ok=True)
                try:
                    found = carry(name, place)
                except SsplError:
                    said["refused"] += 1
                    continue
                said["read"] += 1
                for each in found:
                    for path in (path_below(out, each), inside(out, each)):
                        if not Path(os.path.realpath(path)).is_relative_to(out):
                            raise WrongError(f"{each!r} leads to {path}")
        if not said["read"]:
            raise SsplError("no name is one")

    return Reader(seeds, read)


def predictions() -> Reader:
    labels = np.array([[1, 0], [-1, 1]], np.int8)
    seeds = []
    with tempfile.TemporaryDirectory() as folder:
        for groups in ({}, {"race": ("x", "y")}):
            said = Predictions(
                ("a.png", "b.png"), ("Male", "Young"), labels, np.full((2, 2), 0.5, "f4"), groups
            )
            path = Path(folder) / "x.npz"
            save_predictions(path, said)
            seeds.append(path.read_bytes())
            # Not compressed, so that changes reach the arrays.
            with np.load(path, allow_pickle=False) as arrays:
                plain = io.BytesIO()
                np.savez(plain, **dict(arrays.items()))
            seeds.append(plain.getvalue())

    def read(content: bytes, folder: Path) -> None:
        found = load_predictions(_file(folder, "x.npz", content))
        if not np.isin(found.labels, (-1, 0, 1)).all():
            raise WrongError(f"labels {found.labels.tolist()}")

    return Reader(seeds, read)


def uploads() -> Reader:
    def read(content: bytes, _: Path) -> None:
        image = open_picture(content, 10_000)
        if image.mode != "RGB" or not 0 < image.width * image.height <= 10_000:
            raise WrongError(f"{image.mode} {image.size}")

    return Reader(images().seeds, read)


def journals() -> Reader:
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "labels.csv"
        journal = LabelJournal(out, ("Smiling", "Young"), lambda: Path(place))
        journal.answer("a.png", {"Smiling": 1, "Young": None})
        journal.answer("b.png", {"Smiling": 0})
        journal.undo()
        journal.answer("c d.png", {"Young": 1})
        journal.close()
        seed = Path(f"{out}.journal").read_bytes()

    def read(content: bytes, folder: Path) -> None:
        _pictures(folder)
        out = folder / "labels.csv"
        out.unlink(missing_ok=True)
        _file(folder, "labels.csv.journal", content)
        journal = LabelJournal(out, ("Smiling", "Young"), lambda: folder)
        try:
            said = {name: journal.values(name) for name in journal.images()}
        finally:
            journal.close()
        if not all(v in (0, 1, None) for values in said.values() for v in values.values()):
            raise WrongError(f"answers {said}")

    return Reader([seed], read)


READERS: Final[dict[str, Callable[[], Reader]]] = {
    "images": images, "masks": masks, "csv": tables, "celeba": celeba, "maad": maad, "lfwa": lfwa,
    "settings": settings, "specs": specs, "models": models, "tensors": tensors,
    "taxonomies": taxonomies, "lists": lists, "onnx": onnx_files, "packs": packs,
    "names": names, "predictions": predictions, "uploads": uploads, "journals": journals,
}  # fmt: skip


@dataclass
class Record:
    """What happened: cases by reader and by how they ended, and what must not have happened."""

    cases: int = 0
    seconds: float = 0.0
    by_reader: dict[str, Counter[str]] = field(default_factory=dict)
    findings: list[dict[str, Any]] = field(default_factory=list)

    def find(self, reader: str, case: int, what: str) -> None:
        """Note a finding; those that begin alike are counted."""
        for known in self.findings:
            if known["reader"] == reader and known["what"][:ALIKE] == what[:ALIKE]:
                known["times"] += 1
                return
        self.findings.append({"reader": reader, "case": case, "what": what, "times": 1})

    def text(self) -> str:
        return json.dumps(self.__dict__, indent=2)


def case_content(reader: Reader, name: str, seed: int, number: int) -> bytes:
    """Return the content of a case; the first ones are the seeds as they are."""
    if number < len(reader.seeds):
        return reader.seeds[number]
    rng = random.Random(f"{seed} {name} {number}")
    return twist(rng.choice(reader.seeds), rng.choice(reader.seeds), rng)


def outcome(reader: Reader, content: bytes, folder: Path) -> str:
    """Return `read` or `refused`; raise anything else."""
    try:
        reader.read(content, folder)
    except SsplError as error:
        if "Traceback" in str(error):
            raise WrongError(f"a trace in the sentence: {error}") from error
        return "refused"
    return "read"


def _hang(*_: object) -> None:
    raise TimeoutError(f"more than {CPU_SECONDS:g} s of CPU")


def _child(
    reader: Reader, name: str, seed: int, numbers: range, folder: Path, write: int
) -> Iterator[None]:
    """Run cases; report each as a line, before and after."""
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGVTALRM, _hang)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MORE_MEMORY, used + MORE_MEMORY))
    for number in numbers:
        os.write(write, f"start {number}\n".encode())
        content = case_content(reader, name, seed, number)
        signal.setitimer(signal.ITIMER_VIRTUAL, CPU_SECONDS)
        try:
            word = outcome(reader, content, folder)
        except BaseException as error:
            word = "finding " + json.dumps(f"{type(error).__name__}: {error}"[:300])
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        os.write(write, f"{word}\n".encode())
        yield


def run_batch(reader: Reader, name: str, seed: int, numbers: range, record: Record) -> int:
    """Run cases in a process of its own; return how many came to an end."""
    folder = Path(tempfile.mkdtemp())
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        os.close(read_end)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        for _ in _child(reader, name, seed, numbers, folder, write_end):
            pass
        os._exit(0)
    os.close(write_end)
    done, number = 0, numbers.start
    counts = record.by_reader.setdefault(name, Counter())
    with os.fdopen(read_end) as lines:
        for line in lines:
            word, _, rest = line.strip().partition(" ")
            if word == "start":
                number = int(rest)
                continue
            counts[word] += 1
            done += 1
            if word == "finding":
                record.find(name, number, json.loads(rest))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        counts["died"] += 1
        done += 1
        record.find(name, number, f"the process ended with {code}")
    shutil.rmtree(folder, ignore_errors=True)
    record.cases += done
    return done


def fuzz(cases: int, seed: int, names: list[str], most_findings: int = 50) -> Record:
    """Run so many cases, shared among the readers; stop early after many findings."""
    torch.set_num_threads(1)
    record, begun = Record(), time.monotonic()
    readers = {name: READERS[name]() for name in names}
    share = -(-cases // len(names))
    for name, reader in readers.items():
        number = 0
        while number < share and len(record.findings) < most_findings:
            numbers = range(number, min(number + BATCH, share))
            number += max(1, run_batch(reader, name, seed, numbers, record))
    record.seconds = round(time.monotonic() - begun, 1)
    return record


def read_lines(record: Path) -> dict[str, dict[str, Any]]:
    """Return what a record says of each reader."""
    text = record.read_text(encoding="utf-8") if record.exists() else ""
    lines = (json.loads(line) for line in text.splitlines() if line[:1] == "{")
    return {line["reader"]: line for line in lines}


def write_lines(record: Path, lines: dict[str, dict[str, Any]]) -> None:
    """Write a line for each reader, and the sums."""
    cases = sum(line["cases"] for line in lines.values())
    findings = sum(len(line["findings"]) for line in lines.values())
    head = [
        "Made by tests/robustness/fuzz.py: of each reader how many cases of damaged input it was",
        "given, how they ended, and what must not have happened.",
        "",
        f"{cases:,} cases, {findings} findings.",
        "",
    ]
    rows = [json.dumps(lines[reader], ensure_ascii=False) for reader in sorted(lines)]
    write_text(record, "\n".join([*head, *rows]) + "\n")


def fuzz_on(record: Path, cases: int, seed: int, names: list[str]) -> int:
    """Run the readers that the record does not have yet; return how many findings there are."""
    share = -(-cases // len(names))
    wanted = {"seed": seed, "cases": share}
    for name in names:
        known = read_lines(record).get(name, {})
        if wanted.items() <= known.items() and not known["findings"]:
            continue
        result = fuzz(share, seed, [name])
        line = {
            "reader": name, **wanted, "cases": result.cases, "ended": result.by_reader[name],
            "findings": result.findings, "seconds": result.seconds,
            "versions": versions() | {n: installed.version(n) for n in VERSIONED},
        }  # fmt: skip
        # Read again: another run may have written its readers meanwhile.
        write_lines(record, read_lines(record) | {name: line})
    return sum(len(line["findings"]) for line in read_lines(record).values())


@click.command()
@click.option("--cases", type=click.IntRange(1), default=20_000, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--only", type=click.Choice(list(READERS)), multiple=True, help="Readers to fuzz.")
@click.option("--case", "number", type=click.IntRange(0), help="Run this case alone, in the open.")
@click.option("--record", type=click.Path(path_type=Path), help="File to note the results in.")
def main(
    cases: int, seed: int, only: tuple[str, ...], number: int | None, record: Path | None
) -> None:
    """Give damaged input to every reader; print a record."""
    names = list(only or READERS)
    # What the readers' own tools print must not stand before the record.
    stdout, sys.stdout = sys.stdout, sys.stderr
    if number is not None:
        reader = READERS[names[0]]()
        content = case_content(reader, names[0], seed, number)
        click.echo(repr(content[:2000]), stdout)
        click.echo(outcome(reader, content, Path(tempfile.mkdtemp())), stdout)
        return
    if record is not None:
        sys.exit(1 if fuzz_on(record, cases, seed, names) else 0)
    result = fuzz(cases, seed, names)
    click.echo(result.text(), stdout)
    sys.exit(1 if result.findings else 0)


if __name__ == "__main__":
    main()
