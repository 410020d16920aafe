"""Pages of measurements are shown when there are some, with their pictures, and their absence is said when not."""

import subprocess
import sys
from pathlib import Path

EXTENSIONS = Path(__file__).parents[2] / "docs" / "_ext"
CONF = f"""
import sys
sys.path.insert(0, {str(EXTENSIONS)!r})
extensions = ["myst_parser", "results"]
html_theme = "basic"
"""
PAGE = "# Benchmarks\n\n```{results} ../measured\nNot run yet.\n```\n"
RESULT = "# A machine\n\n## Softmax\n\n| a | b |\n|---|---|\n| 1.25 | 2 |\n\n![Ratio](machine.svg)\n"


def build(folder: Path) -> str:
    command = [sys.executable, "-m", "sphinx", "-n", "-W", "-q", folder / "docs", folder / "out"]
    subprocess.run(command, check=True)
    return (folder / "out" / "index.html").read_text()


def test_results(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "conf.py").write_text(CONF)
    (tmp_path / "docs" / "index.md").write_text(PAGE)
    assert "Not run yet." in build(tmp_path)

    (tmp_path / "measured").mkdir()
    (tmp_path / "measured" / "machine.md").write_text(RESULT)
    (tmp_path / "measured" / "machine.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    html = build(tmp_path)
    assert "Not run yet." not in html
    assert "<h2>A machine" in html
    assert "<h3>Softmax" in html
    assert "1.25" in html
    assert (tmp_path / "out" / "_images" / "machine.svg").exists()
