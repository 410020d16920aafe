"""What is handed out: files and metadata of sdist and wheel, and that building them twice gives the same bytes."""

import ast
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
from readme_renderer import markdown

from tests.packaging import release

ROOT = Path(__file__).parents[2]
VERSION = release.version()
PACKAGES = ("cbcore", "cbcore_jax", "cbcore_tf", "cbcore_torch")
HOME = ("benchmarks", "docs", "experiments", "packaging")  # tests of folders that are not handed out
SHARED = ["CHANGELOG.md", "CITATION.cff", "LICENSE", "README.md", "SECURITY.md", "constraints.txt", "pyproject.toml"]


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    release.build(ROOT, folder)
    return folder


@pytest.fixture(scope="module")
def sdist(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(dist / f"cbcore-{VERSION}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder / f"cbcore-{VERSION}"


@pytest.fixture(scope="module")
def wheel(dist: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(dist / f"cbcore-{VERSION}-py3-none-any.whl") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def sources(*folders: str) -> set[str]:
    """Return the names of the files in these folders, without what Python and tools leave beside them."""
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    left = re.compile(r"__pycache__|\.egg-info|_cache/|\.hypothesis")
    return {name for path in paths if not left.search(name := path.relative_to(ROOT).as_posix())}


def metadata(wheel: dict[str, bytes]) -> Message:
    return Parser().parsestr(wheel[f"cbcore-{VERSION}.dist-info/METADATA"].decode())


def test_the_version_stands_in_one_place(wheel: dict[str, bytes]) -> None:
    assert metadata(wheel)["Version"] == VERSION
    assert "version" in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dynamic"]
    for name in ("CITATION.cff", "docs/conf.py"):
        assert VERSION not in (ROOT / name).read_text(), name


def test_wheel_has_the_packages_and_nothing_else(wheel: dict[str, bytes]) -> None:
    info = f"cbcore-{VERSION}.dist-info/"
    expected = {name.removeprefix("src/") for name in sources(*(f"src/{package}" for package in PACKAGES))}
    assert set(wheel) == expected | {info + name for name in ("METADATA", "RECORD", "WHEEL", "licenses/LICENSE")}
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(wheel)
    assert wheel[info + "licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()


def test_sdist_has_sources_and_tests_and_no_large_data(sdist: Path) -> None:
    found = {path.relative_to(sdist).as_posix() for path in sdist.rglob("*") if path.is_file()}
    at_home = {name for name in sources("tests") if name.split("/")[1] in HOME}
    expected = (sources("src", "tests", "examples") - at_home) | set(SHARED)
    assert found - {"PKG-INFO", ".gitignore"} == expected
    sizes = {name: (sdist / name).stat().st_size for name in found}
    assert max(sizes.values()) < 200_000, sizes
    assert sum(sizes.values()) < 2_000_000


def test_tests_in_the_sdist_import_nothing_that_stayed_at_home(sdist: Path) -> None:
    for path in sdist.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            at_home = rf"(benchmarks|docs|experiments|tests\.({'|'.join(HOME)}))\b"
            assert not [module for module in modules if re.match(at_home, module)], path


def test_tests_run_from_the_sdist(sdist: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/core/test_weights.py"]
    release.run(*command, cwd=sdist, PYTHONPATH=str(sdist / "src"))


def test_metadata_says_what_it_needs(wheel: dict[str, bytes], dist: Path) -> None:
    release.check_metadata(dist)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = metadata(wheel)
    assert found["License-Expression"] == "Apache-2.0"
    assert found["License-File"] == "LICENSE"
    assert found["Requires-Python"] == ">=3.11"
    assert set(found.get_all("Provides-Extra", [])) == set(project["optional-dependencies"])


def test_readme_renders(wheel: dict[str, bytes]) -> None:
    assert metadata(wheel)["Description-Content-Type"] == "text/markdown"
    text = metadata(wheel).get_payload()
    assert text == (ROOT / "README.md").read_text()
    html = markdown.render(text)
    assert html is not None
    assert re.search(r"<h1[^>]*>cbcore", html)
    assert len(re.findall(r"<h2", html)) == len(re.findall(r"^## ", text, re.MULTILINE))
    assert len(re.findall(r"<pre", html)) >= text.count("```python")


def test_two_builds_are_equal(dist: Path, tmp_path: Path) -> None:
    """The second from a copy elsewhere, with other times and without the caches of the first."""
    left = shutil.ignore_patterns(".git", ".venv", "__pycache__", "out", "dist", ".*_cache", ".hypothesis")
    shutil.copytree(ROOT, tmp_path / "copy", ignore=left, copy_function=shutil.copyfile)
    first = {path.name: release.sha256(path.read_bytes()).hexdigest() for path in dist.iterdir()}
    assert release.build(tmp_path / "copy", tmp_path / "dist") == first


class TestChangelog:
    @pytest.fixture
    def copy(self, tmp_path: Path) -> Path:
        """A repository with a fragment of each kind, and a change log that has none of them yet."""
        (tmp_path / "src/cbcore").mkdir(parents=True)
        shutil.copy(ROOT / release.VERSION_FILE, tmp_path / release.VERSION_FILE)
        shutil.copy(ROOT / "pyproject.toml", tmp_path)
        head = (ROOT / "CHANGELOG.md").read_text().partition("\n## ")[0]
        (tmp_path / "CHANGELOG.md").write_text(head.rstrip("\n") + "\n")
        (tmp_path / "changelog.d").mkdir()
        for kind in ("feature", "bugfix", "doc", "removal"):
            (tmp_path / "changelog.d" / f"+one.{kind}.md").write_text(f"A {kind} that users notice.\n")
        return tmp_path

    def towncrier(self, copy: Path) -> None:
        subprocess.run(["git", "init", "--quiet", copy], check=True)
        release.changelog(copy)

    def test_one_command_builds_it(self, copy: Path) -> None:
        with pytest.raises(SystemExit, match=r"changelog.d must be empty, got \+one.bugfix.md"):
            release.check_changelog(copy)
        self.towncrier(copy)
        release.check_changelog(copy)
        text = (copy / "CHANGELOG.md").read_text()
        for kind in ("feature", "bugfix", "doc", "removal"):
            assert f"- A {kind} that users notice.\n" in text
        assert text.startswith("# Changelog\n")

    def test_a_section_of_another_version_is_named(self, copy: Path) -> None:
        self.towncrier(copy)
        path = copy / release.VERSION_FILE
        path.write_text(path.read_text().replace(VERSION, "9.9.9"))
        with pytest.raises(SystemExit, match=f"must be of version 9.9.9, got {VERSION}"):
            release.check_changelog(copy)

    def test_every_fragment_has_a_kind_that_is_shown(self) -> None:
        for path in (ROOT / "changelog.d").glob("*.md"):
            assert path.suffixes[-2] in {".feature", ".bugfix", ".doc", ".removal"}, path.name
            assert path.read_text().strip()
