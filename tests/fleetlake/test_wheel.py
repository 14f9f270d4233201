"""The wheel: built, installed into an empty environment, and used from an empty folder without the checkout.

The dependencies come from the environment that runs the tests, by a `.pth` file; that file does not lead to the
checkout, because Python reads `.pth` files (an editable installation is one) only in an environment's own folder.
`make release-check` installs the dependencies too, from the lock file, and runs the demo.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import fleetlake

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES: list[str] = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]

IMPORT_EVERYTHING = """
import importlib, pkgutil, sys
from importlib.metadata import entry_points, version
from pathlib import Path

checkout, packages = sys.argv[1], sys.argv[2:]
home = Path(sys.prefix)
for name in packages:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
ours = [m for n, m in sys.modules.items() if n.partition(".")[0] in packages]
strangers = [m.__file__ for m in ours if not Path(m.__file__).is_relative_to(home)]
assert not strangers, strangers
assert checkout not in sys.path
[transport] = entry_points(group="faust.transports", name="kafka-batch")
assert transport.load()

from fleetlake.local.broker.jars import missing_jars, read_lock
from schemas.contract import FOLDER
from ui.files import StaticFiles
from ui.questions import FILE

assert read_lock() and FILE.stat().st_size and (FOLDER / "asyncapi.yaml").stat().st_size
assert {"index.html", "js/main.js", "vendor/leaflet.js"} <= StaticFiles()._files.keys()
print(len(ours), version("fleetlake"))
"""


@dataclass(frozen=True)
class Installed:
    wheel: Path
    bin: Path
    folder: Path

    def run(self, *command: str) -> str:
        """What a command prints, run in the empty folder with a bare environment."""
        environment = {"HOME": str(self.folder), "PATH": os.defpath, "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            [str(self.bin / command[0]), *command[1:]],
            cwd=self.folder, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    home = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", home / "dist"],
                   cwd=ROOT, check=True, capture_output=True)  # fmt: skip
    [wheel] = (home / "dist").glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home / "env"], check=True)
    python = home / "env" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, wheel], check=True, capture_output=True)
    [site] = (home / "env" / "lib").glob("python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (home / "empty").mkdir()
    return Installed(wheel, python.parent, home / "empty")


def test_the_command_and_every_module_work_without_the_checkout(installed: Installed) -> None:
    assert installed.run("fleetlake", "--version") == f"fleetlake {fleetlake.__version__}\n"
    assert "[kafka]" in installed.run("fleetlake", "config", "--example")
    count, version = installed.run("python", "-I", "-c", IMPORT_EVERYTHING, str(ROOT), *PACKAGES).split()
    assert int(count) > 200 and version == fleetlake.__version__
    assert not list(installed.folder.iterdir()), "a command that only prints made a file"


def test_the_wheel_holds_every_file_of_the_packages_and_no_other(installed: Installed) -> None:
    names = set(zipfile.ZipFile(installed.wheel).namelist())
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", *PACKAGES],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    info = f"fleetlake-{fleetlake.__version__}.dist-info/"
    assert {name for name in names if not name.startswith(info)} == set(tracked)
    licences = {name.removeprefix(info + "licenses/") for name in names if "/licenses/" in name}
    vendored = {path.relative_to(ROOT).as_posix() for path in (ROOT / "ui/static/vendor").glob("LICENSE-*.txt")}
    assert licences == {"LICENSE", *vendored}
    metadata = zipfile.ZipFile(installed.wheel).read(info + "METADATA").decode()
    assert "\nLicense-Expression: Apache-2.0\n" in metadata


def _imported(path: Path) -> set[str]:
    """The top-level modules that a file imports anywhere."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def test_whatever_is_imported_is_a_declared_dependency() -> None:
    """A package that is there only because another one needs it may go with the other's next version."""
    project = PROJECT["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    declared = {re.split(r"[^\w.-]", each)[0].lower() for one in lists for each in one}
    imported = set().union(*(_imported(path) for package in PACKAGES for path in (ROOT / package).rglob("*.py")))
    distributions = packages_distributions()
    foreign = {
        name: {each.lower().replace("_", "-") for each in distributions.get(name, ())}
        for name in imported - sys.stdlib_module_names
    }
    assert len(foreign) > 20
    assert not {name: owners for name, owners in foreign.items() if name not in PACKAGES and not owners & declared}


def test_the_image_and_the_documents_name_every_package() -> None:
    copied = re.findall(r"^COPY (\w+) \1$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(copied) == sorted(PACKAGES)
    section = (ROOT / "docs/install.md").read_text(encoding="utf-8").split("## Names that could collide")[1]
    listed = section.split("\n\n")[2]
    assert re.findall(r"`(\w+)`", listed) == sorted(PACKAGES)


def test_the_image_has_the_version_of_the_package() -> None:
    assert f"image: fleetlake:{fleetlake.__version__}\n" in (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
