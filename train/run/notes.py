"""Sentences about a run that is over: settings that it did not follow to the letter."""

from __future__ import annotations

from squeeze.train.run.trainer import Trainer


def notes_on(trainer: Trainer) -> tuple[str, ...]:
    """Return a sentence for each setting of the recipe that never had its effect, or another one."""
    recipe, notes = trainer.recipe, []
    if trainer.tokens != recipe.batch_tokens:
        notes.append(
            f"a step had {trainer.tokens:,} tokens, not the {recipe.batch_tokens:,} of batch_tokens: "
            f"rows are whole, {trainer.batch:,} of {trainer.tokens // trainer.batch:,} tokens"
        )
    loader = trainer.loader
    short = sum(len(shard) <= loader.seq_len for shard in loader.shards)
    if short:
        notes.append(
            f"{short} of {len(loader.shards)} shards were never read: they are shorter than a row of "
            f"{loader.seq_len:,} tokens and its last target"
        )
    if trainer.config.layer_schedule and not trainer.repeating:
        notes.append(
            "no step ran the repeated blocks of layer_schedule (recurrence_start, recurrence_step), "
            "but every score of the model does"
        )
    if recipe.qat_start < 1.0 and not trainer.qat.on:
        notes.append("weights were rounded in no step: the run ended before qat_start")
    if recipe.average != "none" and not trainer.average.updates:
        notes.append(
            "the weights are those of the last step: none were averaged (average_start, swa_every)"
        )
    return tuple(notes)
