"""Which architecture is proven to have which property: the tests' own results as a table.

python -m tests.sae.conformance [ARCHITECTURE ...] > table.md

Runs the tests that `PROOFS` names and prints one cell an architecture and property: ✓ with the
number of tests that passed or the figure that one of them recorded, ✗ with the number that failed,
– where the property is not asked of it (`NOT_ASKED` says why), ? where nobody has tested it yet.
Ends with 1 unless all is ✓ or –. A test is of the architecture in its parameter ``kind``, or else
of the one that its file is named after; the kernels' tests have TopK's selection by row and
BatchTopK's by batch.
"""

import sys
from collections import defaultdict
from contextlib import redirect_stdout
from pathlib import Path

import pytest

HERE = Path(__file__).parent
KINDS = HERE.parents[1] / "interp" / "sae" / "kinds"

PROOFS = {
    "loss": [
        "test_the_loss_equals_an_independent_formula",
        "test_losses_equal_an_independent_formula",
        "test_multi_topk_is_the_loss_with_k_and_a_share_of_that_with_4k",
    ],
    "gradient": [
        "test_gradients_equal_finite_differences",
        "test_multi_topk_gradients_equal_finite_differences_for_every_parameter",
        "test_gradients_equal_finite_differences_through_the_whole_pursuit",
        "test_gradients_away_from_the_jumps_equal_finite_differences",
        "test_the_threshold_gets_exactly_the_published_estimate",
    ],
    "gradient map": [
        "test_which_parameters_each_term_reaches",
        "test_which_parameters_each_loss_term_reaches",
        "test_which_latents_each_prefix_and_auxk_reach",
        "test_auxk_reaches_dead_rows_only",
    ],
    "unit rows": ["test_decoder_rows_stay_of_unit_norm_and_unprojected_gradients_vanish"],
    "L0": ["test_k_is_the_number_of_active_latents"],
    "save, load": ["test_encode_is_the_same_after_save_and_load"],
    "resume": [
        "test_a_resumed_run_gives_the_same_weights_to_the_bit",
        "test_every_architecture_continues_to_the_same_bytes",
    ],
    "sweep": ["test_in_a_sweep_it_trains_to_the_bytes_of_the_run_alone"],
    "edge shapes": [
        "test_encode_is_finite_non_negative_and_independent_of_the_batch",
        "test_training_on_rows_of_any_kind_stays_finite",
        "test_k_beyond_the_width_or_the_latents_is_refused",
    ],
    "planted MMCS": ["test_planted_features_are_recovered"],
}
"""The names of the tests that prove each property."""

NOT_ASKED = {("L0", kind): "its coefficient sets it" for kind in ("gated", "jumprelu", "l1")}
"""Properties that an architecture does not claim, and why."""


class Results:
    """A pytest plugin: keeps the tests that `PROOFS` names, and what became of them."""

    def __init__(self, kinds: list[str]) -> None:
        self._kinds = kinds
        self._cells: dict[str, tuple[str, str]] = {}
        self.passed: dict[tuple[str, str], int] = defaultdict(int)
        self.failed: dict[tuple[str, str], int] = defaultdict(int)
        self.figures: dict[tuple[str, str], float] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave out what proves nothing here."""
        wanted = {test: name for name, tests in PROOFS.items() for test in tests}
        tests = [item.name.split("[")[0] for item in items]
        if gone := wanted.keys() - set(tests):
            raise pytest.UsageError(f"no such test: {', '.join(sorted(gone))}")
        for item, test in zip(items, tests, strict=True):
            if test in wanted and (not self._kinds or kind_of(item) in self._kinds):
                self._cells[item.nodeid] = (wanted[test], kind_of(item))
        items[:] = [item for item in items if item.nodeid in self._cells]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a test once: as passed in its call, as failed in any phase."""
        cell = self._cells[report.nodeid]
        self.failed[cell] += report.failed
        self.passed[cell] += report.passed and report.when == "call"
        for _, figure in report.user_properties:
            self.figures[cell] = figure

    def cell(self, name: str, kind: str) -> str:
        """What the table says."""
        at = (name, kind)
        if self.failed[at]:
            return f"✗ {self.failed[at]}"
        if not self.passed[at]:
            return "–" if at in NOT_ASKED else "?"
        return f"✓ {self.figures[at]:.3f}" if at in self.figures else f"✓ {self.passed[at]}"


def kind_of(item: pytest.Item) -> str:
    """The architecture that a test is about."""
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    if item.path.name == "test_kernels.py":
        return "batchtopk" if parameters.get("per") == "batch" else "topk"
    return parameters.get("kind", item.path.stem.removeprefix("test_"))


def main(kinds: list[str]) -> int:
    """Run and print."""
    results = Results(kinds)
    own = sorted(path.stem for path in KINDS.glob("[!_]*.py"))
    files = [HERE / f"test_{name}.py" for name in ("conformance", "train", "kernels", *own)]
    with redirect_stdout(sys.stderr):
        pytest.main(["-q", *(str(file) for file in files if file.exists())], plugins=[results])

    from interp.sae import architectures, find_architecture  # pytest had to be the first

    shown = [find_architecture(kind).kind for kind in kinds] or list(architectures())
    rows = [[kind, *(results.cell(name, kind) for name in PROOFS)] for kind in shown]
    for row in [["", *PROOFS], ["---"] * (len(PROOFS) + 1), *rows]:
        sys.stdout.write(f"| {' | '.join(row)} |\n")
    return int(any(cell[0] in "✗?" for row in rows for cell in row[1:]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
