"""The sparse step by several processes: the numbers of one process, up to the order of additions.

Process (r, m) has part r of the batch's rows and part m of the latents (`mesh.py`); what it has
not is summed over the others that have it:

1. pre-activations of its rows by its latents, chunk by chunk; of each row (TopK), or of all
   (BatchTopK), the k largest *it* finds are candidates.
2. Candidates' values, not the latents, are sent to the others; by them each process knows which of
   its own are among the k of the row, or n·k of the batch. Exact; of equal values the earlier
   process' are kept.
3. x̂ = Σ_m (Σ value · decoder[latent]) + b_dec, so every m has the whole error of its rows.
4. Σ‖error‖², the rows' mean and spread for AuxK: summed over r. Gradients are of the *whole*
   batch's loss, so BatchTopK's cut and AuxK's denominator are those of one process too.
5. Weight gradients by its rows for its latents, summed over r. That of b_dec needs
   encoderᵀ ∂loss/∂b_enc of all latents, summed over m.

What travels in a step, of n rows, d dimensions and L latents: the gradients' 2·L·d/m numbers where
r > 1; n·d/r where m > 1, twice with AuxK; and n·k candidates.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import pad

from interp.sae.kernels import Rule, StepResult, Weights
from interp.sae.kernels.sparse import CHUNK, MARGIN, Codes, decode, weight_gradients
from interp.sae.parallel.mesh import ALONE, Mesh
from interp.sae.parallel.team import Team


class ParallelBackend:
    """Plain torch, as `SparseBackend`. ``x`` is the whole batch, ``weights`` are this part's."""

    def __init__(self, mesh: Mesh = ALONE) -> None:
        """Of this process of a mesh."""
        self._mesh = mesh
        self._guess: float | None = None  # speeds the batch rule up, never changes its result

    @torch.no_grad()
    def step(
        self,
        weights: Weights,
        x: Float[Tensor, "n d_in"],
        rule: Rule,
        variance: float,
        dead: Bool[Tensor, " latents"] | None = None,
    ) -> StepResult:
        """See `Backend.step`; ``dead``, ``fired`` and gradients are of this part's latents."""
        n, over_rows, over_latents = len(x), self._mesh.rows, self._mesh.latents
        x = x[over_rows.part(n)]
        centred = x - weights.b_dec
        helped = self._helped(rule, dead)
        main, aux = self._encode(weights, centred, rule, n, helped)

        decoded, inner = decode(main.values, main, weights.decoder)
        error = centred - over_latents.total(decoded)
        unexplained = over_rows.total(error.square().sum()) / (n * variance)
        g = error * (-2.0 / (n * variance))
        width = len(weights.b_enc)
        d_decoder, d_encoder, d_b_enc = weight_gradients(
            main, main.values, inner(g), g, centred, width
        )
        loss, aux_loss = unexplained, x.new_zeros(())
        mean = over_rows.total(error.sum(dim=0)) / n
        if aux is not None:
            spread = over_rows.total((error - mean).square().sum())
            if spread > 0:
                decoded, inner = decode(aux.values, aux, weights.decoder)
                left = error - over_latents.total(decoded)
                aux_loss = over_rows.total(left.square().sum()) / spread
                loss = unexplained + rule.aux_coefficient * aux_loss
                pull = left * (-2.0 * rule.aux_coefficient / spread)
                parts = weight_gradients(aux, aux.values, inner(pull), pull, centred, width)
                for whole, part in zip((d_decoder, d_encoder, d_b_enc), parts, strict=True):
                    whole += part
        d_b_enc = over_rows.total(d_b_enc)
        gradients = Weights(
            encoder=over_rows.total(d_encoder),
            b_enc=d_b_enc,
            decoder=over_rows.total(d_decoder),
            b_dec=mean * (-2.0 / variance) - over_latents.total(d_b_enc @ weights.encoder),
        )
        counts = over_rows.total(torch.bincount(main.latents, minlength=width))
        smallest = torch.cat([main.values, x.new_full((1,), torch.inf)]).min()
        smallest = self._mesh.everyone.gathered(smallest).min()
        return StepResult(
            loss=loss,
            unexplained=unexplained,
            aux=aux_loss,
            gradients=gradients,
            fired=counts > 0,
            l0=over_latents.total(counts.sum()).to(x.dtype) / n,
            smallest=torch.where(torch.isinf(smallest), 0.0, smallest),
        )

    # -- steps 1 and 2 --------------------------------------------------------------------------

    def _helped(self, rule: Rule, dead: Tensor | None) -> Tensor | None:
        """This part's latents that AuxK helps; None if no part has any."""
        if rule.aux_k == 0 or rule.aux_coefficient == 0 or dead is None:
            return None
        found = dead.nonzero().squeeze(1)
        return found if self._mesh.latents.any(len(found) > 0) else None

    def _encode(
        self, weights: Weights, centred: Tensor, rule: Rule, n: int, helped: Tensor | None
    ) -> tuple[Codes, Codes | None]:
        encoder, b_enc, aux = weights.encoder, weights.b_enc, None
        if rule.per == "row":
            main = self._of_each_row(encoder, b_enc, centred, rule.k)
        else:
            main = self._of_the_batch(encoder, b_enc, centred, rule.k * n)
        if helped is not None:
            aux = self._of_each_row(encoder[helped], b_enc[helped], centred, rule.aux_k)
            aux = Codes(aux.values, helped[aux.latents], aux.rows, aux.starts)
        return main, aux

    def _of_each_row(self, encoder: Tensor, b_enc: Tensor, centred: Tensor, k: int) -> Codes:
        """Those that are positive and among the k largest of their row over all parts."""
        n, width, team = len(centred), min(k, len(b_enc)), self._mesh.latents
        values = centred.new_empty((n, width))
        latents = torch.empty((n, width), dtype=torch.int64, device=centred.device)
        for start, pre in _chunks(encoder, b_enc, centred):
            part = slice(start, start + len(pre))
            torch.topk(pre, width, sorted=False, out=(values[part], latents[part]))
        kept = values > 0
        if team.world > 1:
            padded = pad(values, (0, k - width), value=-torch.inf)
            row_by_row = team.gathered(padded).transpose(0, 1).reshape(n, -1)
            best = row_by_row.argsort(dim=1, descending=True, stable=True)[:, :k]
            chosen = torch.zeros_like(row_by_row, dtype=torch.bool).scatter_(1, best, value=True)
            kept &= chosen[:, team.rank * k : team.rank * k + width]
        rows = kept.nonzero()[:, 0]
        return Codes.of_rows(values[kept], latents[kept], rows, n)

    def _of_the_batch(self, encoder: Tensor, b_enc: Tensor, centred: Tensor, wanted: int) -> Codes:
        """Those that are positive and among the ``wanted`` largest of all processes."""
        n, width, team = len(centred), len(b_enc), self._mesh.everyone
        guess = self._guess
        if guess is None:
            guess = self._first_guess(encoder, b_enc, centred, wanted)
        while True:
            parts: list[tuple[Tensor, Tensor]] = []
            for start, pre in _chunks(encoder, b_enc, centred):
                above = (pre.view(-1) > guess).nonzero().squeeze(1)
                parts.append((pre.view(-1)[above], above + start * width))
            values, flat = (torch.cat(some) for some in zip(*parts, strict=True))
            cut = _cut(values, wanted, team)
            if cut is not None or guess == 0:
                break
            # too few candidates: look lower, and at once at all if the last batch overflowed
            guess = guess / 2 if 1e-3 < guess < 1e30 else 0.0
        self._guess = None
        if cut is not None:
            kept, smallest = cut
            values, flat = values[kept], flat[kept]
            self._guess = MARGIN * smallest
        rows = flat.div(width, rounding_mode="floor")
        return Codes.of_rows(values, flat - rows * width, rows, n)

    def _first_guess(self, encoder: Tensor, b_enc: Tensor, centred: Tensor, wanted: int) -> float:
        """A little below the threshold of the first chunk, the same for all processes."""
        _, pre = next(_chunks(encoder, b_enc, centred))
        everyone = self._mesh.everyone
        share = wanted * len(pre) // (len(centred) * everyone.world)
        found = pre.reshape(-1).topk(min(max(share, 1), pre.numel()), sorted=False).values.min()
        lowest = MARGIN * float(everyone.gathered(found).min())
        return lowest if lowest > 0 else 0.0


def _chunks(encoder: Tensor, b_enc: Tensor, centred: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Each chunk's first row, and its pre-activations in one buffer."""
    buffer = centred.new_empty((min(CHUNK, len(centred)), len(b_enc)))
    for start in range(0, len(centred), CHUNK):
        part = centred[start : start + CHUNK]
        yield start, torch.addmm(b_enc, part, encoder.T, out=buffer[: len(part)])


def _cut(values: Tensor, wanted: int, team: Team) -> tuple[Tensor, float] | None:
    """Which of these are among the ``wanted`` largest of all, and the smallest that is.

    Of equal values those of earlier processes come first, then the earlier. None if all together
    are fewer.
    """
    counts = team.gathered(torch.tensor(len(values), device=values.device))
    if int(counts.sum()) < wanted:
        return None
    everyones = team.gathered(pad(values, (0, int(counts.max()) - len(values)), value=-torch.inf))
    smallest = everyones.reshape(-1).topk(wanted, sorted=False).values.min()
    room = wanted - (everyones > smallest).sum() - (everyones[: team.rank] == smallest).sum()
    ties = values == smallest
    return (values > smallest) | (ties & (ties.cumsum(0) <= room)), float(smallest)
