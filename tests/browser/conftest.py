"""A real Chromium for the tests of the page; they are skipped, with the reason, where there is none."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    binary = next((path for path in map(shutil.which, _BROWSERS) if path), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("there is no chromium with its chromedriver (Debian: chromium and chromium-driver)")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in _FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield Browser(browser)
    browser.quit()


class Browser:
    """What the tests do with a browser."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, page: Path, *, width: int = 1280, is_dark: bool = False) -> None:
        """Opens a page that must draw itself with no complaint."""
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        theme = "dark" if is_dark else "light"
        self.command(
            "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}]
        )
        self.driver.get(page.as_uri())
        assert self.driver.get_log("browser") == []
        assert self.run("return document.documentElement.dataset.ready") == "true"

    def command(self, name: str, **parameters: object) -> None:
        self.driver.execute_cdp_cmd(name, parameters)

    def run(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def texts(self, selector: str) -> list[str]:
        """What elements say, whether they are in view or not."""
        script = "return [...document.querySelectorAll(arguments[0])].map((one) => one.textContent)"
        found: list[str] = self.run(script, selector)
        return found

    def choose(self, section: str, label: str, value: str) -> None:
        """Takes an option of a labelled choice, as a person does."""
        self.run(
            """
            const [section, label, value] = arguments;
            const select = [...document.querySelectorAll(`#${section} label`)]
              .find((one) => one.firstChild.textContent === label).querySelector("select, input");
            select.value = value;
            const name = select.tagName === "SELECT" ? "change" : "input";
            select.dispatchEvent(new Event(name, { bubbles: true }));
            if (select.value !== value) throw new Error(`${label} has no ${value}`);
            """,
            section,
            label,
            value,
        )

    def press(self, *keys: str) -> None:
        """Presses keys, wherever the focus is."""
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)
