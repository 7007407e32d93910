"""What a run costs before it runs: seconds, bytes on disk and on the wire, and memory, by formulas.

Every formula counts operations and bytes, and a `Machine` says how many of them a second has. docs/scaling.md
gives them in words, and how far they are off.

    b pairs (tokens, contexts) of a process, B of all W processes; R rows that are encoded; D width;
    F latents; P parameters of the dictionary; k latents a token; C tokens a context; r pairs of a run;
    a float has 4 bytes
"""

from dataclasses import dataclass, replace

from dictionary_learning.jobs.machines import Machine

_FLOAT = 4
_HISTOGRAMS = 4 * (2**15 + 2**16)  # bytes of the two histograms of a selection over all processes
_ADAM = 58  # bytes a parameter: Adam 28, clipping 12, what keeps decoder rows at norm 1 36 of a half
_LOGIT_PASSES = 100  # bytes a logit of the contrastive loss: softmax by rows and by columns, and the gradient
_CALLS = 600  # operations of a step: 269 were counted for a T-SAE, and autograd is about as much again
_ENTRY = 2500  # bytes an entry that is kept: it is sorted and looked up; set on measured steps
_EVALUATED_ENTRY = 4500  # the same of an evaluation, as steps of an earlier revision took it
_LOSS = 20  # bytes a logit of a cross-entropy: written, exponentials, their sum
_SUMS = 510  # bytes a token and dimension: the sums in float64 of x and of three reconstructions
_OTHERS = (
    0.2  # of the entries of a context that many are of latents of their own; set on measured dictionaries
)
_DENSE_FLOPS = {"standard": 10, "jumprelu": 10, "gated": 14}  # times b D F: products of a dense code
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Sizes:
    """What the formulas need of a model, of a dictionary and of a run.

    Attributes:
        n_read_layers: decoder layers up to the one that is read.
        layer_parameters: of all decoder layers.
        unit: what `batch_size` counts: pairs, tokens or contexts.
        run_length: pairs that are drawn together, as r + 1 adjacent tokens.
        high_share: of the latents, in the first group.
        tokens: that the language model reads for the run; `distinct_tokens` that there are.
        memory: bytes for stored activations.
        n_checkpoints: weights that are kept on the way.
    """

    n_layers: int
    n_read_layers: int
    layer_parameters: float
    vocab_size: int
    d_model: int
    arch: str
    unit: str
    n_latents: int
    batch_size: int
    k: int
    processes: int
    context_length: int
    steps: int
    tokens: float
    distinct_tokens: float
    memory: float
    lm_dtype: str = "bfloat16"
    encoder_dtype: str = "float32"
    store_dtype: str = "float32"
    lm_batch_size: int = 32
    high_share: float = 0.2
    n_groups: int = 2
    contrastive: bool = True
    run_length: int = 1
    n_seeds: int = 1
    n_checkpoints: int = 0
    n_attn_layers: int = 1
    bottleneck_factor: int = 1
    value_rank: int | None = None
    tied_weights: bool = True
    eval_tokens: int = 100_000
    loss_tokens: int = 16_384

    @property
    def n_rows(self) -> int:
        """Rows that a process encodes a step: each token of a run once."""
        if self.unit == "pairs":
            return self.share + self.share // self.run_length
        return self.share * (self.context_length if self.unit == "contexts" else 1)

    @property
    def share(self) -> int:
        """Of a batch, what a process takes, in whole runs: the largest share."""
        return -(-self.batch_size // self.run_length // self.processes) * self.run_length

    @property
    def parameters(self) -> int:
        """Of one dictionary."""
        D, F = self.d_model, self.n_latents
        if self.arch == "attention":
            attention = self.n_attn_layers * 2 * F * self.head_widths
            return F * D * (1 if self.tied_weights else 2) + D + attention
        return 2 * F * D + F + D

    @property
    def head_widths(self) -> int:
        """Dimensions of a TemporalSAE's values, and of its keys, of all heads together."""
        return (self.value_rank or self.n_latents) + self.n_latents // self.bottleneck_factor

    @property
    def kept(self) -> float:
        """Entries of the first group that a token keeps, if all latents are as often on."""
        return self.k * self.high_share


@dataclass(frozen=True)
class Cost:
    """What one part of a run takes."""

    seconds: float
    disk: float = 0.0
    wire: float = 0.0  # bytes that a process hands to the others
    memory: float = 0.0  # bytes of a process


def plan(sizes: Sizes, machine: Machine) -> dict[str, Cost]:
    """Every part of a run, under its name."""
    one = step(sizes, machine)
    read = harvest(sizes, machine)
    return {
        "harvest": read,
        "cache": cache(sizes, machine),
        "one step": one,
        f"{sizes.steps:,} steps": replace(
            one, seconds=one.seconds * sizes.steps, disk=saved(sizes), wire=one.wire * sizes.steps
        ),
        "evaluation": evaluation(sizes, machine),
    }


def saved(sizes: Sizes) -> float:
    """Bytes of a run's folder: the full state, the weights by themselves, and checkpoints."""
    weights = _FLOAT * sizes.parameters
    moments, counters = 2 * weights, 8 * sizes.n_latents  # tokens since each latent fired
    return sizes.n_seeds * (weights + moments + counters + (1 + sizes.n_checkpoints) * weights)


# --- the language model ---


def pass_flops(sizes: Sizes, n_layers: int) -> float:
    """Operations a token of a forward pass through so many decoder layers."""
    weights = 2 * sizes.layer_parameters / sizes.n_layers
    return n_layers * (weights + 4 * sizes.context_length * sizes.d_model)


def harvest(sizes: Sizes, machine: Machine) -> Cost:
    """The language model up to the layer, over the tokens of the run; each process has its own texts."""
    flops = sizes.tokens * pass_flops(sizes, sizes.n_read_layers)
    return Cost(flops / machine.lm(sizes.lm_dtype) / sizes.processes, memory=_lm_memory(sizes) + sizes.memory)


def cache(sizes: Sizes, machine: Machine) -> Cost:
    """Every distinct token once through the language model, and its activation on disk."""
    tokens = sizes.distinct_tokens
    # activation, norm, token and mask of each; four numbers a context
    n_bytes = tokens * (sizes.d_model * _BYTES[sizes.store_dtype] + 9 + 32 / sizes.context_length)
    flops = tokens * pass_flops(sizes, sizes.n_read_layers)
    seconds = max(flops / machine.lm(sizes.lm_dtype), n_bytes / machine.disk) / sizes.processes
    return Cost(seconds, disk=n_bytes, memory=_lm_memory(sizes))


def evaluation(sizes: Sizes, machine: Machine, n_dictionaries: int = 1) -> Cost:
    """Activations once, dictionaries over them, and cross-entropy in a pass for each and two for all.

    The passes begin at the layer that is read, but for the first context, which runs whole and twice more.
    """
    D, V, n, W = sizes.d_model, sizes.vocab_size, sizes.eval_tokens, sizes.processes
    read = pass_flops(sizes, sizes.n_read_layers)
    upper = pass_flops(sizes, sizes.n_layers - sizes.n_read_layers) + 2 * D * V
    passes = (2 + n_dictionaries) * sizes.loss_tokens / W
    first = 2 * sizes.context_length if sizes.loss_tokens else 0
    lm = n / W * read + passes * upper + first * (read + upper)
    seconds = lm / machine.lm(sizes.lm_dtype) + passes * _LOSS * V / machine.memory
    seconds += n_dictionaries * n / W * _evaluated(sizes, machine)
    sent = _FLOAT * D * n if W > 1 else 0.0  # what the others have recorded
    seconds += 2 * (W - 1) / W * sent / machine.network
    whole = sizes.layer_parameters * _BYTES[sizes.lm_dtype] + _embedding_bytes(sizes)
    dictionaries = n_dictionaries * _FLOAT * sizes.parameters
    return Cost(seconds, wire=sent, memory=whole + dictionaries + _FLOAT * D * n + 2**29)


def _evaluated(sizes: Sizes, machine: Machine) -> float:
    """Seconds that one dictionary takes for a token."""
    D, F, C, k = sizes.d_model, sizes.n_latents, sizes.context_length, sizes.k
    product = 2 * D * F / machine.flops("float32")
    codes = (9 * F + _EVALUATED_ENTRY * k) / machine.memory + 8 * D * k / machine.gather
    sums = _SUMS * D / machine.memory
    n_active = min(F, _OTHERS * k * C)  # latents of a context, whose columns are made for the smoothness
    smooth = 150 * n_active / machine.memory + 2 * C * n_active / machine.flops("float32")
    calls = 60 * (1 + n_active / 256) / C * machine.call
    return product + codes + sums + smooth + calls


def _lm_memory(sizes: Sizes) -> float:
    """Weights up to the layer, the embedding, and some activations of a batch."""
    weights = sizes.layer_parameters * sizes.n_read_layers / sizes.n_layers * _BYTES[sizes.lm_dtype]
    batch = sizes.lm_batch_size * sizes.context_length * 12 * sizes.d_model * _BYTES[sizes.lm_dtype]
    return weights + _embedding_bytes(sizes) + batch


def _embedding_bytes(sizes: Sizes) -> float:
    return sizes.vocab_size * sizes.d_model * _BYTES[sizes.lm_dtype]


# --- a step ---


def step(sizes: Sizes, machine: Machine) -> Cost:
    """One optimiser step of all dictionaries of the run."""
    in_memory = _FLOAT * 15 * sizes.d_model * (sizes.n_rows + sizes.n_groups * sizes.share)
    seconds = _CALLS * machine.call + (in_memory + _ADAM * sizes.parameters) / machine.memory
    if sizes.arch == "attention":
        seconds += _attention(sizes, machine) + _sparse(sizes, machine)
    elif sizes.arch in _DENSE_FLOPS:
        seconds += _dense(sizes, machine)
    else:
        seconds += _sparse(sizes, machine)
        if _has_contrast(sizes):
            seconds += _contrast(sizes, machine)
    sent, received = _wire(sizes)
    seconds += received / machine.network
    return Cost(sizes.n_seeds * seconds, wire=sizes.n_seeds * sent, memory=_step_memory(sizes))


def _has_contrast(sizes: Sizes) -> bool:
    return sizes.unit == "pairs" and sizes.contrastive


def _sparse(sizes: Sizes, machine: Machine) -> float:
    """The encoder's product, the selection, and the gathers of what was selected, forward and back."""
    D, F, n_rows = sizes.d_model, sizes.n_latents, sizes.n_rows
    product = 2 * n_rows * D * F / machine.search_flops(sizes.encoder_dtype)
    # written once, compared once; the mask is written once and read twice
    selection = n_rows * F * (2 * _BYTES[sizes.encoder_dtype] + 3) / machine.memory
    # encoding and decoding: two gathers and two for the gradients each; earlier tokens are not decoded
    n_decoded = sizes.share if sizes.unit == "pairs" else n_rows
    gathers = _FLOAT * D * sizes.k * 4 * (n_rows + n_decoded) / machine.gather
    entries = _ENTRY * sizes.k * (n_rows + n_decoded) / machine.memory
    return product + selection + gathers + entries


def _contrast(sizes: Sizes, machine: Machine) -> float:
    """Every own row against all earlier ones: four gathers of columns, and the two softmaxes."""
    n_logits = sizes.share * sizes.batch_size
    high = sizes.high_share * sizes.n_latents
    dense = 3 * _FLOAT * sizes.batch_size * high * 2  # the earlier codes and their gradient
    gathers = 4 * _FLOAT * n_logits * sizes.kept / machine.gather
    return (_LOGIT_PASSES * n_logits + dense) / machine.memory + gathers


def _dense(sizes: Sizes, machine: Machine) -> float:
    n = sizes.n_rows * sizes.n_latents
    flops = _DENSE_FLOPS[sizes.arch] * n * sizes.d_model
    return flops / machine.flops("float32") + 12 * _FLOAT * n / machine.memory


def _attention(sizes: Sizes, machine: Machine) -> float:
    """What the attention layers predict, forward and twice as much back."""
    D, F, C, n = sizes.d_model, sizes.n_latents, sizes.context_length, sizes.n_rows
    codes, maps = 4 * D * F, 4 * F * sizes.head_widths
    attention = C * sizes.head_widths  # half of all pairs of positions
    flops = 3 * sizes.n_attn_layers * n * (codes + maps + attention)
    passes = sizes.n_attn_layers * 20 * _FLOAT * n * F
    return flops / machine.flops(sizes.encoder_dtype) + passes / machine.memory


def beside_gradients(sizes: Sizes) -> dict[str, float]:
    """Bytes that a process hands to collectives a step, but for the gradients, by what they are for."""
    W, B = sizes.processes, sizes.batch_size
    if W == 1:
        return {}
    sent = {"fired": float(sizes.n_latents)}
    if sizes.arch not in _DENSE_FLOPS:
        sent["selection"] = _HISTOGRAMS * (2 if sizes.unit == "pairs" else 1)
    if _has_contrast(sizes):
        sent["codes"] = sizes.share * sizes.kept * 12  # row, column and value
        sent["gradient of the codes"] = B * sizes.kept * _FLOAT
        sent["softmax by columns"] = 2 * _FLOAT * B
    return sent


def _wire(sizes: Sizes) -> tuple[float, float]:
    """Bytes that a process hands to collectives a step, and those that pass through it."""
    W = sizes.processes
    if W == 1:
        return 0.0, 0.0
    sent = beside_gradients(sizes)
    gathered = sent.get("codes", 0.0)
    reduced = sum(sent.values()) - gathered + _FLOAT * sizes.parameters
    # a ring passes every byte on twice, but for its own part; what is gathered comes from everybody
    return reduced + gathered, 2 * (W - 1) / W * reduced + (W - 1) * gathered


def _step_memory(sizes: Sizes) -> float:
    """Weights, gradients and moments, and what a step writes on the way."""
    dictionaries = sizes.n_seeds * sizes.parameters * 4 * _FLOAT
    rows = _FLOAT * sizes.d_model * (4 * sizes.n_rows + 4 * sizes.n_groups * sizes.share)
    n_codes = sizes.n_rows * sizes.n_latents
    if sizes.arch in _DENSE_FLOPS:
        codes = 4.0 * _FLOAT * n_codes
    elif sizes.arch == "attention":
        codes = 8.0 * _FLOAT * n_codes * sizes.n_attn_layers
    else:
        codes = n_codes * (_BYTES[sizes.encoder_dtype] + 1.0) * sizes.n_seeds
    contrast = 0.0
    if _has_contrast(sizes):
        contrast = _FLOAT * sizes.batch_size * (4 * sizes.share + 3 * sizes.high_share * sizes.n_latents)
    return dictionaries + rows + codes + contrast
