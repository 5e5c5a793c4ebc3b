"""What the scripts beside this have in common."""

import json
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent


def build(release, *what):
    """The path of the server's binary, or of another that cargo is asked for, after it was built.

    For the whole workspace: of a part alone the dependencies have other features, and are built once more.
    """
    what = what or ("--bin", "fanfare")
    profile = ["--release"] if release else []
    command = ["cargo", "build", "--workspace", *what, "--message-format=json-render-diagnostics", *profile]
    built = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    messages = [json.loads(line) for line in built.stdout.splitlines() if line.startswith("{")]
    return next(m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == what[-1])
