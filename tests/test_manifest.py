"""The manifest of published weights, and its downloads, without a network."""

import hashlib
import inspect
import json
import socket
import sys
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from huggingface_hub import constants
from keras.src.applications import inception_resnet_v2, inception_v3, resnet, vgg16, vgg19, xception

from keras_archs.weights.download import BASE_URLS, download, fetch
from keras_archs.weights.entries import Entry, default, entries, find
from keras_archs.weights.errors import WeightsError

KERAS_MODELS = """
    resnet50 resnet101 resnet152 resnet50v2 resnet101v2 resnet152v2 inception_v3 inception_resnet_v2 xception
    vgg16 vgg19
""".split()
WEIGHTS = b"weights"
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
REPOSITORY = "timm/resnet50.a1_in1k"


def test_a_row():
    assert find("resnet50", "a1_in1k") == Entry(
        model="resnet50",
        tag="a1_in1k",
        source="timm",
        file=REPOSITORY,
        hash="",
        notop="",
        notop_hash="",
        convention="torch",
        preprocessing="torch",
        classes=1000,
        size=288,
        crop=1.0,
        interpolation="bicubic",
        top1=81.24,
        top1_size=288,
        license="apache-2.0",
    )


def test_every_entry_is_complete():
    for entry in entries():
        hosted = entry.file == f"timm/{entry.name}"
        assert hosted == (entry.hash == ""), entry
        assert entry.source == "timm" or not hosted, entry
        assert (entry.convention == "keras") == (entry.source == "keras") == (entry.notop != ""), entry
        assert (entry.notop == "") == (entry.notop_hash == "") == (entry.crop is not None), entry
        assert entry.preprocessing in ("caffe", "tf", "torch"), entry
        assert 160 <= entry.size <= 480, entry
        assert (entry.top1 is None) == (entry.top1_size is None), entry
        assert entry.top1 is None or (entry.classes == 1000 and 60 < entry.top1 < 90), entry
        assert entry.license or entry.tag == "bamboo", entry


def test_names_are_unique_and_found():
    assert len({entry.name for entry in entries()}) == len(entries()) > 200
    for entry in entries():
        assert entry in entries(entry.model)
        assert find(entry.model, entry.tag) is entry
        assert find(entry.model, entry.name) is entry
        if entry.source == "timm":
            assert find(entry.model, f"timm/{entry.name}") is entry


def test_hashes_of_keras():
    """Against the constants in Keras' own sources."""
    modules = (resnet, inception_v3, inception_resnet_v2, xception, vgg16, vgg19)
    sources = "".join(inspect.getsource(module) for module in modules)
    assert sorted(e.model for e in entries() if e.source == "keras") == sorted(KERAS_MODELS)
    for entry in map(default, KERAS_MODELS):
        assert entry.hash.removeprefix("md5:") in sources
        assert entry.notop_hash.removeprefix("md5:") in sources
        assert entry.hash != entry.notop_hash
    for module in (inception_v3, xception, vgg16, vgg19):
        entry = default(module.__name__.rpartition(".")[2])
        assert BASE_URLS["keras"] + entry.file == module.WEIGHTS_PATH
        assert BASE_URLS["keras"] + entry.notop == module.WEIGHTS_PATH_NO_TOP
    name = "resnet101v2_weights_tf_dim_ordering_tf_kernels_notop.h5"
    assert BASE_URLS["keras"] + default("resnet101v2").notop == resnet.BASE_WEIGHTS_PATH + name


def test_defaults():
    assert all(default(model).tag == "keras_in1k" for model in KERAS_MODELS)
    assert default("resnet18").tag == "a1_in1k"
    assert default("xception65").tag == "ra3_in1k"
    assert default("googlenet").tag == "tv_in1k"
    assert find("resnet18", "imagenet") is default("resnet18")
    assert default("plain20") is None
    assert entries("plain20") == ()


def test_the_file_that_timm_calls_otherwise():
    entry = find("xception", "timm/legacy_xception.tf_in1k")
    assert entry is find("xception", "legacy_xception.tf_in1k") is find("xception", "tf_in1k")
    assert (entry.name, entry.convention) == ("xception.tf_in1k", "torch")


@pytest.mark.parametrize(
    "weights",
    ["a.h5", "a.weights.h5", "a.keras", "a.pth", "a.ckpt", "./a", "/a/a1_in1k", "timm/a/b", "C:\\a"],
)
def test_paths(weights):
    assert find("resnet50", weights) is None
    assert find("plain20", weights) is None
    assert find("resnet50", Path("a1_in1k")) is None


@pytest.mark.parametrize(
    ("model", "weights", "message"),
    [
        ("resnet50", "a1_in2k", "no entry of resnet50. Did you mean 'a1_in1k'.* tags keras_in1k, a1_in1k,"),
        ("resnet50", "imagnet", "Did you mean 'imagenet'"),
        ("resnet50", "resnet50.a1_in2k", "Did you mean 'resnet50.a1_in1k'"),
        ("resnet50", "timm/resnet51.a1_in1k", "Did you mean 'timm/resnet50.a1_in1k'"),
        ("resnet50", "timm/a1_in1k", "Did you mean 'a1_in1k'"),
        ("resnet50", "timm/resnet50.keras_in1k", "is no entry of resnet50"),
        ("resnet50", "timm/resnet101.a1_in1k", "is an entry of resnet101, not of resnet50"),
        ("resnet50", "resnet101.keras_in1k", "is an entry of resnet101, not of resnet50"),
        ("resnet50", "resnet.pt", r"a path \(.weights.h5, "),
        ("resnet50", 3, "weights='3' is no entry of resnet50"),
        ("resnet20", "imagenet", r"None or a path\. Published for \d+ models, e\.g\. .*resnet50"),
        ("resnet20", "a1_in1k", "is not published for resnet20"),
    ],
)
def test_no_entry(model, weights, message):
    with pytest.raises(ValueError, match=message):
        find(model, weights)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A folder that stands for all servers; Keras' cache is empty."""
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("keras.src.backend.config.keras_home", lambda: str(tmp_path / "cache"))
    for source in BASE_URLS:
        monkeypatch.setitem(BASE_URLS, source, f"file://{tmp_path}/server/")

    def publish(file):
        path = tmp_path / "server" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(WEIGHTS)
        return path

    return publish


def test_a_file_of_keras_is_downloaded_once(server):
    md5 = f"md5:{hashlib.md5(WEIGHTS).hexdigest()}"
    entry = replace(default("resnet50"), notop_hash=md5)
    published = server(entry.notop)
    path = download(entry, include_top=False)
    assert path.read_bytes() == WEIGHTS
    published.unlink()
    assert download(entry, include_top=False) == path
    with pytest.raises(WeightsError, match=r"URL fetch failure.*put the file \(MD5 2cb95"):
        download(entry)
    server(entry.file)
    with pytest.raises(WeightsError, match="does not match"):
        download(entry)


def test_fetch(server):
    url = server("names.json").as_uri()
    assert fetch("names.json", url, hashlib.md5(WEIGHTS).hexdigest()).endswith("cache/models/names.json")


@pytest.mark.parametrize("name", ["googlenet.tv_in1k", "xception.tf_in1k"])
def test_a_file_of_pytorch_is_downloaded_once(server, tmp_path, name):
    entry = replace(find(*name.split(".")), hash=f"sha256:{SHA256[:8]}")
    published = server(entry.file)
    path = download(entry, include_top=False)
    assert path == tmp_path / "cache" / "models" / published.name
    assert path.read_bytes() == WEIGHTS
    published.unlink()
    assert download(entry) == path
    assert list(path.parent.iterdir()) == [path]


def test_a_file_of_pytorch_with_a_wrong_hash(server, tmp_path):
    entry = default("googlenet")
    folder = tmp_path / "cache" / "models"
    published = server(entry.file)
    with pytest.raises(WeightsError, match=f"has the SHA-256 {SHA256}, not 1378be20..."):
        download(entry)
    assert list(folder.iterdir()) == []
    published.unlink()
    with pytest.raises(WeightsError, match=f"URL fetch failure.*1378be20.*from file:.*into {folder}"):
        download(entry)
    # What lies there already is no better.
    (folder / published.name).write_bytes(b"half")
    with pytest.raises(WeightsError, match="URL fetch failure"):
        download(entry)
    entry = replace(entry, hash=f"sha256:{SHA256[:8]}")
    server(entry.file)
    assert download(entry).read_bytes() == WEIGHTS


@pytest.fixture
def attempts(monkeypatch):
    """Whoever opens a connection fails and is noted here."""
    noted = []

    def refuse(*arguments, **options):
        noted.append(arguments)
        raise OSError("no network here")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return noted


@pytest.fixture
def hub(tmp_path, monkeypatch, attempts):
    """The hub's cache with one file in it, and no connection."""
    repository = tmp_path / "hub" / "models--timm--resnet50.a1_in1k"
    blob = repository / "blobs" / SHA256
    snapshot = repository / "snapshots" / ("0" * 40) / "model.safetensors"
    for folder in (blob.parent, snapshot.parent, repository / "refs"):
        folder.mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    blob.write_bytes(WEIGHTS)
    snapshot.symlink_to(blob)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return snapshot


@pytest.mark.parametrize("offline", [True, False])
def test_a_file_in_the_cache_of_the_hub(hub, attempts, monkeypatch, offline):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    assert download(find("resnet50", "a1_in1k")) == hub
    assert download(find("resnet50", "a1_in1k"), include_top=False) == hub
    assert attempts == []


def test_a_damaged_file_in_the_cache_of_the_hub(hub):
    hub.write_bytes(b"half")
    found = hashlib.sha256(b"half").hexdigest()
    with pytest.raises(WeightsError, match=f"{hub} has the SHA-256 {found}, not {SHA256}. Delete"):
        download(find("resnet50", "a1_in1k"))


@pytest.mark.parametrize(
    ("offline", "reason"), [(True, "offline mode is enabled"), (False, "no network here")]
)
def test_not_in_the_cache_of_the_hub(hub, attempts, monkeypatch, offline, reason):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    with pytest.raises(WeightsError, match=f"{reason}.*resnet18.a1_in1k/resolve/main/model.safetensors"):
        download(find("resnet18", "a1_in1k"))
    assert len(attempts) == (not offline)


def test_without_huggingface_hub(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(WeightsError, match="pip install huggingface_hub"):
        download(find("resnet50", "a1_in1k"))


class Hub(BaseHTTPRequestHandler):
    """What the hub answers for one large file."""

    def do_HEAD(self):
        self.send_response(200)
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("ETag", json.dumps(SHA256))
        self.send_header("Content-Length", str(len(WEIGHTS)))
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()
        self.wfile.write(self.server.content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def answer(tmp_path, monkeypatch):
    """A hub on this machine, its cache empty."""
    with HTTPServer(("127.0.0.1", 0), Hub) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(
            constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            url + "/{repo_id}/resolve/{revision}/{filename}",
        )
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_a_file_is_downloaded_from_the_hub(answer):
    answer.content = WEIGHTS
    path = download(find("resnet50", "a1_in1k"))
    assert path.read_bytes() == WEIGHTS
    assert path.resolve().name == SHA256
    answer.content = b"another"
    assert download(find("resnet50", "a1_in1k")) == path


def test_another_file_is_downloaded_from_the_hub(answer):
    answer.content = b"another"
    with pytest.raises(WeightsError, match=f"not {SHA256}"):
        download(find("resnet50", "a1_in1k"))
