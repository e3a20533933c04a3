"""What a host forks for in the tests: the job's file says what happens, as one word."""

import os
import signal
import sys
import time


def main(path):
    word = path.read_text().strip()
    print("said", word, os.environ.get("CURVE_TEST"), flush=True)
    if word == "raises":
        raise ValueError("out of luck")
    if word == "exits":
        sys.exit(4)
    if word == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "waits":
        time.sleep(60)
    return 0
