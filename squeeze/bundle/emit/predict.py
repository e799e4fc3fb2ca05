"""The model of the mixing coder, which is its decoder: one kernel, whose text ships with the code.

Fifteen contexts (the last one to six bytes, words, the shape of the last tokens, the bracket that is
open, the beginning of the line, what followed earlier text that ends alike) each predict the next bit;
three mixers weigh them, a fourth weighs the mixers, and a table corrects the result by what came of it
before. The scheme is that of the PAQ family (Mahoney, "Adaptive weighing of context models for
lossless data compression", 2005); what is left out was not worth its bytes in the decoder.

It uses + − × ÷ and comparisons of doubles and integers below 2^62 only, so that compiled and plain
Python agree on every machine.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# Variables of `predict` that are one in the shipped text, because few letters cost few bytes. The text
# is also what the model has read first: another one would give other codes.
SHARED = {
    "position": ("number",),
    "running_hash": ("context_value", "history"),
    "distance": ("entry", "context", "i"),
    "match": ("mixer",),
    "mixer_sum": ("fraction", "rate"),
    "step": ("learned",),
    "one": ("middle",),
}


def predict(code: bytes, known: bytes, size: int, chances: npt.NDArray[np.int32]) -> list[int]:
    """Return the text that begins with `known` and goes on with `size` bytes decoded from `code`.

    code: the arithmetic code; zeros stand for bytes that it lacks. chances: int32[8 * len(known)],
    filled with the probability of each known bit in 1/65536. Nine zeros follow the text.
    """
    multiplier = 789269575

    def squash(x: float) -> float:  # 1 / (1 + exp(-x)), by exp(x) ~ (1 + x/1024)^1024
        x = 1 - max(-15.9, min(15.9, x)) / 1024
        for _ in range(10):
            x *= x
        return 1 / (1 + x)

    # stretch(p) = ln(p / (1 - p)) for p = i/4096; the logarithm as a sum of 1/i
    harmonic_sum, harmonic = 0.0, [0.0]
    for number in range(1, 4096):
        harmonic_sum += 1 / number
        harmonic.append(harmonic_sum)
    stretch = [harmonic[i] - harmonic[4095 - i] for i in range(4096)]

    end = len(known) + size
    text = [0] * (end + 9)
    # by slot, the hash of a context and of the bits of the byte so far: the chance of a 1, and the
    # state, count << 8 | last bits after a 1
    slot_chances, slot_states = [0.5] * 2**24, [1] * 2**24
    # by context and state: the chance of a 1 after every such state, and how often it was there
    state_chances, state_trials = [0.5] * (15 << 16), [1.5] * (15 << 16)
    context_hashes, context_slots, inputs = [0] * 15, [0] * 15, [0.3] * 46
    # three mixers with a row of 46 weights for each match length, byte so far and last byte; the
    # final mixer has three weights for each byte so far
    weights, final_weights = [0.07] * (768 * 46), [0.35] * 768
    mixer_rows, mixer_sums, mixer_chances = [0] * 3, [0.0] * 3, [0.0] * 3
    # by last byte, byte so far and 33 steps of the final sum: the chance of a 1 that came of it
    corrections = [squash(i - 16) for i in range(33)] * 65536
    # by hash: where it was last; of the two matches: where in the text they go on, and their lengths
    last_positions, match_positions, match_lengths = [0] * 2**21, [0] * 2, [0] * 2
    # by depth: hash of what stands before the bracket that is open
    bracket_hashes = [0] * (end + 9)
    word_hash = earlier_hash = shape = depth = line_start = code_position = low = high = value = 0
    for position in range(end):
        # Contexts 0 to 5: hashes of the last one to six bytes.
        last_byte = text[position - 1]
        running_hash = 0
        for distance in range(6):
            running_hash = (running_hash + text[position - 1 - distance] + 1) * multiplier % 2**32
            context_hashes[distance] = running_hash

        # Matches: where the text went on after the last four bytes, and after the last six.
        for match in range(2):
            if match_lengths[match] and text[match_positions[match]] == last_byte:
                match_lengths[match] = min(match_lengths[match] + 1, 15)
                match_positions[match] += 1
            else:
                match_lengths[match] = 0
            entry = context_hashes[3 + 2 * match] % 2**20 * 2 + match
            if match_lengths[match] < 1 and last_positions[entry]:
                match_positions[match] = last_positions[entry]
                match_lengths[match] = 1
            last_positions[entry] = position

        # Contexts 6 to 14: words, shapes, brackets, the beginning of the line, the matches.
        context = 6
        for context_value in (
            word_hash,
            word_hash + earlier_hash,
            shape % 2**32,
            shape % 4294967291,
            word_hash + bracket_hashes[depth] + last_byte * 77,
            word_hash + shape % 65536 * multiplier + line_start,
            last_byte + line_start * multiplier,
            (text[match_positions[0]] + 1) * match_lengths[0],
            (text[match_positions[1]] + 1) * match_lengths[1],
        ):
            context_hashes[context] = (context_value % 2**32 + context) * multiplier % 2**32
            context += 1

        byte = 1  # a 1, then the bits of the byte so far
        for bit_number in range(8):
            # Inputs: three of each context, and a constant.
            for context in range(15):
                slot = (
                    context_hashes[context] + byte * 2654435761
                ) % 2**32 * multiplier % 2**32 >> 8
                context_slots[context] = slot
                state = slot_states[slot]
                inputs[context] = stretch[int(slot_chances[slot] * 4096)]
                inputs[15 + context] = (slot_chances[slot] - 0.5) * (state >> 8) * 0.2
                inputs[30 + context] = stretch[int(state_chances[context << 16 | state] * 4096)]

            # Mixers: each weighs the inputs, and the final one weighs the mixers.
            mixer_rows[0] = match_lengths[0]
            mixer_rows[1] = 256 + byte
            mixer_rows[2] = 512 + last_byte
            final_sum = 0.0
            for mixer in range(3):
                mixer_sum = 0.0
                for i in range(46):
                    mixer_sum += inputs[i] * weights[mixer_rows[mixer] * 46 + i]
                mixer_sums[mixer] = mixer_sum
                mixer_chances[mixer] = squash(mixer_sum)
                final_sum += final_weights[byte * 3 + mixer] * mixer_sum
            final_chance = squash(final_sum)

            # Correction: the mean of the mixers' chance and of two neighbours in the table.
            fraction = max(0, min(31.9, final_sum + 16))
            step = int(fraction)
            fraction -= step
            step += (last_byte << 8 | byte) * 33
            one = int(
                (
                    final_chance
                    + corrections[step] * (1 - fraction)
                    + corrections[step + 1] * fraction
                )
                * 32768
            )
            one = max(1, min(65535, one))

            # The bit: known, or decoded from a range whose lower part stands for a 1.
            if position < len(known):
                bit = known[position] >> 7 - bit_number & 1
                chances[position * 8 + bit_number] = one if bit else 65536 - one
            else:
                while low >> 24 == high >> 24:
                    low = low << 8 & 2**32 - 1
                    high = high << 8 & 2**32 - 1 | 255
                    value = value << 8 & 2**32 - 1 | (
                        code[code_position] if code_position < len(code) else 0
                    )
                    code_position += 1
                middle = low + (high - low >> 16) * one
                if value > middle:
                    bit = 0
                    low = middle + 1
                else:
                    bit = 1
                    high = middle

            # Learning, in the order of the way back: corrections, mixers, contexts.
            corrections[step] += (bit - corrections[step]) * (1 - fraction) * 0.03
            corrections[step + 1] += (bit - corrections[step + 1]) * fraction * 0.03
            for mixer in range(3):
                final_weights[byte * 3 + mixer] += (bit - final_chance) * mixer_sums[mixer] * 0.002
                rate = (bit - mixer_chances[mixer]) * 0.006
                for i in range(46):
                    weights[mixer_rows[mixer] * 46 + i] += rate * inputs[i]
            for context in range(15):
                slot = context_slots[context]
                state = slot_states[slot]
                learned = context << 16 | state
                state_chances[learned] += (bit - state_chances[learned]) / state_trials[learned]
                state_trials[learned] = min(state_trials[learned] + 1, 255)
                slot_chances[slot] += (bit - slot_chances[slot]) / ((state >> 8) + 1.4)
                history = state % 256 * 2 + bit
                if history > 255:
                    history = history % 128 + 128
                slot_states[slot] = min((state >> 8) + 1, 30) << 8 | history
            byte += byte + bit

        # What the next byte's contexts are made of: letters and digits are words, the rest shapes.
        byte -= 256
        text[position] = byte
        if 96 < byte | 32 < 123 or 47 < byte < 58 or byte == 95:
            if word_hash < 1:
                shape = shape % 2**32 * 256 + 1
            word_hash = (word_hash + byte) * multiplier % 2**32
        else:
            shape = shape % 2**32 * 256 + byte
            if word_hash:
                earlier_hash = word_hash
            earlier_hash = (earlier_hash + byte) * multiplier % 2**32
            if byte in (40, 91, 123):
                depth += 1
                bracket_hashes[depth] = (word_hash + byte) * multiplier % 2**32
            if depth and byte in (41, 93, 125):
                depth -= 1
            if byte == 10:
                depth = line_start = 0
            word_hash = 0
        if byte > 10 and line_start < 2**20:
            line_start = line_start * 256 + byte
    return text
