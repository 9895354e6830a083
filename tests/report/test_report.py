"""``mogrid report``: one page that needs nothing else, checked in a real browser."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from html import escape, unescape
from pathlib import Path

import pytest

from mogrid.cli import main
from mogrid.frontier import fit_laws
from mogrid.report.charts import Line, Point, line_chart, scatter_chart
from mogrid.report.page import store_page
from mogrid.runs import RunStore
from mogrid.sweep.measured import measured
from tests.report.stores import write_store

NASTY = "<script>alert(1)</script> & \"quoted\" 'x'"
CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """Of a store of three objectives, two base models and a solver with a nasty name."""
    root = tmp_path_factory.mktemp("report") / "store"
    write_store(root, seeds=1, solvers=(NASTY,))
    assert main(["report", str(root), "--out", str(root / "page.html"), "--draws", "20"]) == 0
    return root / "page.html"


def browse(page: Path, *options: str, width: int = 1200) -> str:
    """Return what headless Chromium makes of a page."""
    assert CHROMIUM is not None
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={width},2000"]
    command = [CHROMIUM, *flags, *options, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def with_script(page: Path, script: str) -> Path:
    """Return a copy of a page that runs a script of the test at its end, and writes the result into its title."""
    changed = page.read_text().replace("</body>", f"<script>document.title = String({script});</script></body>")
    path = page.with_name("probed.html")
    path.write_text(changed)
    return path


def title(page: Path, script: str, width: int = 1200) -> str:
    dom = browse(with_script(page, script), "--dump-dom", width=width)
    found = re.search(r"<title>(.*?)</title>", dom, re.S)
    assert found is not None
    return found[1]


def phone_width(page: Path) -> list[int]:
    """Return the page's inner and scrolled widths in a frame as wide as a phone: no window of Chromium's is."""
    frame = (
        f'<iframe style="width:375px;height:800px;border:0" srcdoc="{escape(page.read_text(), quote=True)}"></iframe>'
    )
    measure = "[d.defaultView.innerWidth, d.documentElement.scrollWidth]"
    script = f"onload = () => {{ const d = frames[0].document; document.title = JSON.stringify({measure}); }}"
    path = page.with_name("phone.html")
    path.write_text(f"<!doctype html><title></title>{frame}<script>{script}</script>")
    found = re.search(r"<title>(.*?)</title>", browse(path, "--dump-dom", "--virtual-time-budget=5000"))
    assert found is not None
    widths: list[int] = json.loads(found[1])
    return widths


def test_everything_from_data_is_escaped(page) -> None:
    text = page.read_text()
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert text.count("<script>") == 1


def test_nothing_comes_from_elsewhere(page) -> None:
    text = page.read_text()
    assert not re.search(r"""(src|href|url)\s*[=(]\s*["']?(https?:|//|file:|\.)""", text)
    assert "@import" not in text
    assert "http" not in re.sub(r"data:image/png;base64,[^\"]*", "", text)


def test_what_it_says_is_in_the_records(page) -> None:
    text, store = page.read_text(), RunStore(page.parent)
    for heading in (
        "Front in nDCG@10",
        "Front in CE (nats)",
        "What a pair of each objective is worth to the others",
        "Laws of CE (nats)",
        "Laws of nDCG@10",
        "What the laws would choose",
        "Weights over the training",
        "Conflict between objectives",
        "Results on test-role data: mini, 1 layers",
    ):
        assert f"<h2>{heading}" in text, heading
    for label in ("BM25", "base", "effectiveness only", "0.333/0.333/0.333"):
        assert f'<td class="l">{label}</td>' in text
    marks = [unescape(said) for said in re.findall(r'data-says="([^"]*)"', text)]
    # Each run of a scale in three charts of two metrics; a base model only where it is near.
    for record in store.records(queries=False):
        own = sum(record.name in said.splitlines() for said in marks)
        assert own == 6 if record.kind in ("trained", "merged") else own % 3 == 0
    base = next(r for r in store.records(queries=False) if r.kind == "base")
    assert f"Far outside: base, effectiveness {base.objectives['effectiveness']['ndcg']:.3f}" in text
    assert base.data in text


@pytest.mark.parametrize("count", [1, 2, pytest.param(6, marks=pytest.mark.slow)])
def test_any_number_of_objectives(tmp_path, count) -> None:
    write_store(tmp_path / "store", count, layers=(1,), totals=(1280, 2560, 5120, 10240), seeds=1)
    assert main(["report", str(tmp_path / "store"), "--draws", "20"]) == 0
    text = (tmp_path / "store" / "report.html").read_text()
    assert text.count('class="chart" viewBox') >= {1: 1, 2: 1, 6: 5}[count] * 2
    assert ("What a pair of each objective is worth" in text) == (count > 1)


def test_without_laws_or_test_results_it_says_so(tmp_path) -> None:
    write_store(tmp_path / "store", 1, layers=(1,), totals=(1280,), seeds=1, solvers=(), judged=False)
    assert main(["report", str(tmp_path / "store")]) == 0
    text = (tmp_path / "store" / "report.html").read_text()
    assert "There are none to show:" in text
    assert "judged by their objectives alone" in text


def test_the_plan_follows_the_preference(tmp_path) -> None:
    write_store(tmp_path / "store", 2, layers=(1,), seeds=1, solvers=())
    assert main(["report", str(tmp_path / "store"), "--preference", "ood=1", "--draws", "20"]) == 0
    assert '<td class="l">effectiveness 0.00, ood 1.00</td>' in (tmp_path / "store" / "report.html").read_text()


def test_a_choice_that_has_been_made_is_told_in_place_of_plans(tmp_path) -> None:
    store = write_store(tmp_path / "store", layers=(1,))
    laws = fit_laws(measured(store).measurements, draws=10)
    chosen, free = (store_page(store, laws, tmp_path, chosen=said, draws=10) for said in ("ood 1.00; why", ""))
    plans = "What the laws would choose"
    assert plans not in [part.title for part in chosen.parts]
    assert plans in [part.title for part in free.parts]
    captions = [[part.caption for part in page.parts if "What a pair" in part.title] for page in (chosen, free)]
    assert "whether mixing pays" not in captions[0][0]
    assert "whether mixing pays" in captions[1][0]


def test_the_command_that_makes_it_again_is_whole(tmp_path) -> None:
    root = tmp_path / "sp ace"
    write_store(root, 2, seeds=1, layers=(1,), queries=2)
    given = ["--preference", "ood=3.25,effectiveness=1", "--where", "spend=rows", "--where", "seed=0", "--draws", "3"]
    assert main(["report", str(root), *given]) == 0
    (again,) = re.findall(r"(mogrid report [^<]*)<", (root / "report.html").read_text())
    assert shlex.split(unescape(again)) == ["mogrid", "report", str(root), *given]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.slow
def test_in_a_browser(page, tmp_path) -> None:
    # It fits a phone: what is wider scrolls inside its own box.
    assert phone_width(page) == [375, 375]
    # A mark speaks to the pointer and to the keyboard, and falls silent.
    said = "document.getElementById('says')"
    hover = (
        "(() => { const m = document.querySelector('[data-says]');"
        f" m.dispatchEvent(new Event('mouseenter')); const a = {said}.textContent === m.dataset.says && !{said}.hidden;"
        f" m.dispatchEvent(new Event('mouseleave')); const b = {said}.hidden;"
        f" m.dispatchEvent(new Event('focus')); return a && b && !{said}.hidden; }})()"
    )
    assert title(page, hover) == "true"
    # Nothing of the data ran.
    assert title(page, "document.querySelectorAll('script').length") == "2"
    # Dark where the reader wants it dark.
    colour = "getComputedStyle(document.body).backgroundColor"
    light = title(page, colour)
    probed = with_script(page, colour)
    dark = re.search(r"<title>(.*?)</title>", browse(probed, "--dump-dom", "--blink-settings=preferredColorScheme=0"))
    assert light == "rgb(255, 255, 255)"
    assert dark is not None
    assert dark[1] == "rgb(13, 17, 23)"


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda store: shutil.rmtree(store), "no such folder"),
        (lambda store: None, "store: no finished training"),
        (lambda store: (store / "runs.jsonl").write_text("{}\n"), "runs.jsonl:1: not the record of a run"),
        (
            lambda store: (store / "runs.jsonl").write_text('{"name": "a", "format": 0}\n'),
            "format 0, this version reads 2",
        ),
    ],
)
def test_bad_stores(tmp_path, capsys, prepare, message) -> None:
    store = tmp_path / "store"
    store.mkdir()
    prepare(store)
    assert main(["report", str(store)]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not (store / "report.html").exists()


def test_charts_of_awkward_numbers() -> None:
    one = scatter_chart([Point(2.0, 2.0, ["a < b"])], "x & y", "y")
    assert 'data-says="a &lt; b"' in one
    assert "x &amp; y" in one
    assert "nan" not in one
    assert "nan" not in scatter_chart([], "x", "y")
    flat = line_chart([Line("l", [1, 2, 3], [0.5, float("nan"), 0.5])], "step", "w", low=0.0, high=1.0)
    assert "nan" not in flat
    assert flat.count(",") >= 2
    assert ">0<" in flat
    assert ">1<" in flat
