"""The shape of a model, from its configuration alone: no weight is read, and none has memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from bohdi_common.models import huggingface
from services.training.forecast import Shape


def shape_of(folder: Path) -> Shape:
    """Raises ValueError for a folder whose configuration is of no causal language model that transformers knows, or of
    none whose layers can be told."""
    model = huggingface.skeleton(folder)
    return shape_of_model(model, str(folder))


def shape_of_model(model: Any, named: str = "the model") -> Shape:
    """See `shape_of`."""
    config = model.config.get_text_config()
    layers = [layer for layer in _layers(model) if isinstance(layer, nn.Module)]
    if not layers:
        raise ValueError(f"{named}: its layers cannot be told from its architecture, {type(model).__name__}")
    matrices = _matrices(layers[0])
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    key_heads = getattr(config, "num_key_value_heads", None) or heads
    inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * config.hidden_size
    return Shape(
        parameters=sum(p.numel() for p in model.parameters()),
        hidden_parameters=len(layers) * sum(rows * columns for rows, columns in matrices),
        layers=len(layers),
        hidden=config.hidden_size,
        inner=inner,
        query_width=heads * width,
        key_width=key_heads * width,
        heads=heads,
        vocabulary=config.vocab_size,
        norms=sum("norm" in type(part).__name__.lower() for part in layers[0].modules()),
        matrices=len(matrices),
        width_in=sum(columns for _, columns in matrices),
        width_out=sum(rows for rows, _ in matrices),
        gated=sum(rows for rows, columns in matrices if columns == config.hidden_size) >= 2 * inner,
    )


def _layers(model: Any) -> Any:
    return getattr(model.base_model, "layers", None) or getattr(model.base_model, "h", ())


def _matrices(layer: nn.Module) -> list[tuple[int, int]]:
    """(rows out, columns in) of all that multiplies a token in the layer."""
    return [(part.out_features, part.in_features) for part in layer.modules() if isinstance(part, nn.Linear)]
