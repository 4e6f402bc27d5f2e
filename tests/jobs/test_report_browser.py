"""The report in a real browser, from a file: filters, search, sorting and the lightbox."""

import shutil
from collections.abc import Iterator

import pytest
from overpaint.jobs.report.report import write_report
from overpaint.pipeline.runs.folder import REPORT
from report_runs import HOSTILE, declined, failed, planned_row, write_run
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

pytestmark = pytest.mark.browser

NUM_ROWS = 120
WAIT_S = 15
_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Smooth scrolling would move what a test is about to click.
    "--force-prefers-reduced-motion",
    "--window-size=1280,900",
)


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> str:
    """Returns the URL of a report."""
    rows = [planned_row(number) for number in range(NUM_ROWS)]
    rows[7] = failed(rows[7], "fetch", "image_truncated", "a PNG file that ends early")
    rows[8] = failed(rows[8], "edit", "out_of_memory", "too large")
    rows[9] = declined(rows[9], "find", "mask_empty", "nothing looks like it")
    rows[10] |= {"background_psnr_db": 20.0}
    rows[11] |= {"instruction": HOSTILE, "truth_gain": None}
    rows[12] |= {"truth_gain": -3.5}
    for number in (13, 14):
        rows[number] |= {"method": "sdedit"}
    run = write_run(tmp_path_factory.mktemp("browser"), rows)
    write_report(run)
    return f"file://{run.storage.at(REPORT)}"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory) -> Iterator[Chrome]:
    """Opens one headless browser for all tests here."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("no chromium: apt-get install chromium chromium-driver")
    options = ChromeOptions()
    options.binary_location = browser
    for option in (*_OPTIONS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = Chrome(options=options, service=ChromeService(driver))
    yield found
    found.quit()


@pytest.fixture
def page(chromium: Chrome, report: str) -> Iterator[Chrome]:
    """Opens the report anew; at the end the browser must have logged nothing."""
    chromium.get("about:blank")
    chromium.get(report)
    yield chromium
    assert chromium.get_log("browser") == []


def _find(page, selector):
    return page.find_element(By.CSS_SELECTOR, selector)


def _count(page) -> str:
    return _find(page, "#count").text


def _wait(page, condition) -> None:
    WebDriverWait(page, WAIT_S).until(lambda _: condition())


def _select(page, name, value) -> None:
    Select(_find(page, f"[name={name}]")).select_by_value(value)


def _instructions(page) -> list[str]:
    script = "return [...document.querySelectorAll('.card .instruction')].map(e => e.textContent)"
    return page.execute_script(script)


def _press(page, *keys) -> None:
    for key in keys:
        ActionChains(page).send_keys(key).perform()


def _open_first(page) -> None:
    _find(page, ".card .tiles").click()
    _wait(page, lambda: _find(page, "#lightbox").get_attribute("open"))


def test_every_row_can_be_reached_by_scrolling(page):
    assert _count(page) == f"{NUM_ROWS} of {NUM_ROWS} rows"
    for _ in range(NUM_ROWS):
        page.execute_script("window.scrollTo(0, document.body.scrollHeight)")
        if len(_instructions(page)) == NUM_ROWS:
            break
    assert len(_instructions(page)) == NUM_ROWS


def test_pictures_are_drawn(page):
    script = "return [...document.images].slice(0, 20).every(i => i.complete && i.naturalWidth)"
    _wait(page, lambda: page.execute_script(script))
    image = _find(page, ".card .edited img")
    assert image.value_of_css_property("image-rendering") == "pixelated"
    paint = _find(page, ".card .coat")
    assert paint.value_of_css_property("mask-image").startswith('url("data:image/')


def test_text_of_a_row_is_never_markup(page):
    _find(page, "[name=text]").send_keys("onerror")
    _wait(page, lambda: _instructions(page) == [HOSTILE])
    assert page.execute_script("return document.querySelectorAll('img[src=x]').length") == 0


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("status", "failed", 2),
        ("status", "rejected", 2),
        ("type", "style", NUM_ROWS // 3),
        ("method", "sdedit", 2),
        ("stage", "find", 1),
        ("reason", "out_of_memory", 1),
        ("reason", "background_psnr_db < 25", 1),
    ],
)
def test_filter_keeps_the_rows_asked_for(page, name, value, expected):
    _select(page, name, value)
    _wait(page, lambda: _count(page) == f"{expected} of {NUM_ROWS} rows")


def test_filters_combine_and_clear(page):
    _select(page, "status", "accepted")
    _find(page, "[name=text]").send_keys("number 11")
    _wait(page, lambda: _count(page) == f"10 of {NUM_ROWS} rows")
    _find(page, "button[type=reset]").click()
    _wait(page, lambda: _count(page) == f"{NUM_ROWS} of {NUM_ROWS} rows")


def test_search_finds_a_key(page):
    key = planned_row(33)["key"]
    _find(page, "[name=text]").send_keys(key[:12].upper())
    _wait(page, lambda: _instructions(page) == ["make the circle number 33 blue"])


def test_search_without_a_match_says_so(page):
    _find(page, "[name=text]").send_keys("no such words")
    _wait(page, lambda: _find(page, "#nothing").is_displayed())


def test_sorting_puts_rows_without_the_score_last(page):
    _select(page, "sort", "truth_gain")
    _wait(page, lambda: _instructions(page)[0] == "make the circle number 12 blue")
    _find(page, "[name=descending]").click()
    _wait(page, lambda: _instructions(page)[0] == "make the circle number 27 blue")
    _select(page, "reason", "")
    _find(page, "[name=text]").send_keys("onerror")
    _wait(page, lambda: _instructions(page) == [HOSTILE])


def test_line_of_a_table_filters_the_gallery(page):
    page.execute_script(
        "[...document.querySelectorAll('.choose')]"
        ".find(b => b.textContent === 'image_truncated').click()"
    )
    _wait(page, lambda: _count(page) == f"1 of {NUM_ROWS} rows")
    assert "a PNG file that ends early" in _find(page, ".card .reason.failed").text


def test_lightbox_goes_from_row_to_row_by_keys(page):
    _open_first(page)
    title = lambda: _find(page, "#lightbox-title").text  # noqa: E731
    assert title() == "make the circle number 0 blue"
    _press(page, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT)
    assert title() == "make the circle number 1 blue"
    assert _find(page, "#lightbox-place").text == f"2 of {NUM_ROWS}"
    assert page.current_url.endswith(f"#{planned_row(1)['key']}")
    _press(page, Keys.ESCAPE)
    _wait(page, lambda: not _find(page, "#lightbox").get_attribute("open"))
    focused = page.switch_to.active_element.get_attribute("aria-label")
    assert focused == "Open: make the circle number 1 blue"


def test_lightbox_tells_all_columns_and_the_replay_command(page):
    _open_first(page)
    details = _find(page, "#details").text
    for text in ("truth_gain", "source_uri", "images/000.png", "method", "toy", "lmm_status"):
        assert text in details
    command = _find(page, ".replay code").text
    assert command.startswith("overpaint replay /")
    assert command.endswith(f"/run {planned_row(0)['key']}")


def test_lightbox_compares_with_a_slider(page):
    _open_first(page)
    slider = _find(page, ".compare input")
    clip = lambda: _find(page, ".compare .after").value_of_css_property("clip-path")  # noqa: E731
    assert clip() == "inset(0px 0px 0px 50%)"
    ActionChains(page).move_to_element_with_offset(
        slider, slider.size["width"] // 4, 0
    ).click().perform()
    _wait(page, lambda: clip() != "inset(0px 0px 0px 50%)")
    _press(page, Keys.ARROW_RIGHT)
    assert _find(page, "#lightbox-place").text == f"2 of {NUM_ROWS}"


def test_lightbox_shows_side_by_side_and_the_mask(page):
    _open_first(page)
    _press(page, "m")
    assert _find(page, ".compare .coat").is_displayed()
    _press(page, "s")
    assert len(page.find_elements(By.CSS_SELECTOR, ".side img")) == 3


def test_row_without_an_edit_has_placeholders(page):
    _select(page, "reason", "out_of_memory")
    _wait(page, lambda: _count(page) == f"1 of {NUM_ROWS} rows")
    _open_first(page)
    assert "no edited image" in _find(page, "#stage").text
    assert "edit: out_of_memory" in _find(page, "#details").text


def test_address_with_a_key_opens_that_row(chromium, report):
    chromium.get("about:blank")
    chromium.get(f"{report}#{planned_row(70)['key']}")
    assert _find(chromium, "#lightbox-title").text == "make the circle number 70 blue"


@pytest.mark.parametrize("width_px", [1280, 400])
def test_page_is_no_wider_than_the_screen(page, width_px):
    size = {"width": width_px, "height": 800, "deviceScaleFactor": 1, "mobile": width_px < 500}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    script = "return document.documentElement.scrollWidth"
    found = page.execute_script(script)
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert found <= width_px
