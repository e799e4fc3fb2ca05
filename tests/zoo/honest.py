"""The zoo's honest submission: a bigram table mixed with a cache of what was read, or adapted to it.

Shipped as `train_gpt.py` with the lines below changed: settings for other honest shapes, one line
for each offender. Needs numpy and the copied `protocol.py`, starts in a fifth of a second.
"""

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # threads cost more than they bring at this size

import numpy as np
from protocol import serve

STATEFUL = False  # adapts at test time, in updates of CHUNK targets
ISOLATED = False  # nothing crosses a document's BOS, which is then not predicted
RECURRENT = False  # a fixed recurrence instead of the cache
WINDOW, STRIDE, CHUNK = 64, 64, 32
CACHE, RATE = 0.2, 4.0
BOS = 1

weights = np.load("model.npz")
TABLE = weights["table"].astype(np.float32)  # [V, V] log-probabilities after each token
VOCAB = len(TABLE)
MIXER = np.random.default_rng(0).normal(size=(16, VOCAB)).astype(np.float32) / 4
PIECES = np.load("pieces.npz")


def log_softmax(logits):
    logits = logits - logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def document_of(tokens):
    return np.cumsum(tokens == BOS) if ISOLATED else np.zeros(len(tokens), int)


def read(tokens):
    """Log-probabilities [n, V] after each token of a context."""
    if RECURRENT:
        states, state = [], np.zeros(16, np.float32)
        for token in tokens:
            state = np.tanh(0.9 * state + MIXER[:, token])
            states.append(state)
        return log_softmax(TABLE[tokens] + np.stack(states) @ MIXER)
    same = document_of(tokens)[:, None] == document_of(tokens)[None]
    seen = np.tril(same).astype(np.float32)  # [n, n]: tokens at or before this one
    copied = seen @ np.eye(VOCAB, dtype=np.float32)[tokens] / seen.sum(axis=1, keepdims=True)
    bigram = np.exp(TABLE[tokens])
    bigram /= bigram.sum(axis=1, keepdims=True)
    return np.log((1 - CACHE) * bigram + CACHE * copied)


class Scorer:
    def __init__(self):
        self.bias = np.zeros(VOCAB, np.float32)
        self.reset()

    def hello(self, targets):
        shape = {"chunk": CHUNK} if STATEFUL else {"window": WINDOW, "stride": STRIDE}
        flags = {"stateful": STATEFUL, "isolated": ISOLATED, "scores_bos": not ISOLATED}
        return {"protocol": 1, "vocab_size": VOCAB, **flags, **shape}

    def reset(self):
        self.past = np.zeros(0, np.uint16)
        self.forget()

    def forget(self):
        self.bias = np.zeros(VOCAB, np.float32)
        self.last, self.chunk = None, []

    def feed(self, tokens):
        if STATEFUL:
            return self.adapt(tokens)
        self.past = np.concatenate([self.past, tokens])
        assert len(self.past) <= WINDOW
        return read(self.past)[len(self.past) - len(tokens) :]

    def adapt(self, tokens):
        """Every token is scored, then joins the chunk the next update learns from."""
        rows = np.empty((len(tokens), VOCAB), np.float32)
        for i, token in enumerate(tokens):
            if ISOLATED and token == BOS:
                self.forget()
            elif self.last is not None:
                self.chunk.append((self.last, token))
            if len(self.chunk) == CHUNK:
                self.learn()
            self.last = token
            rows[i] = log_softmax(TABLE[token] + self.bias)
        return rows

    def learn(self):
        """One step on the mean loss of the chunk."""
        before, target = np.array(self.chunk).T
        push = np.exp(log_softmax(TABLE[before] + self.bias)).mean(axis=0)
        push -= np.bincount(target, minlength=VOCAB) / len(target)
        self.bias -= RATE * push.astype(np.float32)
        self.chunk = []

    def losses(self, tokens):
        """Nats of tokens[1:], from a fresh state."""
        self.reset()
        if STATEFUL:
            rows = self.adapt(tokens[:-1])
            return -rows[np.arange(len(rows)), tokens[1:]]
        parts = []
        last = len(tokens) - 1
        begins = [0, *(np.flatnonzero(tokens[1:last] == BOS) + 1)] if ISOLATED else [0]
        for begin, end in zip(begins, [*begins[1:], last], strict=True):
            done = begin
            for start in range(begin, end, STRIDE):
                stop = min(start + WINDOW, end)
                if stop > done:
                    rows = read(tokens[start:stop])[done - start :]
                    parts.append(-rows[np.arange(len(rows)), tokens[done + 1 : stop + 1]])
                    done = stop
        return np.concatenate(parts)

    def report(self, data, tokenizer):
        tokens = np.fromfile(data, "<u2", offset=1024)
        losses = self.losses(tokens)
        before, target = tokens[:-1], tokens[1:]
        sizes = PIECES["base"][target] + (PIECES["space"][target] & ~PIECES["boundary"][before])
        if ISOLATED:
            losses = losses[target != BOS]
        return losses.sum(dtype=np.float64), sizes.sum(), len(losses), losses


if __name__ == "__main__":
    serve(Scorer())
