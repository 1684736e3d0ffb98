"""Builds the report from the tracked results: `python -m scripts.report`.

Writes results/report.md, the pages in results/details, the interactive page results/report.html, and the computed blocks of README.md.
"""

import argparse
import re
from pathlib import Path

import jinja2
import pandas as pd
from plotly.offline import get_plotlyjs

from data.files import atomic_write
from experiments.errors import one_sentence_errors
from experiments.records import PROJECT, display_path
from scripts.analysis.published import RESULTS
from scripts.analysis.runs import REFERENCE
from scripts.report import charts, numbers
from scripts.tables import all_tables

BLOCK = re.compile(r"(<!-- computed: (\w+) -->\n).*?(<!-- end -->)", re.S)
# Escapes text in HTML, not in Markdown.
TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"), undefined=jinja2.StrictUndefined, trim_blocks=True,
    lstrip_blocks=True, autoescape=jinja2.select_autoescape(["html.jinja"]),
)  # fmt: skip
TEMPLATES.policies["json.dumps_kwargs"] = {"sort_keys": False}
TEMPLATES.filters |= {"table": numbers.markdown_table, "digits": "{:.2g}".format, "percent": lambda share: f"{100 * share:.0f} %"}


def pages(context: dict) -> dict[str, str]:
    """Returns the Markdown pages of the report, by path relative to results; `context` is from `numbers.context`."""
    names = [name for name in TEMPLATES.list_templates() if name.endswith(".md.jinja") and name != "blocks.md.jinja"]
    return {name.removesuffix(".jinja"): TEMPLATES.get_template(name).render(context, up="../" * name.count("/")) + "\n" for name in names}


def with_blocks(text: str, context: dict) -> str:
    """Returns the text with its blocks `<!-- computed: NAME -->` filled by the macros NAME of blocks.md.jinja."""

    def fill(match: re.Match) -> str:
        source = f"{{% import 'blocks.md.jinja' as blocks with context %}}{{{{ blocks.{match[2]}() }}}}"
        return match[1] + TEMPLATES.from_string(source).render(context, up="results/").strip() + "\n" + match[3]

    return BLOCK.sub(fill, text)


def interactive(context: dict, figures: list[dict]) -> str:
    """Returns the interactive page as one self-contained HTML file, from `numbers.context` and `charts.figures`."""
    return TEMPLATES.get_template("report.html.jinja").render(context, figures=figures, plotly=get_plotlyjs(), up="")


def build(tables: dict[str, pd.DataFrame]) -> dict[Path, str]:
    """Returns the text of every file of the report, by path, from the tables of the tracked runs."""
    context, readme = numbers.context(tables), PROJECT / "README.md"
    page = interactive(context, charts.figures())
    texts = {RESULTS / name: text for name, text in pages(context).items()}
    return texts | {RESULTS / "report.html": page, readme: with_blocks(readme.read_text(), context)}


def main() -> None:
    """Writes all files of the report."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    with one_sentence_errors():
        for path, text in build(all_tables(REFERENCE)).items():
            with atomic_write(path) as part:
                part.write_text(text)
            print(f"wrote {display_path(path)}")


if __name__ == "__main__":
    main()
