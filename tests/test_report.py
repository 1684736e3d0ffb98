"""The report: its numbers and tables on made-up results, oddities against typed-in numbers, and the page in a browser."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest

from made_up import write_run
from scripts.analysis.published import RESULTS, published
from scripts.analysis.runs import REFERENCE
from scripts.claims.figure4 import OURS, PAPER
from scripts.report import __main__ as report
from scripts.report import oddities
from scripts.tables import all_tables

NO_BROWSER = not (shutil.which("chromium") and shutil.which("chromedriver"))
README = (RESULTS.parent / "README.md").read_text()
REPORT = (RESULTS / "report.md").read_text()


def test_the_text_on_figure_4_counts_what_diverged_and_what_stands_still():
    points = pd.DataFrame(
        {
            "ours": [100.0, np.nan, 206.0, 195.0, 105.0, np.nan],
            "published": [400.0, 400.0, 400.0, 400.0, 107.0, 108.0],
            "difference": [0.5, np.nan, np.nan, np.nan, -2.0, np.nan],
            "published_diverged": [True, True, True, True, False, False],
            "ours_diverged": [False, True, False, False, False, True],
            "ours_peak": [200.0, np.inf, 2e10, 3e11, 5e10, np.inf],
        }
    )
    best = "never worse, each at its best alpha"
    judged = pd.DataFrame(
        {
            "epochs": 10,
            "whose": [OURS, "ours, AdaMax", "ours, AdaMax", PAPER],
            "claim": [best, best, best, "another"],
            "corrected": [101.0, 108.0, 105.2, 9.0],
            "uncorrected": [100.0, 105.0, 105.0, 1.0],
        }
    )
    numbers = report.sweep_in_numbers(points, judged)
    assert numbers["farthest"]["ours"] == 105
    assert [numbers[name] for name in ("lost", "lost_too", "left")] == [4, 1, "100, 195, 206"]
    assert [numbers[name] for name in ("lost_and_back", "back", "lost_alone")] == [2, 1, 1]
    assert numbers["explosion"] == pytest.approx(3 / 6)  # not the first, nor the last two
    assert numbers["by_bound"] == pytest.approx({1e3: 3 / 6, 1e9: 3 / 6, 1e11: 3 / 6, 1e12: 2 / 6})
    assert numbers["adamax_gains"]["gain"].tolist() == [3.0]  # 0.2 nats are none
    assert [len(numbers["at_best"][whose]) for whose in (OURS, PAPER)] == [1, 0]


def test_the_oddities_are_those_typed_in():
    order, start, tail, time, dropout, losses = oddities.all_oddities()
    assert "0.88 (Adam) and 0.86 (SGDNesterov)" in order
    assert "AdaGrad is at 0.77521, RMSProp at 0.77521, Adam at 0.80225" in start
    assert "each of the 18 plotted values" in tail
    assert "0.00024 instead of 0.000006, and SFO passes below Adam at x = 20" in tail
    assert "1 for Adam (26 of 26 points) and 5 for SFO (24 of 24 points)" in time
    assert "Adam 2.20 against 2.08, SGDNesterov 2.30 against 2.26" in dropout
    assert "17 of 129 vertices" in losses


def test_a_table_escapes_what_would_end_a_cell_and_leaves_gaps_empty():
    frame = pd.DataFrame({"a": ["|x|", "y"], "b": [np.nan, 0.12345], "c": [3.0, 1e-7]})
    assert report.table(frame, {"a": "A", "b": "B", "c": "C"}).splitlines()[2:] == ["| \\|x\\| |  | 3 |", "| y | 0.123 | 1e-07 |"]


def test_readme_and_report_have_the_numbers_and_verdicts_of_the_tracked_tables():
    agreement, verdicts = (pd.read_csv(RESULTS / f"{name}.csv", dtype={"section": str}) for name in ("agreement", "verdicts"))
    assert report.table(report.by_panel(agreement), report.PANEL_COLUMNS) in README
    for text in (README, REPORT):
        assert report.counted(verdicts) in " ".join(text.split())
    for line in verdicts.itertuples():
        assert f"| {line.section} | {report.cell(line.claim)} | {line.verdict} | " in REPORT, "run make report"


@pytest.mark.slow
def test_tracked_tables_and_report_are_those_of_the_tracked_runs():
    computed = all_tables(REFERENCE)
    for name, table in computed.items():
        tracked = pd.read_csv(RESULTS / f"{name}.csv", dtype={"section": "string"})
        assert list(table) == list(tracked), name
        for column in tracked:
            ours, theirs = table[column].reset_index(drop=True), tracked[column]
            if pd.api.types.is_numeric_dtype(theirs):  # as many digits as are written
                np.testing.assert_allclose(ours.astype(float), theirs, rtol=2e-3, atol=6e-5, err_msg=f"{name} {column}: run make figures")
            else:
                assert ours.fillna("").astype(str).tolist() == theirs.fillna("").astype(str).tolist(), f"{name} {column}: run make figures"
    numbers = [re.findall(r"\d+(?:\.\d+)?(?:e[+-]\d+)?", text) for text in (report.render(computed), REPORT)]
    assert len(numbers[0]) > 1000
    assert numbers[0] == numbers[1], "run make report"  # its words may be edited


def test_links_of_the_report_lead_to_files_and_headings_that_there_are():
    links = re.findall(r"\]\(([^)]+)\)", REPORT)
    assert len(links) > 20
    headings = re.findall(r"^#+ (.*)$", REPORT, re.M)
    anchors = {"#" + re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for link in links:
        if link.startswith("#"):
            assert link in anchors
        else:
            assert (RESULTS / link).exists(), link


def test_numbers_of_the_text_come_from_the_tables(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "REFERENCE", tmp_path)
    for optimizer, paper in published("fig2a").groupby("optimizer"):
        paper = paper[paper["kind"] == "plotted"].set_index("x")["y"]
        # A curve of ours without gaps, e^0.1 above the paper's.
        costs = paper.reindex(range(int(paper.index.max()) + 1)).interpolate(limit_direction="both") * np.exp(0.1)
        write_run(tmp_path, optimizer, list(costs), experiment="fig2a", seeds=(0,))
    gaps = report.late_gaps(tmp_path)
    assert gaps == pytest.approx(dict.fromkeys(["AdaDelta", "AdaGrad", "Adam", "RMSProp", "SGDNesterov"], 0.1))
    assert report.ours("fig2a", "Adam", 3) == pytest.approx(0.1461 * np.exp(0.1), rel=1e-3)
    assert report.theirs("fig2a", "Adam", 3) == pytest.approx(0.1461, rel=1e-3)
    assert report.apart("fig2a", "Adam", 12, 13) == "11%"  # e^0.1 - 1
    assert report.dropouts_share(tmp_path) == "1 to 1 after 10 passes and of 1 to 1 after 202 passes"  # where the curves end
    for experiment in ("fig3", "fig3_dropout"):
        moments = {"vhat_stage1": 1e-3, "vhat_hidden": 1e-13, "below_eps_stage1": 0.0, "below_eps_hidden": 0.4}
        write_run(tmp_path, "Adam", [2.0, 1.0], experiment=experiment, columns=moments)
    table = report.moments_by_layer(tmp_path)
    assert table[["pass", "layer", "vhat", "below_eps"]].to_numpy().tolist() == 2 * [[2, "stage1", 1e-3, 0.0], [2, "hidden", 1e-13, 0.4]]
    table = pd.DataFrame({"panel": ["a", "b"], "optimizer": "Adam", "rms_log_ratio": [0.1, 0.2]})
    assert report.distance(table, "b", "Adam") == 0.2


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Headless Chromium with the report open, from a folder where nothing else lies."""
    selenium, support = (pytest.importorskip(f"selenium.webdriver{part}") for part in ("", ".support.wait"))
    page = tmp_path_factory.mktemp("report") / "report.html"
    page.write_text(report.to_html(REPORT, RESULTS))
    options = selenium.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.binary_location = shutil.which("chromium")
    driver = selenium.Chrome(options=options, service=selenium.ChromeService(shutil.which("chromedriver")))
    driver.get(page.as_uri())
    # Chromium's first page can be handed over before the last of its 4 MB are read.
    support.WebDriverWait(driver, 60).until(lambda driver: driver.execute_script("return document.readyState") == "complete")
    yield driver
    driver.quit()


@pytest.mark.slow
@pytest.mark.skipif(NO_BROWSER, reason="chromium and chromedriver are not installed")
class TestInABrowser:
    """The page as somebody sees it."""

    def test_every_figure_loads_and_nothing_comes_from_elsewhere(self, browser):
        widths = browser.execute_script("return [...document.images].map(image => image.naturalWidth)")
        assert len(widths) == len(set(re.findall(r"\((figures/.*?)\)", REPORT)))
        assert min(widths) > 500
        assert (
            browser.execute_script("return performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:')).length") == 0
        )
        assert browser.get_log("browser") == []

    def test_links_inside_resolve(self, browser):
        inside = browser.execute_script("return [...document.links].map(a => a.getAttribute('href')).filter(h => h.startsWith('#'))")
        assert len(inside) > 10
        assert browser.execute_script("return arguments[0].filter(h => !document.getElementById(h.slice(1)))", inside) == []

    def test_tables_sort_by_a_click_numbers_as_numbers(self, browser):
        found = browser.execute_script(
            """
            const table = [...document.querySelectorAll("table")].find(t => t.tHead.textContent.includes("distance"));
            const head = [...table.tHead.rows[0].cells].find(cell => cell.textContent === "distance");
            const values = () => [...table.tBodies[0].rows].map(row => row.cells[head.cellIndex].textContent);
            head.click(); const up = values(); head.click(); return [up, values()];
            """
        )
        for values, reverse in zip(found, (False, True), strict=True):
            numbers = [float(value) for value in values]
            assert len(numbers) == 7
            assert numbers == sorted(numbers, reverse=reverse)

    @pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 900)])
    def test_the_page_fits_a_phone_and_a_desk(self, browser, width, height):
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride", {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        )
        inner, needed = browser.execute_script("return [innerWidth, document.documentElement.scrollWidth]")
        assert needed <= inner == width
