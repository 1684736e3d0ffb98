"""What `pip install .` brings: the optimizers alone, under a name of their own."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]

CLIENT = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
import adam_paper
for make in (adam_paper.Adam, adam_paper.AdaMax):
    theta = torch.ones(3, requires_grad=True)
    theta.grad = torch.ones(3)
    make([theta], lr=0.25).step()
    torch.testing.assert_close(theta.detach(), torch.full((3,), 0.75))
assert not {"optim", "data", "experiments", "pandas"} & sys.modules.keys()
print(adam_paper.__file__)
"""


@pytest.mark.slow
def test_a_wheel_holds_the_optimizers_alone(tmp_path):
    pytest.importorskip("setuptools", minversion="77")
    source = tmp_path / "clone"  # builds leave files behind
    shutil.copytree(PROJECT, source, ignore=shutil.ignore_patterns(".*", "__pycache__", "build", "downloads", "results", "*.egg-info"))
    build = ["pip", "wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(source)]
    subprocess.run([sys.executable, "-m", *build], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (archive.read(name).decode() for name in names if name.endswith("/METADATA"))
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"adam_paper"}
    assert {f"adam_paper/{path.name}" for path in (PROJECT / "optim").glob("*.py")} | {"adam_paper/py.typed"} <= names
    required = [line for line in metadata.splitlines() if line.startswith("Requires-Dist: ") and "extra ==" not in line]
    assert required == ["Requires-Dist: torch>=2.11"]
    client = subprocess.run([sys.executable, "-I", "-c", CLIENT, wheel], check=True, capture_output=True, text=True, cwd=tmp_path)
    assert client.stdout.startswith(str(wheel))
