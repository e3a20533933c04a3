import io

from rich.console import Console

from lit_lm.compare.display import LiveDisplay, State


def shown(count):
    states = [State(f"run{i:03d}") for i in range(count)]
    for state in states[:10]:
        state.finish("kept")
    states[10].finish("failed")
    states[11].start()
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    display = LiveDisplay(console, "title")
    with display:
        display.show(states)
    return console.file.getvalue()


def test_many_jobs_are_counted():
    text = shown(300)
    assert "10 kept, 1 failed, 1 running, 288 waiting" in text
    assert [name in text for name in ("run009", "run010", "run011", "run012")] == [0, 1, 1, 0]


def test_few_jobs_are_listed():
    text = shown(20)
    assert all(f"run{i:03d}" in text for i in range(20))
    assert "10 kept" not in text
