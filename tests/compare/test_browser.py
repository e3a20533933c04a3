"""The page in a real browser: no error, tables that sort, an axis that changes."""

import json
import shutil
import subprocess

import pytest

from .conftest import ELMO, LM, SAMPLES, TRANSLATOR

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
# What a reader would do, and what is to be seen then; it ends in the title.
READER = """
<script>
addEventListener("load", () => setTimeout(() => {
  const out = {};
  const table = document.querySelector("table"), heads = [...table.querySelectorAll("thead th")];
  const at = heads.findIndex((head) => head.textContent.startsWith("loss"));
  const names = () => [...table.querySelectorAll("tbody")].map((body) =>
    [...body.querySelectorAll("tr:not(.league) th")].map((th) => th.textContent.trim()));
  heads[at].querySelector("button").click();
  out.rising = names();
  heads[at].querySelector("button").click();
  out.falling = names();
  out.said = heads[at].getAttribute("aria-sort");
  const axis = () => document.querySelector("#chart0 .xtitle").textContent;
  out.before = axis();
  document.querySelector("input[value=flops]").click();
  setTimeout(() => {
    out.after = axis();
    out.lines = document.querySelectorAll("#chart0 .scatterlayer .trace").length;
    out.scaling = document.querySelectorAll("#scaling0 .scatterlayer .trace").length;
    out.wide = document.documentElement.scrollWidth <= innerWidth;
    document.title = JSON.stringify(out);
  }, 300);
}, 300));
</script>
"""


def see(page, folder, width=1200):
    """What the reader saw, and what the browser's console said."""
    copy = folder / "read.html"
    copy.write_text(page.read_text().replace("</body>", READER + "</body>"))
    done = subprocess.run(
        [
            *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},900"),
            *("--enable-logging=stderr", "--virtual-time-budget=8000", "--dump-dom", copy.as_uri()),
            f"--user-data-dir={folder / 'browser'}",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    title = done.stdout.partition("<title>")[2].partition("</title>")[0]
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(title.replace("&quot;", '"').replace("&amp;", "&")), said


@pytest.mark.skipif(BROWSER is None, reason="needs chromium")
def test_the_page_works(house, tmp_path):
    house.add("gpt", LM | {"samples": SAMPLES, "parameters": 100_000})
    house.add("elmo", ELMO | {"parameters": 900_000})
    for size in (2, 4):
        house.add(f"gpt{size}", LM | {"parameters": size * 100_000, "loss": 1.62 - size / 50})
    house.add("transformer", TRANSLATOR)
    page = house.run()
    for width in (1200, 420):
        seen, said = see(page, tmp_path, width)
        assert said == []
        rising = ["gpt4", "gpt2", "gpt", "elmo"]
        assert seen["rising"][0] == rising
        assert seen["falling"][0] == rising[::-1]
        assert seen["said"] == "descending"
        assert (seen["before"], seen["after"]) == ("tokens", "FLOP")
        assert seen["lines"] == 4
        assert seen["scaling"] == 2
        assert seen["wide"]  # nothing makes a phone scroll sideways
