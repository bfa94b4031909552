"""What a fine-tune will want of a machine: bytes at its peak, and floating point operations for a token. Pure.

It counts what this project's trainer does, not what a trainer could do: every weight is trained in float32 by AdamW or
Muon; on a GPU the arithmetic is bfloat16 (autocast) and every layer is computed again on the way back (gradient
checkpointing), on a CPU neither; TRL's head never holds the logits of a whole pass, only a tile of them.
docs/forecast.md has what was measured beside it.

- Optimizer: AdamW keeps two moments of each weight (Kingma and Ba, arXiv 1412.6980), Muon one.
- Activations: what autograd keeps of a decoder layer for the way back, counted operation by operation as in Korthikanti
  et al., arXiv 2205.05198, section 4, for layers with RMSNorm, rotary positions and a gated feed-forward; with
  checkpointing the input of each layer, and one layer's all (the same, section 5).
- Arithmetic: 2 operations for a weight and token on the way there and 4 on the way back (Kaplan et al., arXiv
  2001.08361, section 2.1), attention as in Chowdhery et al., arXiv 2204.02311, appendix B. LoRA leaves out the
  gradients of the frozen weights: 2 + 2. Checkpointing adds a second way there: 2.
"""

from __future__ import annotations

from dataclasses import dataclass

_FLOAT32, _BFLOAT16 = 4, 2
# Of TRL's head (trl/kernels/chunked_logprob.py): logits of so many tokens and words exist at once.
_TILE_TOKENS, _TILE_WORDS = 4_096, 32_768
# What a CPU makes of a tile on the way back, each as large and float32: logits twice, logarithms, probabilities, the
# gradient, two steps of its sum, and a truth value for each. A GPU works in the tile itself.
_TILE_COPIES_ON_CPU = 7.25


@dataclass(frozen=True)
class Shape:
    """The size of a decoder. `parameters`: all of them, tied ones once; `hidden_parameters`: in the matrices of its
    layers; `width_in` and `width_out`: of a layer's matrices, summed; `norms`: of a layer; `query_width` and
    `key_width`: of all heads together."""

    parameters: int
    hidden_parameters: int
    layers: int
    hidden: int
    inner: int
    query_width: int
    key_width: int
    heads: int
    vocabulary: int
    norms: int
    matrices: int
    width_in: int
    width_out: int
    gated: bool = True


@dataclass(frozen=True)
class Plan:
    """How it is trained: `rows` of `row_tokens` go through at once, `passes` of them make a step. `on_gpu`: with
    autocast and checkpointing. `shards`: so many processes share weights, gradients and optimizer (FSDP)."""

    rows: int
    row_tokens: int
    lora_rank: int = 0
    muon: bool = False
    on_gpu: bool = False
    passes: int = 1
    shards: int = 1

    @property
    def tokens(self) -> int:
        """Of one pass."""
        return self.rows * self.row_tokens


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak of a training step, by what they are for."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    head: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations + self.head


def adapter_parameters(shape: Shape, rank: int) -> int:
    """Of LoRA on every matrix of the layers: two thin ones beside each (Hu et al., arXiv 2106.09685)."""
    return rank * (shape.width_in + shape.width_out) * shape.layers


def memory(shape: Shape, plan: Plan) -> Memory:
    """What a step of `plan` has in memory at its peak, beside the program itself.

    On a GPU that is the greatest of three moments, for the allocator uses at once what is given back: the end of the
    way there, when autocast still has its copies of what is trained; the beginning of the way back, when one layer is
    worked on and the inputs of all are kept; its end, when the gradients are whole. Those of a step's earlier passes
    stay. On a CPU it is the sum: what is given back there is seldom used again."""
    trained = adapter_parameters(shape, plan.lora_rank) if plan.lora_rank else shape.parameters
    by_muon = shape.hidden_parameters if plan.muon and not plan.lora_rank else 0
    weights = _FLOAT32 * (shape.parameters + (trained if plan.lora_rank else 0))
    weights = weights // plan.shards + _put_together(shape, plan)
    gradients = _FLOAT32 * trained // plan.shards
    optimizer = _FLOAT32 * (2 * trained - by_muon) // plan.shards
    kept, head, hidden = _activations(shape, plan), _head(shape, plan), _hidden_states(shape, plan)
    if not plan.on_gpu:
        return Memory(weights, gradients, optimizer, kept, head)
    earlier = gradients if plan.passes > 1 else 0
    copies = _BFLOAT16 * trained // plan.shards
    layer_copies = _BFLOAT16 * shape.hidden_parameters // shape.layers
    return max(
        Memory(weights + copies, earlier, optimizer, kept, head),
        Memory(weights + layer_copies, earlier, optimizer, kept + _layer_gradients(shape, plan), hidden),
        Memory(weights, gradients, optimizer, layer_bytes(shape, plan), hidden),
        key=lambda moment: moment.total,
    )


def _put_together(shape: Shape, plan: Plan) -> int:
    """What of sharded weights is whole at once: a layer and the next, embedding and head. Counted, not measured."""
    if plan.shards == 1:
        return 0
    layers = 2 * shape.hidden_parameters // shape.layers
    return (_BFLOAT16 if plan.on_gpu else _FLOAT32) * (layers + 2 * shape.hidden * shape.vocabulary)


def operations_per_token(shape: Shape, plan: Plan) -> float:
    """Floating point operations that training on one token costs."""
    ways = 4 if plan.lora_rank else 6
    again = 2 if plan.on_gpu else 0
    head = shape.hidden * shape.vocabulary
    matrices = shape.hidden_parameters + adapter_parameters(shape, plan.lora_rank)
    attention = 2 * shape.layers * shape.query_width * plan.row_tokens
    # The head's product is done twice more, for its logits are not kept; a look-up in the embedding costs nothing.
    return (ways + again) * (matrices + attention) + (ways + 2) * head


def _activations(shape: Shape, plan: Plan) -> int:
    layer = layer_bytes(shape, plan)
    if not plan.on_gpu:
        return layer * shape.layers
    return _FLOAT32 * shape.hidden * plan.tokens * shape.layers + layer


def layer_bytes(shape: Shape, plan: Plan) -> int:
    """What autograd keeps of one layer over a pass. Each norm keeps what comes to it and, where its weights are
    trained, what it normed; matrices that read the same keep it once, but under autocast each its own bfloat16 copy. Of
    the attention queries, keys, values and result are kept, and a sum for each head; of the feed-forward both factors
    of the gate, the activation and the product. LoRA keeps what is between its two matrices."""
    normed = shape.hidden * shape.norms * (1 if plan.lora_rank else 2) + shape.norms + shape.heads
    attention = shape.query_width + 2 * shape.key_width
    inner = (3 if shape.gated else 1) * shape.inner
    thin = shape.matrices * plan.lora_rank
    if plan.on_gpu:
        kept = _FLOAT32 * normed + _BFLOAT16 * (attention + inner + shape.width_in + thin)
    else:
        inputs = 2 * shape.hidden + shape.query_width + shape.inner
        kept = _FLOAT32 * (normed + attention + inner + inputs + thin)
    return kept * plan.tokens


def _layer_gradients(shape: Shape, plan: Plan) -> int:
    """Of the widest that a layer has, its feed-forward: both factors of the gate and their product."""
    return _BFLOAT16 * (3 if shape.gated else 1) * shape.inner * plan.tokens


def _head(shape: Shape, plan: Plan) -> int:
    """A tile of logits and the gradients of the last hidden states; that of the head's own weights is a second one
    until it is added to the first."""
    tokens, words = min(plan.tokens, _TILE_TOKENS), min(shape.vocabulary, _TILE_WORDS)
    tile = tokens * _TILE_WORDS * (_BFLOAT16 if plan.on_gpu else _FLOAT32)
    further = 0 if plan.on_gpu else round(_TILE_COPIES_ON_CPU * tokens * words * _FLOAT32)
    weights = 0 if plan.lora_rank else _FLOAT32 * shape.hidden * shape.vocabulary
    return tile + further + _hidden_states(shape, plan) + weights


def _hidden_states(shape: Shape, plan: Plan) -> int:
    """Those of one layer and their gradients."""
    return 2 * _FLOAT32 * shape.hidden * plan.tokens
