"""The layers, the owners of the libraries, and what the cached path may load."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "webex_loopback"

# A module imports only from rows above its own, or, where the row says so, from those left of it.
ROWS: list[tuple[str, ...]] = [
    ("errors", "paths"),
    ("token", "settings", "authorization", "pages"),
    ("formats", "report"),
    ("network",),
    ("certificate", "loopback", "oauth", "store", "browser", "terminal"),
    ("renewal", "grant", "headstart"),
    ("browser_login", "device", "session"),
    ("login",),
    ("source",),
    ("auth",),
    ("bridges", "doctor", "setup"),
    ("demo", "pytest_plugin"),
    ("cli",),
    ("__main__",),
]
LEFT_TO_RIGHT = {("errors", "paths")}
OUTSIDE_ONE_THING = {"certificate", "loopback", "oauth", "store", "browser", "terminal"}
SHELLS = {"cli", "demo", "pytest_plugin", "__main__"}

OWNERS = {
    "aiohttp": {"loopback", "auth"},
    "httpx": {"oauth", "network", "auth"},
    "cryptography": {"certificate", "network"},
    "filelock": {"store"},
    "truststore": {"network"},
    "rich": {"terminal", "report", "cli", "demo"},
    "segno": {"device"},
    "click": {"cli", "demo", "setup"},
    "pydantic_settings": {"settings"},
    "keyring": {"store"},
}


def modules() -> dict[str, ast.Module]:
    return {path.stem: ast.parse(path.read_text()) for path in PACKAGE.glob("*.py") if path.stem != "__init__"}


def imported(tree: ast.Module, *, typing_too: bool = False) -> set[str]:
    """Return the names of the package's own modules that a module imports at run time, anywhere in it."""
    found = set()
    skipped = set() if typing_too else {id(node) for block in _typing_blocks(tree) for node in ast.walk(block)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 1 and id(node) not in skipped:
            if node.module is None:
                found |= {alias.name for alias in node.names}
            else:
                found.add(node.module.split(".")[0])
    return found - {"__version__"}


def _typing_blocks(tree: ast.Module) -> list[ast.If]:
    return [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]


def test_every_module_has_a_place_in_the_layers() -> None:
    assert set(modules()) == {name for row in ROWS for name in row}


def test_a_module_imports_only_from_above_itself() -> None:
    place = {name: number for number, row in enumerate(ROWS) for name in row}
    wrong = []
    for name, tree in modules().items():
        for other in imported(tree) & set(place):
            row = ROWS[place[name]]
            left = other in row and row in LEFT_TO_RIGHT and row.index(other) < row.index(name)
            if place[other] >= place[name] and not left:
                wrong.append(f"{name} imports {other}")
    assert wrong == []


def test_nothing_imports_a_shell() -> None:
    wrong = {
        name: imported(tree) & SHELLS for name, tree in modules().items() if name not in SHELLS and name != "__main__"
    }
    assert not any(wrong.values())


def test_the_sandbox_and_the_product_do_not_know_each_other() -> None:
    for path in (PACKAGE / "sandbox").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.level < 2, path
                assert not (node.module or "").startswith("webex_loopback"), path
    users = {name for name, tree in modules().items() if "sandbox" in imported(tree, typing_too=True)}
    assert users == {"cli", "demo", "pytest_plugin"}


@pytest.mark.parametrize("library", sorted(OWNERS))
def test_a_library_has_its_owners(library: str) -> None:
    users = set()
    for name, tree in modules().items():
        typing = {id(node) for block in _typing_blocks(tree) for node in ast.walk(block)}
        for node in ast.walk(tree):
            roots = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom) and node.level == 0
                else []
            )
            if id(node) not in typing and any(root.split(".")[0] == library for root in roots):
                users.add(name)
    # oauth's client is reached by those who handle its exceptions; see OWNERS for who that is.
    assert users <= OWNERS[library]


def loaded_by(code: str, state: Path) -> set[str]:
    """Return the modules that code loads in a fresh interpreter beyond those of an empty program."""
    listing = "import sys; print(*sys.modules)"
    runs = [
        subprocess.run(
            [sys.executable, "-I", "-c", program],
            env={"WEBEX_LOOPBACK_HOME": str(state)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()[-1]
        for program in (listing, f"{code}\n{listing}")
    ]
    return set(runs[1].split()) - set(runs[0].split())


def test_the_cached_path_loads_nothing_but_itself(store: object, make_token: object, tmp_path: Path) -> None:
    store.save(make_token("cached-token"))  # type: ignore[attr-defined,operator]
    names = loaded_by("from webex_loopback import get_token; get_token()", tmp_path / "state")
    assert names == {"webex_loopback", "webex_loopback.source", "webex_loopback.paths", "webex_loopback.errors"}


def test_the_token_command_imports_no_option_parser(store: object, make_token: object, tmp_path: Path) -> None:
    store.save(make_token("cached-token"))  # type: ignore[attr-defined,operator]
    code = "import sys; sys.argv = ['x', 'token']\nfrom webex_loopback.__main__ import main; main()"
    names = loaded_by(code, tmp_path / "state")
    assert {name for name in names if not name.startswith("webex_loopback")} == set()
    assert "webex_loopback.cli" not in names
