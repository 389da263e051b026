"""The table of what is proven: what its cells say, and that the README shows it."""

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.sae.conformance import PROOFS, Results

REPOSITORY = Path(__file__).parents[2]
README = REPOSITORY / "interp" / "sae" / "README.md"


def collected(name: str, file: str = "test_conformance.py", **parameters):
    """A test as pytest hands it over."""
    suffix = f"[{'-'.join(parameters.values())}]" if parameters else ""
    return SimpleNamespace(
        name=name + suffix,
        nodeid=f"{file}::{name}{suffix}",
        path=Path(file),
        **({"callspec": SimpleNamespace(params=parameters)} if parameters else {}),
    )


def report(item, outcome: str, when: str = "call", *properties):
    return SimpleNamespace(
        nodeid=item.nodeid,
        when=when,
        passed=outcome == "passed",
        failed=outcome == "failed",
        user_properties=list(properties),
    )


def test_cells_say_what_became_of_the_tests() -> None:
    named = [name for names in PROOFS.values() for name in names]
    loss, *_ = PROOFS["loss"]
    (recovered,) = PROOFS["planted MMCS"]
    own = [collected(loss, "test_l1.py"), collected(recovered, kind="l1")]
    sweeps = [collected(PROOFS["sweep"][0], kind=kind) for kind in ("l1", "topk")]
    rows = collected("test_losses_equal_an_independent_formula", "test_kernels.py", per="batch")
    rest = [collected(name, kind="other") for name in [*named, "test_of_something_else"]]
    items = [*own, *sweeps, rows, *rest]
    results = Results(["l1", "topk", "batchtopk"])
    results.pytest_collection_modifyitems(items)
    assert items == [*own, *sweeps, rows]

    results.pytest_runtest_logreport(report(own[0], "passed", "setup"))
    results.pytest_runtest_logreport(report(own[0], "passed"))
    results.pytest_runtest_logreport(report(own[1], "passed", "call", ("MMCS", 0.98765)))
    results.pytest_runtest_logreport(report(sweeps[0], "failed", "setup"))
    results.pytest_runtest_logreport(report(sweeps[1], "skipped"))
    results.pytest_runtest_logreport(report(rows, "passed"))
    assert results.cell("loss", "l1") == results.cell("loss", "batchtopk") == "✓ 1"
    assert results.cell("planted MMCS", "l1") == "✓ 0.988"
    assert results.cell("sweep", "l1") == "✗ 1"
    assert results.cell("sweep", "topk") == "?"
    assert results.cell("L0", "l1") == "–"

    with pytest.raises(pytest.UsageError, match=f"no such test: .*{loss}"):
        results.pytest_collection_modifyitems([item for item in rest if loss not in item.name])


def without_figures(text: str) -> list[str]:
    """Rounding, and so a planted recovery's last digits, differ from processor to processor."""
    return re.sub(r"✓ \d\.\d+", "✓", text).splitlines()


@pytest.mark.slow
def test_the_readme_shows_what_the_command_prints() -> None:
    command = [sys.executable, "-m", "tests.sae.conformance"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    shown = without_figures(README.read_text(encoding="utf-8"))
    assert set(without_figures(done.stdout)) <= set(shown)
