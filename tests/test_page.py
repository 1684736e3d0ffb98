"""The report's numbers and its interactive page, in a browser and with hostile text."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml

from experiments.records import PROJECT
from scripts.analysis.runs import REFERENCE
from scripts.claims.judging import FAILS, HOLDS, OPEN
from scripts.report import __main__ as report
from scripts.report import charts, numbers
from scripts.tables import all_tables

NO_BROWSER = not (shutil.which("chromium") and shutil.which("chromedriver"))
pytestmark = pytest.mark.xdist_group("page")  # one browser, and tables that are computed once
HOSTILE = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'><a href='javascript:window.hacked = 1'>click</a>"


def claim(name: str, value: float, settings: str = "paper", quantity: str = "lead, mean", paper: float = np.nan) -> dict:
    return {"claim": name, "section": "6.1", "settings": settings, "quantity": quantity, "value": value, "paper": paper}


def test_a_lead_is_shown_as_a_ratio_of_costs_and_the_smallest_of_several_counts(tmp_path, monkeypatch):
    rows = [
        {"text": "two", "claims": ["a", "b"], "format": "{:.2f}x"},
        {"text": "one", "claims": ["c"], "format": "{:.1f}", "paper": "said"},
    ]
    (tmp_path / "main_claims.yaml").write_text(yaml.safe_dump(rows))
    monkeypatch.setattr(numbers, "__file__", str(tmp_path / "numbers.py"))
    measured = [claim("b", np.log(3)), claim("a", np.log(2), paper=0.0), claim("a", np.log(4), "best"), claim("a", np.log(5), "best")]
    measured += [claim("c", 7.0, "", "regret"), claim("c", 6.0, "", "regret")]
    verdicts = pd.DataFrame({"claim": ["a", "b", "c"], "section": "6.1", "verdict": [HOLDS, OPEN, FAILS]})
    two, one = numbers.main_claims(pd.DataFrame(measured), verdicts).to_dict("records")
    assert two == {
        "claim": "two",
        "paper": "1.00x",
        "ours": "2.00x, 3.00x",
        "tuned": "4.00x",
        "verdict": "holds, untested",
        "section": "6.1",
    }
    assert (one["paper"], one["ours"], one["tuned"], one["verdict"]) == ("said", "6.0", "-", "fails")


def test_a_table_escapes_what_would_end_a_cell_and_leaves_gaps_empty():
    frame = pd.DataFrame({"a": ["|x|", "y"], "b": [np.nan, 0.12345], "c": [3.0, 1e-7]})
    assert numbers.markdown_table(frame, {"a": "A", "b": "B"}).splitlines()[2:] == ["| \\|x\\| |  |", "| y | 0.123 |"]


def test_the_oddities_are_those_typed_in():
    page = report.TEMPLATES.get_template("details/oddities.md.jinja").render(oddities=numbers.oddities())
    order, start, tail, time, dropout, losses = (line for line in page.splitlines() if line.startswith("- "))
    assert "0.88 (Adam) and 0.86 (SGDNesterov)" in order
    assert "AdaGrad at 0.77521, RMSProp at 0.77521, Adam at 0.80225" in start
    assert "each of the 18 plotted values is a number with five decimals (within 4e-09)" in tail
    assert "0.00024 instead of 0.000006, and SFO falls below them at x = 20" in tail
    assert "1 for Adam (26 of 26 points) and 5 for SFO (24 of 24 points)" in time
    assert "Adam 2.20 against 2.08, SGDNesterov 2.30 against 2.26" in dropout
    assert "17 of 129 points" in losses


def test_a_point_shows_both_costs_and_their_ratio():
    where = pd.Series(["epoch 1", "epoch 2"], [0, 1])
    assert charts.hover(where, pd.Series({0: 3.0, 1: 400.0}), {0: 2.0}, 5) == [
        ["epoch 1", "3", "2", "1.5", "5"],
        ["epoch 2", "diverged", "-", "-", "5"],
    ]


@pytest.fixture(scope="module")
def tables():
    return all_tables(REFERENCE)


@pytest.mark.slow
class TestTracked:
    """README, pages and the interactive page, of the tracked runs."""

    def test_files_are_up_to_date_and_their_links_lead_somewhere(self, tables):
        built = report.build(tables)
        anchors = {path: {re.sub(r"[^a-z0-9 -]", "", head.lower()).replace(" ", "-") for head in re.findall(r"^#+ (.*)$", text, re.M)}
                   for path, text in built.items()}  # fmt: skip
        for path, text in built.items():
            if path.suffix == ".md":
                assert path.read_text() == text, "run make report"
                for link in re.findall(r"\]\(([^)]+)\)", text):
                    target, _, anchor = link.partition("#")
                    if "://" not in link:
                        target = (path.parent / target).resolve() if target else path
                        assert target.exists(), link
                        assert not anchor or target not in anchors or anchor in anchors[target], link
        assert len((PROJECT / "README.md").read_text().split()) <= 900
        assert "| - | - | - |" not in (PROJECT / "README.md").read_text()

    def test_hostile_text_is_shown_not_run(self, tables, browser):
        hostile = {name: table.copy() for name, table in tables.items()}
        for name in ("claims", "verdicts"):
            for column in {"claim", "reason", "section"} & set(hostile[name]):
                hostile[name].loc[hostile[name].index[-1], column] += HOSTILE
        context = numbers.context(hostile)
        figure = {"id": "fig1", "title": HOSTILE, "views": [HOSTILE], "charts": [charts.panel_chart(charts.panels("fig1")[0])]}
        chart = figure["charts"][0]
        chart["views"] = {HOSTILE: chart["views"]["paper"]}
        chart["views"][HOSTILE]["traces"].append(charts.trace(pd.Series({0: 1.0}), HOSTILE, "red"))
        chart["views"][HOSTILE]["distances"].append(dict.fromkeys(("series", "distance", "seeds", "epochs"), HOSTILE))
        browser.open(report.interactive(context, [figure]))
        assert browser.run("return [...document.querySelectorAll('img, a[href^=javascript]')].length") == 0
        assert browser.run("return window.hacked") is None
        assert browser.run("return document.body.textContent.split('javascript:window.hacked').length") >= 5
        assert browser.errors() == []


class Browser:
    """Headless Chromium; pages lie in a folder where nothing else lies."""

    def __init__(self, driver, wait, folder):
        self.driver, self.run, self.page, self.wait = driver, driver.execute_script, folder / "report.html", wait

    def open(self, text: str) -> None:
        self.page.write_text(text)
        self.driver.get(self.page.as_uri())
        self.wait(self.driver, 60).until(lambda driver: driver.execute_script("return document.readyState") == "complete")

    def errors(self) -> list:
        return self.driver.get_log("browser")

    def requests(self) -> list[str]:
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        urls = [message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"]
        return [url for url in urls if not url.startswith(("data:", "blob:", "chrome:")) and url != self.page.as_uri()]

    def resize(self, width: int, height: int) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.refresh()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if NO_BROWSER:
        pytest.skip("chromium and chromedriver are not installed")
    selenium, support = (pytest.importorskip(f"selenium.webdriver{part}") for part in ("", ".support.wait"))
    options = selenium.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    options.binary_location = shutil.which("chromium")
    driver = selenium.Chrome(options=options, service=selenium.ChromeService(shutil.which("chromedriver")))
    yield Browser(driver, support.WebDriverWait, tmp_path_factory.mktemp("page"))
    driver.quit()


@pytest.fixture(scope="module")
def page(browser, tables):
    browser.open(report.interactive(numbers.context(tables), charts.figures()))
    return browser


@pytest.mark.slow
class TestInABrowser:
    """The interactive page as somebody sees it."""

    def test_all_charts_draw_and_nothing_is_requested(self, page):
        drawn = page.run("return [...document.querySelectorAll('.plot')].map(plot => plot.querySelectorAll('.scatterlayer path').length)")
        assert len(drawn) == 2 + 3 + 4 + 6
        assert min(drawn) > 0
        assert page.errors() == []
        assert page.requests() == []

    def test_hovering_shows_both_costs(self, page):
        text = page.run(
            """
            const plot = document.getElementById("fig1-0"), curve = plot.data.findIndex(trace => trace.name === "Adam" && trace.customdata);
            Plotly.Fx.hover(plot, [{curveNumber: curve, pointNumber: 9}]);
            return plot.querySelector(".hoverlayer").textContent;
            """
        )
        assert re.search(r"Adam.*epoch 10.*ours: 0\.\d+paper: 0\.\d+ratio: \d.*seeds: 5", text)

    def test_a_click_in_the_legend_hides_a_series(self, page):
        hide = """
            const [done] = [arguments[0]], plot = document.getElementById("fig1-0");
            const entry = [...plot.querySelectorAll(".traces")].find(one => one.textContent === "Adam").querySelector(".legendtoggle");
            plot.once("plotly_restyle", () => done(plot.data.map(trace => [trace.name, trace.visible])));
            for (const kind of ["mousedown", "mouseup"]) entry.dispatchEvent(new MouseEvent(kind, {bubbles: true}));
            """
        states = page.driver.execute_async_script(hide)
        assert {visible for name, visible in states if name == "Adam"} == {"legendonly"}
        assert "legendonly" not in {visible for name, visible in states if name != "Adam"}

    def test_scale_and_settings_can_be_chosen(self, page):
        state = (
            "const plot = document.getElementById('fig2-0'); return [plot.layout.yaxis.type, plot.data.filter(t => t.customdata)[0].y[50]]"
        )
        click = "[...document.querySelectorAll('#fig2 button')].find(button => button.textContent === arguments[0]).click()"
        scale, cost = page.run(state)
        page.run(click, "linear or log")
        page.run(click, "best")
        assert scale == "log"
        assert page.run(state)[0] == "linear"
        assert page.run(state)[1] != cost
        assert page.run("return document.querySelector('#fig2 [aria-pressed=true]').textContent") == "best"

    def test_claims_are_filtered_and_sorted(self, page):
        found = page.run(
            """
            const rows = () => [...document.querySelectorAll(".sortable tbody tr")].filter(row => !row.hidden);
            const seen = () => rows().map(row => row.cells[2].textContent);
            const set = (id, value) => {
              const field = document.getElementById(id);
              field.value = value; field.dispatchEvent(new Event("input"));
            };
            const all = seen(); set("kind", "fails"); const fails = seen(); set("words", "AdaMax"); const both = seen();
            set("words", ""); set("kind", "");
            document.querySelectorAll(".sortable th")[2].click(); return [all, fails, both, seen()];
            """
        )
        everything, fails, both, ordered = found
        assert len(everything) > len(fails) > len(both) > 0
        assert set(fails) == {"fails"}
        assert ordered == sorted(everything)

    @pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 900)])
    def test_the_page_fits_and_contents_stay_in_sight(self, page, width, height):
        page.resize(width, height)
        page.run("window.scrollTo(0, 3000)")
        inner, needed, top = page.run(
            "return [innerWidth, document.documentElement.scrollWidth, document.querySelector('nav').getBoundingClientRect().top]"
        )
        assert needed <= inner == width
        assert top == 0
        assert page.run("return [...document.querySelectorAll('nav a')].filter(a => !document.querySelector(a.getAttribute('href')))") == []
