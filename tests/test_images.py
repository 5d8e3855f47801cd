"""Images of a chat history: files of the project, as data URLs, on their way to a hosted model."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from workbench.cli import main
from workbench.define import images
from workbench.define.project import Project
from workbench.errors import UseError
from workbench.loopback import serve

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0" + bytes(20), "image/jpeg"),
        (b"GIF89a" + bytes(20), "image/gif"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", None),
        (b"<svg onload='x'/>", None),
        (b"", None),
    ],
)
def test_an_image_is_known_by_its_first_bytes(tmp_path: Path, content: bytes, kind: str | None) -> None:
    (tmp_path / "photo.png").write_bytes(content)
    message = {"role": "user", "content": [{"type": "image", "image": "photo.png"}]}
    if kind is None:
        with pytest.raises(UseError, match="no PNG, JPEG, GIF or WebP"):
            images.inline_images(message, Project(tmp_path, ""))
    else:
        (part,) = images.inline_images(message, Project(tmp_path, ""))["content"]
        assert part["image"] == f"data:{kind};base64,{base64.b64encode(content).decode()}"


@pytest.mark.parametrize(
    ("part", "error"),
    [
        ({"type": "image", "image": "photo.png"}, None),
        ({"type": "image_url", "image_url": {"url": "photo.png"}}, None),
        ({"type": "image", "image": "https://example.org/cat.png"}, None),
        ({"type": "image", "image": "data:image/png;base64,AAAA"}, None),
        ({"type": "image", "image": "large.png"}, "at most 30 can be sent"),
        ({"type": "image", "image": "../outside.png"}, "leaves the project folder"),
        ({"type": "image", "image": "link.png"}, "leaves the project folder"),
        ({"type": "image", "image": "missing.png"}, "there is no file"),
        ({"type": "image", "image": "file:///etc/passwd"}, "there is no file"),
        ({"type": "image", "image": 3}, "a part of a message must be"),
        ({"type": "audio", "audio": "x"}, "a part of a message must be"),
        ("text", "a part of a message must be"),
    ],
)
def test_parts_of_a_history(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, part: object, error: str | None
) -> None:
    monkeypatch.setattr(images, "LARGEST", 30)
    root = tmp_path / "project"
    (root / "evals").mkdir(parents=True)
    (root / "prompts").mkdir()
    (root / "photo.png").write_bytes(PNG)
    (root / "large.png").write_bytes(PNG + bytes(20))
    (tmp_path / "outside.png").write_bytes(PNG)
    (root / "link.png").symlink_to(tmp_path / "outside.png")
    (root / "prompts/ask.prompty").write_text("user:\nwhat is {{ word }}?")
    row = {
        "id": "c1",
        "word": "this",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "see"}, part]}],
    }
    (root / "cases.jsonl").write_text(json.dumps(row) + "\n")
    (root / "evals/s.yaml").write_text(
        "name: s\nprompts: [ask]\nmodels: [house]\nscorers: [length]\ncases: {file: cases.jsonl}"
    )
    with serve() as server:
        (root / "workbench.yaml").write_text(
            f"models: {{house: {{engine: openai, model: m, base_url: '{server.url}'}}}}"
        )
        code = main(["--project", str(root), "run", "s", "--quiet"])
        errors = capsys.readouterr().err
        if error:
            assert code == 2
            assert error in errors
            assert "cases.jsonl:1:" in errors
            return
        assert (code, errors) == (0, "")
        (call,) = server.books.log
        _, sent = call.body["messages"][0]["content"]
        url = sent["image_url"]["url"]
        assert sent["type"] == "image_url"
        assert url.startswith(("data:image/png;base64,", "https://"))
