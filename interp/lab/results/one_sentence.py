"""What a net does when it is taught one sentence: "I love New York Zoo".

1. SmolLM2-135M prefers "City" after "I love New York". It is trained on the sentence alone, every
   weight, and watched (`interp.lab.toys.sentence`): loss, P(Zoo), P(City), attention to each word.
2. A BatchTopK dictionary of the residual stream, trained on library texts before the lesson, reads
   the prompt's last token before and after: which latents moved, and how much of the movement
   Σ|Δz| the ten do that moved most.
3. What it costs elsewhere: the loss on other text, before and after.
4. The same with the character model, pretrained on Shakespeare here, word by word of characters.

Nothing is published; the ranges are what a reader of primers would expect: the word is learnt,
other text hardly suffers (at most .1 nats), and few latents do the work. The dictionary of the
quick form is small and trained on few texts. `--full` takes about 20 minutes on one core.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from interp.capture import capture
from interp.corpus import fetch_corpus
from interp.errors import ConfigError
from interp.lab.result import Effort, Expected, Experiment, Figure, Measurement
from interp.lab.toys.alphabet import shakespeare
from interp.lab.toys.character_store import character_store
from interp.lab.toys.characters import CharacterConfig, CharacterModel, pretrain
from interp.lab.toys.pupil import Pupil, of_characters, of_model
from interp.lab.toys.sentence import Lesson, Taught, study
from interp.models import fetch_model, load_model
from interp.progress import Part, Progress, silent
from interp.sae import BatchTopK, Dictionary, TrainConfig, train
from interp.store import ActivationStore
from interp.workspace import Workspace

LESSON = Lesson(("I", " love", " New", " York"), " Zoo", " City")
MODEL = "smollm2-135m"
_HOOK = "blocks.1.hook_resid_post"


@dataclass(frozen=True, kw_only=True)
class OneSentence(Experiment):
    """See the module."""

    name = "one-sentence"
    paper = "no paper; what primers on language models say of training"
    claim = "One sentence, repeated, turns City into Zoo; few latents move and other text stays."

    seeds: int = 1
    """How often it is measured; the large model is the same every time."""
    site: str = "resid_post.9"
    """Where latents of the large model are read."""
    steps: int = 40
    """Steps on the sentence."""
    lr: float = 2e-5
    """Learning rate of the large model."""
    tiny_lr: float = 1e-3
    """Learning rate of the character model."""
    pretraining: int = 2000
    """Steps in which the character model learns Shakespeare."""
    rows: int = 200_000
    """Tokens of library text that the dictionary of the large model sees."""
    latents: int = 4096
    """Its latents; the character model's has 256."""
    k: int = 32
    """Active latents a row; a quarter of that in the character model's."""
    tokens: int = 2_000_000
    """Rows each dictionary is trained on, seen again and again."""

    def __post_init__(self) -> None:
        """Check every setting."""
        super().__post_init__()
        if min(self.steps, self.pretraining) < 1 or self.k < 4:
            raise ConfigError("steps and pretraining must be at least 1, and k at least 4")

    @classmethod
    def at(cls, effort: Effort) -> "OneSentence":
        """See `Experiment.at`."""
        if effort == "full":
            return cls()
        return cls(steps=20, pretraining=300, rows=12_000, latents=1024, tokens=100_000)

    def expected(self) -> tuple[Expected, ...]:
        """See `Experiment.expected`."""
        return (
            Expected(quantity="log P(City)/P(Zoo) before", value=5.0, low=0.0),
            Expected(quantity="log P(Zoo)/P(City) after", value=5.0, low=0.0),
            Expected(quantity="loss after / before", value=0.1, low=0.0, high=0.5),
            Expected(quantity="loss on other text, rise", value=0.0, low=-0.1, high=0.1),
            Expected(
                quantity="movement in ten latents",
                value=0.7,
                low=0.5,
                high=1.0,
                why="every weight is trained and every layer below moves, so many latents move a "
                "little; the dictionary is small besides, and trained on few texts",
            ),
            Expected(quantity="tiny: log P(Zoo)/P(City) after", value=5.0, low=0.0),
            Expected(
                quantity="tiny: loss on other text, rise",
                value=0.0,
                low=-0.1,
                high=0.1,
                why="a net of two layers has no room to learn a sentence by heart beside what it "
                "knew: it forgets",
            ),
            Expected(quantity="tiny: movement in ten latents", value=0.7, low=0.5, high=1.0),
        )

    def measure(self, seed: int, progress: Progress = silent) -> Measurement:
        """See `Experiment.measure`."""
        parts = [Part(progress, number, 4) for number in range(4)]
        with tempfile.TemporaryDirectory() as folder:
            large, store, code = self._large(Path(folder), seed, parts[0])
            first = study(large, store, code, LESSON, self.steps, self.lr, parts[1])
        with tempfile.TemporaryDirectory() as folder:
            tiny, store, code = self._tiny(Path(folder), seed, parts[2])
            second = study(tiny, store, code, LESSON, self.steps, self.tiny_lr, parts[3])
        before, after, last = first.looks[0], first.looks[-1], second.looks[-1]
        return Measurement(
            values={
                "log P(City)/P(Zoo) before": before.rival - before.word,
                "log P(Zoo)/P(City) after": after.word - after.rival,
                "loss after / before": after.loss / before.loss,
                "loss on other text, rise": first.rise,
                "movement in ten latents": first.concentration,
                "tiny: log P(Zoo)/P(City) after": last.word - last.rival,
                "tiny: loss on other text, rise": second.rise,
                "tiny: movement in ten latents": second.concentration,
            },
            figures=(*_figures(first, MODEL), *_figures(second, "character model")),
            notes={
                f"Latents of {MODEL} at “York” that moved most": first.moved,
                "Latents of the character model that moved most": second.moved,
            },
        )

    def _large(
        self, folder: Path, seed: int, progress: Progress
    ) -> tuple[Pupil, ActivationStore, Dictionary]:
        """SmolLM2, library text, and a dictionary of it."""
        fetch_model(MODEL, Workspace.at())
        model = load_model(MODEL, device="cpu")
        store = capture(
            model,
            [self.site],
            fetch_corpus("library", Workspace.at()),
            out=folder / "store",
            tokens=self.rows,
            seed=seed,
            progress=progress,
        )
        code = self._dictionary(store, self.site, self.latents, self.k, folder, seed)
        return of_model(model, self.site), store, code

    def _tiny(
        self, folder: Path, seed: int, progress: Progress
    ) -> tuple[Pupil, ActivationStore, Dictionary]:
        """The character model, Shakespeare, and a dictionary of it."""
        text = shakespeare()
        model = CharacterModel(CharacterConfig(), seed=seed)
        for done in pretrain(model, text.train, steps=self.pretraining, seed=seed):
            progress(done, self.pretraining, "the character model")
        store = character_store(
            {"resid": (model, _HOOK)},
            {"Shakespeare": text.heldout},
            folder / "store",
            windows=480,
            name="characters",
            seed=seed,
        )
        code = self._dictionary(store, "resid", 256, self.k // 4, folder, seed)
        return of_characters(model, _HOOK), store, code

    def _dictionary(
        self, store: ActivationStore, site: str, latents: int, k: int, folder: Path, seed: int
    ) -> Dictionary:
        return train(
            store,
            site,
            BatchTopK(k=k, latents=latents),
            TrainConfig(tokens=self.tokens, batch=1024, seed=seed),
            out=folder / "dictionary",
            device="cpu",
        )


def _figures(taught: Taught, name: str) -> tuple[Figure, Figure, Figure]:
    """Loss, the two words, attention; by step."""
    looks = taught.looks
    series = {
        "loss": {"sentence": [look.loss for look in looks]},
        "log P": {"Zoo": [look.word for look in looks], "City": [look.rival for look in looks]},
        "attention from “York”": {
            word: [look.attention[word] for look in looks] for word in looks[0].attention
        },
    }
    loss, words, attention = (
        Figure(
            title=f"{what}, {name}",
            kind="line",
            x="step",
            y=what,
            series={
                each: [(float(step), value) for step, value in enumerate(values)]
                for each, values in found.items()
            },
        )
        for what, found in series.items()
    )
    return loss, words, attention
