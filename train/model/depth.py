"""Effective layers: what runs at each depth, and with which scalars. No torch here.

An effective layer is one pass of a block. Its matrices are the block's; its norms' factor, exclusive
attention, value embedding, gains, scales and mixes belong to the block, to the pass, or, with
`by_depth`, to the depth itself. Then they stay at their depth when repetition is switched on and other
blocks move there (#1204).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from squeeze.train.model.config import ModelConfig


class Level(NamedTuple):
    """An effective layer.

    block: number of the block that runs
    number: how often it has run before
    home: block and pass that own its gains, scales and mixes
    factor: multiplies the result of its norms
    exclusive: True if attention leaves out each token's own value
    values: True if the value embedding is added to its values
    mute: True if its attention adds nothing
    """

    block: int
    number: int
    home: tuple[int, int]
    factor: float
    exclusive: bool
    values: bool
    mute: bool


def levels(config: ModelConfig, recurrent: bool = True) -> tuple[Level, ...]:
    """Return the effective layers in their order.

    recurrent: whether the blocks that `layer_schedule` repeats do repeat
    """
    homes = passes(config.depth)
    runs = homes if recurrent else tuple((block, 0) for block in range(config.num_layers))
    count = len(homes) if config.by_depth else config.num_layers
    layers = []
    for depth, (block, number) in enumerate(runs):
        counted = depth if config.by_depth else block
        home = homes[depth] if config.by_depth else (block, number)
        layers.append(
            Level(
                block=block,
                number=number,
                home=home if config.untied_scalars else (block, 0),
                factor=(counted + 1) ** -0.5 if config.norm_scale else 1.0,
                exclusive=config.xsa_layers >= count or counted >= count - config.xsa_layers,
                values=counted in config.value_layers,
                mute=counted in config.no_attention,
            )
        )
    return tuple(layers)


def passes(depth: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Return (block, how often it has run before) at each depth.

    >>> passes((0, 1, 0, 1, 1))
    ((0, 0), (1, 0), (0, 1), (1, 1), (1, 2))
    """
    return tuple((block, depth[:level].count(block)) for level, block in enumerate(depth))


def value_homes(config: ModelConfig) -> set[tuple[int, int]]:
    """Return the passes (block, number) that own a scale of the value embedding."""
    if config.by_depth:
        return {passes(config.depth)[depth] for depth in config.value_layers}
    return {(block, 0) for block in config.value_layers}
