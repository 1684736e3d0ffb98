"""Makes runs of your own the tracked ones: copies their CSV and provenance from results/runs to results/reference."""

import argparse
import shutil
import sys
from pathlib import Path

from curves import REFERENCE, RUNS, chosen, is_plain, provenance

# Those of full scale, which figures and claims are about.
SETTINGS = ("paper", "best", "all_images")


def problem(path: Path) -> str | None:
    """Why the run at `path` cannot be tracked, or None."""
    if not path.with_suffix(".json").exists():
        return "it is not complete"
    if provenance(path)["data"] != "real":
        return "it was trained on stand-in data"
    if provenance(path).get("uncommitted_changes"):
        return "the code had uncommitted changes: commit them and run again, so that others can"
    if path.resolve().parent.name not in SETTINGS:
        return f"its settings are none of {', '.join(SETTINGS)}"
    if not is_plain(path):
        return "it overrides the experiment's configuration: put the values into conf/experiment first"
    return None


def runs_below(folder: Path) -> list[Path]:
    """Those of the runs that figures are drawn from which can be tracked."""
    folders = sorted({path.parent for path in folder.rglob("*.csv")})
    return [path for settings in folders for path in chosen(settings) if problem(path) is None]


def main() -> None:
    """Copies the given runs, or none of them if one cannot be tracked; from folders, those runs that can be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", nargs="+", type=Path, help="CSV files, or folders such as results/runs/fig1_left/paper")
    parser.add_argument("--root", type=Path, default=RUNS, help="the folder of runs that the paths lie in")
    arguments = parser.parse_args()
    files = [file for path in arguments.paths for file in (runs_below(path) if path.is_dir() else [path])]
    root = arguments.root.resolve()
    problems = [f"{file}: {why}" for file in files if (why := problem(file))]
    problems += [
        f"{file}: it does not lie in {root}; --root names another folder" for file in files if not file.resolve().is_relative_to(root)
    ]
    if problems or not files:
        sys.exit("\n".join(["error: nothing was promoted", *problems] if problems else ["error: there are no complete runs there"]))
    for file in files:
        target = REFERENCE / file.resolve().relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        for suffix in (".csv", ".json"):
            shutil.copyfile(file.with_suffix(suffix), target.with_suffix(suffix))
        print(f"tracked {target}")


if __name__ == "__main__":
    main()
