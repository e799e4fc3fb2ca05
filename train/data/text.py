"""Text without a download, which is the documentation that ships with Python, and tokenizers for it."""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import os
import sysconfig
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from squeeze.errors import BadData
from squeeze.files import write_atomic

SKIPPED_FOLDERS = {"test", "tests", "site-packages", "dist-packages", "lib2to3", "__pycache__"}
PAD, BOS, EOS, UNKNOWN = range(4)  # control pieces, numbered as in the challenge's tokenizers


def python_docs_text() -> list[str]:
    """Return documents: the topics of the language reference, then the docstrings of each module.

    The order depends only on the Python installation; about 2.3 MB on CPython 3.11.
    """
    documents = []
    with contextlib.suppress(ImportError):  # some distributions leave it out
        from pydoc_data.topics import topics

        documents += [topics[name] for name in sorted(topics)]
    library = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(path.relative_to(library) for path in library.rglob("*.py"))
    for file in files:
        if not SKIPPED_FOLDERS.intersection(file.parts):
            documents.append(_docstrings(library / file))
    return [text for text in documents if text]


def _docstrings(path: Path) -> str:
    """Return all docstrings of a source file in order, a blank line between; empty if it has none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's strings
            tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return ""
    holders = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = []
    for node in ast.walk(tree):
        if isinstance(node, holders) and (text := ast.get_docstring(node, clean=False)):
            name = path.stem if isinstance(node, ast.Module) else node.name
            texts.append((getattr(node, "lineno", 0), f"{name}\n{inspect.cleandoc(text)}"))
    return "\n\n".join(text for _, text in sorted(texts))


def train_tokenizer(texts: Iterable[str], vocab_size: int, path: str | os.PathLike[str]) -> None:
    """Train a byte-fallback BPE tokenizer like the challenge's and write it to path.

    Text is left as it is (no normalisation, no added prefix), so decoding gives back every byte.
    Raises BadData when the text is too little for vocab_size, SqueezeError when path cannot be written.
    """
    import sentencepiece

    lines = (line for text in texts for line in text.split("\n") if line)
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=lines,
            model_writer=model,
            vocab_size=vocab_size,
            model_type="bpe",
            byte_fallback=True,
            character_coverage=0.9995,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=False,
            pad_id=PAD,
            bos_id=BOS,
            eos_id=EOS,
            unk_id=UNKNOWN,
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise BadData(
            f"no tokenizer of {vocab_size} pieces can be trained on this text",
            found=str(error).splitlines()[-1][:200],
            fix="Give more text or ask for another vocabulary size.",
        ) from None
    write_atomic(path, model.getvalue())


def encode_documents(
    texts: Sequence[str], tokenizer: str | os.PathLike[str]
) -> npt.NDArray[np.uint16]:
    """Return tokens uint16 [n] of documents, each behind a BOS, as in the challenge's shards.

    Raises BadData for a file that is no tokenizer, or one that cannot make shards.
    """
    import sentencepiece

    try:
        pieces = sentencepiece.SentencePieceProcessor(model_file=os.fspath(tokenizer))
    except (OSError, RuntimeError):
        raise BadData(f"{tokenizer}: not a tokenizer", expected="a sentencepiece .model") from None
    if pieces.vocab_size() > 1 << 16 or pieces.bos_id() < 0:
        raise BadData(
            f"{tokenizer}: cannot make shards",
            expected="at most 65536 pieces, one of them BOS",
            found=f"{pieces.vocab_size()} pieces, BOS {pieces.bos_id()}",
        )
    encoded = [pieces.encode(text, add_bos=True) for text in texts]
    return np.array([token for document in encoded for token in document], np.uint16)
