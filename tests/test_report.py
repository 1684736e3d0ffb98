"""The report: claims and unknowns judged on made-up results, oddities against typed-in numbers, and the page in a browser."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest

import agreement
import claims
import curves
import figure2
import figure3
import figure4
import oddities
import properties
import report
import unknowns
import verify
from curves import RESULTS
from made_up import write_run

NO_BROWSER = not (shutil.which("chromium") and shutil.which("chromedriver"))


def test_a_lead_is_judged_by_every_seed(tmp_path):
    both = claims.Comparison("6.1", "Adam is ahead", "fig1_left", ("Adam",), ("SGDNesterov",))
    write_run(tmp_path, "SGDNesterov", [0.8, 0.4])
    for costs, verdict in (([0.5, 0.2], claims.HOLDS), ([0.8, 0.41], claims.FAILS)):
        write_run(tmp_path, "Adam", costs)
        (line,) = claims.compare(both, tmp_path)
        assert line["value"] == pytest.approx(np.mean(np.log([0.8 / costs[0], 0.4 / costs[1]])))
        assert (line["verdict"], line["seeds"], line["settings"]) == (verdict, 2, "paper")
    assert line["paper"] == pytest.approx(0.035, abs=0.001)  # of the published curves
    assert line["criterion"] == "> 0.05"
    found = [
        properties.line("as far", "6.1", "lead", pd.Series(leads), "> -0.05") for leads in ([0.9, -0.04], [0.06, -0.06], [-0.06, -0.1])
    ]
    assert [line["verdict"] for line in found] == [properties.HOLDS, properties.SEEDS, properties.FAILS]
    nan = properties.line("not run", "6.1", "lead", pd.Series([np.nan]), "0.98 to 1.02")
    assert nan["verdict"] == properties.FAILS  # what is no number meets no criterion
    assert properties.meets(pd.Series([0.97, 0.98, 1.02, 1.03]), "0.98 to 1.02").tolist() == [False, True, True, False]
    assert claims.compare(claims.Comparison("6.2", "Adam and SFO", "fig1_left", ("Adam",), ("SFO",)), tmp_path) == []


def test_there_is_one_verdict_for_each_claim_with_what_was_measured():
    def measured(claim, verdict, settings="", value=2.0, quantity="lead"):
        return {"section": "6.1", "claim": claim, "verdict": verdict, "settings": settings, "value": value, "lowest": value,
                "highest": value, "quantity": quantity, "criterion": "> 1"}  # fmt: skip

    holds, fails, seeds, waits = properties.HOLDS, properties.FAILS, properties.SEEDS, claims.OPEN
    table = pd.DataFrame(
        [
            *(measured("a", holds, settings) for settings in ("paper", "best")),
            measured("b", holds, "paper"),
            measured("b", fails, "best", 0.5),
            measured("c", seeds, "paper"),
            measured("c", holds, "best"),
            measured("d", fails, "paper", 0.5, "lead, pass 10"),
            measured("d", waits, "best", 0.25, "lead, pass 4"),
            measured("e", fails, value=0.5),
            measured("Ours: f", holds),
        ]
    )
    found = claims.verdicts(table).set_index("claim")
    assert found["verdict"].tolist() == [holds, claims.STEP_SIZES, seeds, waits, fails, holds]
    assert found.loc["b", "reason"] == "lead: 2 (paper), 0.5 (best); criterion: > 1"
    assert found.loc["d", "reason"] == "lead, pass 10: 0.5 (paper); criterion: > 1; lead, pass 4: 0.25 (best); criterion: > 1"
    assert report.counted(found.reset_index()) == (
        "Of 5 claims, 1 hold under every setting, 1 fail, 1 depend on the step sizes, 1 depends on the seed, and 1 were not run far enough."
    )


def test_who_diverges_is_behind_and_runs_are_compared_over_the_passes_of_the_shortest(tmp_path):
    ahead = claims.Comparison("6.1", "Adam is ahead", "fig1_left", ("Adam",), ("SGDNesterov",))
    write_run(tmp_path, "Adam", [0.5, 0.4, 9.0], seeds=(0,))
    write_run(tmp_path, "SGDNesterov", [1.0, np.nan], seeds=(0,))
    (line,) = claims.compare(ahead, tmp_path)
    assert (line["value"], line["verdict"]) == (np.inf, claims.HOLDS)
    write_run(tmp_path, "Adam", [0.5, np.inf], seeds=(0,))
    (line,) = claims.compare(ahead, tmp_path)  # both diverged
    assert (line["value"], line["verdict"]) == (-np.inf, claims.FAILS)
    write_run(tmp_path, "SGDNesterov", [1.0], seeds=(0,))
    (line,) = claims.compare(ahead, tmp_path)
    assert line["value"] == pytest.approx(np.log(2))
    end = claims.Comparison("6.1", "Adam ends ahead", "fig1_left", ("Adam",), ("SGDNesterov",), at_end=True)
    assert end.lead(pd.DataFrame({"Adam": [1.0, 2.0], "SGDNesterov": [9.0, 3.0]})) == pytest.approx(np.log(1.5))


def test_what_ends_after_our_passes_is_not_judged(tmp_path):
    rows = [
        {
            "experiment": "fig3",
            "source": source,
            "settings": settings,
            "seeds": 1,
            "passes": passes,
            "claim": claim,
            "at_end": late,
            "log_ratio": 0.5,
            "criterion": "> 0.6931",
        }
        for source, settings, passes in (("ours", "paper", 4), ("ours", "best", 49), ("paper", None, 4), ("paper", None, 49))
        for claim, late in (("Adam is ahead at x = 1", False), ("Adam ends ahead", True))
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "fig3_claims.csv", index=False)
    found = {(line["claim"], line["settings"]): line["verdict"] for line in claims.figure_3(tmp_path)}
    assert found == {
        ("Adam is ahead at x = 1 (fig3)", "paper"): claims.FAILS,
        ("Adam ends ahead (fig3)", "paper"): claims.OPEN,
        ("Adam is ahead at x = 1 (fig3)", "best"): claims.FAILS,
        ("Adam ends ahead (fig3)", "best"): claims.FAILS,
    }


def test_claims_of_figure_4_are_judged_in_the_same_cells_and_not_after_passes_that_were_not_run(tmp_path):
    def cells(whose: str, epochs: int, claim: str, holds) -> list[dict]:
        shared = {"whose": whose, "claim": claim, "epochs": epochs, "seeds": 1, "beta1": 0.9, "beta2": 0.99}
        return [{**shared, "alpha": alpha, "holds": bool(yes)} for alpha, yes in enumerate(holds)]

    rows = [*cells(claims.OURS_4, 10, "always", [1, 1]), *cells(claims.PAPER_4, 10, "always", [1, 0, 0])]
    rows += [*cells(claims.OURS_4, 10, "often", [1, 0, 0]), *cells(claims.PAPER_4, 10, "often", [1, 1])]
    rows += cells(claims.PAPER_4, 100, "always", [1, 0])
    pd.DataFrame(rows).to_csv(tmp_path / "fig4_claims.csv", index=False)
    lines = {line["quantity"] + line["claim"]: line for line in claims.figure_4(tmp_path)}
    always, often, later = (lines[f"share of 2 cells of the sweep, after {epochs} passesBias correction: {claim}"]
                            for epochs, claim in ((10, "always"), (10, "often"), (100, "always")))  # fmt: skip
    assert (always["verdict"], always["value"], always["paper"]) == (claims.HOLDS, 1, 0.5)
    assert (often["verdict"], often["value"], often["paper"]) == (claims.FAILS, 0.5, 1)
    assert (later["verdict"], later["paper"]) == (claims.OPEN, 0.5)


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
            "whose": [claims.OURS_4, "ours, AdaMax", "ours, AdaMax", claims.PAPER_4],
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
    assert [len(numbers["at_best"][whose]) for whose in (claims.OURS_4, claims.PAPER_4)] == [1, 0]


def test_an_unknown_is_known_by_its_closest_values_all_else_being_equal():
    members = [  # of the start, two keys that were varied together, the step sizes 1 and 2 are shared; with momentum 0.9 all is closer
        ("1", "0", "a", "x", 0.3), ("2", "0", "a", "x", 0.2), ("3", "0", "a", "x", 0.01), ("1", "0", "b", "y", 0.5),
        ("2", "0", "b", "y", 0.4), ("1", "0.9", "a", "x", 0.1), ("2", "0.9", "a", "x", 0.15),
    ]  # fmt: skip
    given = pd.DataFrame([row[:4] for row in members], columns=["lr", "momentum", "start", "std"]).assign(only="one")
    distances = pd.Series([row[4] for row in members])
    used = {"lr": "1", "momentum": "0", "start": "a", "std": "x", "only": "one"}
    lr, momentum, start = unknowns.profile(given, distances, used)
    assert lr["candidates"] == "3: 0.01; 2: 0.2; 1: 0.3"  # with the momentum that is used
    assert momentum["candidates"] == "0.9: 0.1; 0: 0.2"  # 3 was tried with one of them alone
    assert (start["setting"], start["candidates"], start["used"]) == ("start, std", "a, x: 0.2; b, y: 0.4", "a, x")
    lr, *_ = unknowns.profile(given, distances, used | {"momentum": "0.99", "only": "another"})
    assert (lr["with"], lr["candidates"]) == ("momentum=0 only=one", "3: 0.01; 2: 0.2; 1: 0.3")  # where most were tried
    row = pd.Series({"candidate": "schedule=constant model.l2=1e-4", "hyperparameters": "lr=0.1 rho=0.9"})
    assert unknowns.settings_of(row) == {"schedule": "constant", "l2": "1e-4", "lr": "0.1", "rho": "0.9"}
    assert unknowns.normal({"schedule": "exponential_pass", "decay": "0.90", "l2": "1e-4"}) == {
        "schedule": "exponential_pass 0.9",
        "l2": "0.0001",
    }
    assert unknowns.normal({"schedule": "constant", "decay": "0.9"}) == {"schedule": "constant"}


def test_readings_of_the_cost_are_compared_where_they_were_taken(tmp_path):
    shared = {
        "panel": "fig1_left",
        "experiment": "fig1_left",
        "passes": 46,
        "rms_evaluated": 0.2,
        "rms_with_penalty": 0.2,
        "rms_after_the_pass": 0.1,
    }
    lines = [{**shared, "optimizer": name, "evaluated_points": points} for name, points in (("Adam", 46), ("AdaGrad", 1))]
    pd.DataFrame(lines).to_csv(tmp_path / "agreement.csv", index=False)
    (line,) = unknowns.of_readings(tmp_path / "agreement.csv")
    assert (line["optimizer"], line["closest"], line["next"]) == ("Adam", "after the pass, noise off", "during the pass")


def test_the_oddities_are_those_typed_in():
    order, start, tail, time, dropout, losses = oddities.all_oddities()
    assert "0.88 (Adam) and 0.86 (SGDNesterov)" in order
    assert "AdaGrad is at 0.77521, RMSProp at 0.77521, Adam at 0.80225" in start
    assert "each of the 18 plotted values" in tail
    assert "0.00024 instead of 0.000006, and SFO passes below Adam at x = 20" in tail
    assert "1 for Adam (26 of 26 points) and 5 for SFO (24 of 24 points)" in time
    assert "Adam 2.20 against 2.08, SGDNesterov 2.30 against 2.26" in dropout
    assert "17 of 129 vertices" in losses


def test_verification_compares_costs_of_the_same_seed_and_pass():
    tracked = pd.DataFrame({"seed": [0, 0, 1], "pass": [1, 2, 1], "cost": [1.0, 2.0, np.inf], "hyperparameters": ["lr=1", "lr=1", "lr=2"]})
    part = verify.Part("fig1_left", "adam", 2, 1e-3)
    assert verify.compare(tracked[["seed", "pass", "cost"]], tracked, part) == (3, 0.0)
    computed = pd.DataFrame({"seed": [0, 0], "pass": [1, 2], "cost": [1.01, 2.0], "hyperparameters": ""})
    assert verify.compare(computed, tracked, part) == (2, pytest.approx(0.01))
    assert verify.compare(computed.assign(cost=[np.nan, 2.0]), tracked, part) == (2, np.inf)
    assert verify.compare(computed, tracked, verify.Part("fig4", "adam", 2, 1e-3, member="lr=2")) == (0, 0.0)


@pytest.mark.parametrize("part", verify.PARTS, ids=lambda part: f"{part.experiment}-{part.optimizer}-{part.member}")
def test_what_is_verified_is_tracked(part):
    tracked = verify.read_run(verify.tracked_run(part))
    costs, _ = verify.compare(tracked[tracked["pass"] <= part.passes].assign(hyperparameters=""), tracked, part)
    assert costs > 0


def test_a_table_escapes_what_would_end_a_cell_and_leaves_gaps_empty():
    frame = pd.DataFrame({"a": ["|x|", "y"], "b": [np.nan, 0.12345], "c": [3.0, 1e-7]})
    assert report.table(frame, {"a": "A", "b": "B", "c": "C"}).splitlines()[2:] == ["| \\|x\\| |  | 3 |", "| y | 0.123 | 1e-07 |"]


def test_the_tracked_report_is_that_of_the_tracked_tables():
    assert (RESULTS / "report.md").read_text() == report.render(RESULTS), "run make report"


def test_the_readme_has_the_table_and_the_verdicts_of_the_report():
    readme = (RESULTS.parent / "README.md").read_text()
    assert report.table(report.by_panel(pd.read_csv(RESULTS / "agreement.csv")), report.PANEL_COLUMNS) in readme
    assert report.counted(pd.read_csv(RESULTS / "verdicts.csv")) in " ".join(readme.split())


@pytest.mark.slow
def test_the_tracked_tables_are_those_of_the_tracked_runs():
    panels = ((panel, *found) for panel in curves.PANELS for found in agreement.in_panel(curves.REFERENCE, panel))
    lines = [line for panel, experiment, table in panels for line in agreement.agreement(table, experiment, panel)]
    sweep = figure4.sweeps(curves.REFERENCE, "paper")
    computed = {
        "agreement": pd.DataFrame(lines),
        "ranks": agreement.ranks(curves.REFERENCE),
        "passes_to_cost": agreement.passes_to_cost(curves.REFERENCE),
        "final_costs": agreement.final_costs(curves.REFERENCE),
        "claims": claims.ledger(RESULTS, curves.REFERENCE),
        "unknowns": unknowns.ledger(),
        "fig2b_race": figure2.all_races(curves.REFERENCE),
        "fig3_claims": figure3.judge(curves.REFERENCE),
        "fig4_points": figure4.points(figure4.measured(sweep), figure4.published()),
        "fig4_claims": figure4.all_claims(figure4.measured(sweep), figure4.published()),
    }
    computed["verdicts"] = claims.verdicts(computed["claims"])
    for name, table in computed.items():
        tracked = pd.read_csv(RESULTS / f"{name}.csv", dtype={"section": "string"})
        assert list(table) == list(tracked), name
        for column in tracked:
            ours, theirs = table[column].reset_index(drop=True), tracked[column]
            if pd.api.types.is_numeric_dtype(theirs):  # as many digits as are written
                np.testing.assert_allclose(ours.astype(float), theirs, rtol=2e-3, atol=6e-5, err_msg=f"{name} {column}: run make figures")
            else:
                assert ours.fillna("").astype(str).tolist() == theirs.fillna("").astype(str).tolist(), f"{name} {column}: run make figures"


def test_links_of_the_report_lead_to_files_and_headings_that_there_are():
    text = (RESULTS / "report.md").read_text()
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert len(links) > 20
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    anchors = {"#" + re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for link in links:
        if link.startswith("#"):
            assert link in anchors
        else:
            assert (RESULTS / link).exists(), link


@pytest.mark.parametrize(("passes", "ratio", "verdict"), [(4, 2, claims.OPEN), (4, 0.5, "holds"), (10, 2, "fails")])
def test_whether_vhat_vanishes_is_judged_by_the_layer_with_least_of_it_after_a_few_passes(tmp_path, passes, ratio, verdict):
    write_run(tmp_path, "Adam", [1.0] * passes, experiment="fig3", vhat_stage1=1.0, vhat_hidden=(ratio * 1e-8) ** 2)
    (found,) = claims.vanishing_moments(tmp_path)
    assert (found["value"], found["verdict"]) == (pytest.approx(ratio), verdict)


def test_numbers_of_the_text_come_from_the_tables(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "REFERENCE", tmp_path)
    for optimizer, paper in curves.published("fig2a").groupby("optimizer"):
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
        write_run(tmp_path, "Adam", [2.0, 1.0], experiment=experiment, **moments)
    table = report.moments_by_layer(tmp_path)
    assert table[["pass", "layer", "vhat", "below_eps"]].to_numpy().tolist() == 2 * [[2, "stage1", 1e-3, 0.0], [2, "hidden", 1e-13, 0.4]]
    table = pd.DataFrame({"panel": ["a", "b"], "optimizer": "Adam", "rms_log_ratio": [0.1, 0.2]})
    assert report.distance(table, "b", "Adam") == 0.2


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Headless Chromium with the report open, from a folder where nothing else lies."""
    selenium, support = (pytest.importorskip(f"selenium.webdriver{part}") for part in ("", ".support.wait"))
    page = tmp_path_factory.mktemp("report") / "report.html"
    page.write_text(report.to_html(report.render(RESULTS), RESULTS))
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
        assert len(widths) == len(set(re.findall(r"\((figures/.*?)\)", (RESULTS / "report.md").read_text())))
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
