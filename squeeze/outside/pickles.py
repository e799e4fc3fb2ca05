"""The pickle inside a torch file, read as a description: a stack machine that calls nothing.

Only the opcodes that data needs exist here. A name that the file refers to stays a name; calling it
makes a description of the call. `pickle.Unpickler` would not do: its memo can be told to grow to
billions of entries, and a bytearray is allocated before its bytes are there.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from squeeze.errors import BadCheckpoint, CorruptData

MAX_SIZE = 64 << 20  # bytes of a pickle
MAX_STEPS = 4_000_000  # opcodes; a state dict needs about 60 a tensor
MAX_NODES = 1 << 20  # values looked at when tensors are collected
MAX_DEPTH = 32


@dataclass(frozen=True)
class Name:
    """A global the pickle refers to; never imported."""

    text: str


@dataclass(frozen=True)
class Call:
    """An object the pickle would make by calling `name`: inert, with what it was given."""

    name: str
    arguments: Any


@dataclass(frozen=True)
class Storage:
    """Numbers in another entry of the file: its key, the torch storage's name, how many elements."""

    key: str
    kind: str
    elements: int


@dataclass(frozen=True)
class TensorView:
    """A tensor: a view of a storage, offset and strides in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


_MARK = object()
_TENSORS = ("torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_tensor")
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_SET": set, "EMPTY_TUPLE": tuple}
_VALUES = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
    "BYTEARRAY8", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
}  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")
_GETS = ("GET", "BINGET", "LONG_BINGET")


def describe(data: bytes, what: str) -> Any:
    """The object a pickle stands for, of plain containers, Call, Storage and TensorView.

    Raises CorruptData (truncated, too long, stack empty), BadCheckpoint (an opcode or a tensor that
    no torch file has).
    """
    if len(data) > MAX_SIZE:
        raise CorruptData(f"{what}: pickle too long", expected=f"≤ {MAX_SIZE}", found=len(data))
    machine = _Machine(what)
    try:
        for steps, (opcode, argument, _) in enumerate(pickletools.genops(io.BytesIO(data))):
            if steps > MAX_STEPS:
                raise CorruptData(f"{what}: pickle too long", expected=f"≤ {MAX_STEPS} opcodes")
            machine.step(opcode.name, argument)
        return machine.result
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise CorruptData(
            f"{what}: damaged pickle", found=f"{type(error).__name__}: {error}"[:80]
        ) from None
    except RecursionError:  # comparing or hashing a key nested too deep
        raise CorruptData(f"{what}: pickle nested too deep") from None


class _Machine:
    def __init__(self, what: str) -> None:
        self.what = what
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.result: Any = None

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name == "MARK":
            stack.append(_MARK)
        elif name in _PUTS:
            self.memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in _GETS:
            stack.append(self.memo[argument])
        elif name in _TUPLES:
            count = _TUPLES[name]
            self._replace(count, tuple(stack[-count:]))
        elif name in ("TUPLE", "LIST", "FROZENSET", "DICT"):
            items = self._marked()
            stack.append(
                dict(zip(items[::2], items[1::2], strict=True)) if name == "DICT"
                else list(items) if name == "LIST"
                else tuple(items)
            )  # fmt: skip
        elif name in ("SETITEM", "SETITEMS"):
            items = [stack.pop(-2), stack.pop()] if name == "SETITEM" else self._marked()
            self._into(stack[-1], items)
        elif name in ("APPEND", "APPENDS", "ADDITEMS"):
            items = [stack.pop()] if name == "APPEND" else self._marked()
            if isinstance(stack[-1], list):
                stack[-1].extend(items)
            elif isinstance(stack[-1], set):
                stack[-1].update(map(_key, items))
        elif name == "GLOBAL":
            stack.append(Name(argument))
        elif name == "STACK_GLOBAL":
            second, first = stack.pop(), stack.pop()
            stack.append(Name(f"{first} {second}"[:300]))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, callee = stack.pop(), stack.pop()
            stack.append(self._called(callee, arguments))
        elif name == "BUILD":
            stack.pop()  # attributes of an object that is only described
        elif name == "BINPERSID":
            stack.append(self._storage(stack.pop()))
        elif name == "STOP":
            self.result = stack.pop()
        elif name == "POP":
            stack.pop()
        elif name not in ("PROTO", "FRAME"):
            raise BadCheckpoint(f"{self.what}: opcode {name} has no place in a torch file")

    def _marked(self) -> list[Any]:
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise IndexError("no mark")
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    def _replace(self, count: int, value: Any) -> None:
        if len(self.stack) < count:
            raise IndexError("stack empty")
        del self.stack[-count:]
        self.stack.append(value)

    def _into(self, target: Any, items: list[Any]) -> None:
        if isinstance(target, dict):
            target.update(zip(map(_key, items[::2]), items[1::2], strict=True))
        elif not isinstance(target, Call):
            raise TypeError("items of something that has none")

    def _called(self, callee: Any, arguments: Any) -> Any:
        name = callee.text if isinstance(callee, Name) else "an object"
        if name == "collections OrderedDict" and arguments == ():
            return {}
        if name in _TENSORS:
            return self._tensor(arguments)
        if name == "torch._utils _rebuild_parameter" and isinstance(arguments, tuple):
            return arguments[0]
        return Call(name, arguments)

    def _storage(self, given: Any) -> Storage:
        match given:
            case ("storage", Name(text=kind), str(key), _, int(count), *_) if count >= 0:
                return Storage(key, kind.removeprefix("torch "), count)
        raise BadCheckpoint(f"{self.what}: a persistent id that is no storage")

    def _tensor(self, given: Any) -> TensorView:
        match given:
            case (Storage() as storage, int(offset), tuple(shape), tuple(strides), *_):
                plain = (offset, *shape, *strides)
                if (
                    all(type(n) is int and 0 <= n < 1 << 48 for n in plain)
                    and len(shape) == len(strides) <= 16
                ):
                    return TensorView(storage, offset, shape, strides)
        raise BadCheckpoint(f"{self.what}: a tensor with odd arguments")


def _key(value: Any) -> Any:
    """A dictionary key: itself when it is a plain scalar, else a fresh stand-in."""
    return (
        value if isinstance(value, str | int | float | bytes | bool) or value is None else object()
    )


def tensors(root: Any, what: str) -> Iterator[tuple[tuple[str, ...], TensorView]]:
    """(keys that lead there, tensor) for every tensor below an object, in its order."""
    seen: set[int] = set()
    nodes = 0
    waiting: list[tuple[tuple[str, ...], Any]] = [((), root)]
    while waiting:
        path, value = waiting.pop()
        nodes += 1
        if nodes > MAX_NODES:
            raise CorruptData(f"{what}: too many objects", expected=f"≤ {MAX_NODES}")
        if isinstance(value, TensorView):
            yield path, value
            continue
        if isinstance(value, Call):
            value = value.arguments
        if not isinstance(value, dict | list | tuple) or id(value) in seen:
            continue
        seen.add(id(value))  # a structure that holds itself ends here
        if len(path) < MAX_DEPTH:
            pairs = list(value.items() if isinstance(value, dict) else enumerate(value))
            waiting += [((*path, str(key)[:200]), inner) for key, inner in reversed(pairs)]


def calls(root: Any) -> set[str]:
    """Names of everything the pickle would call, other than tensors."""
    found: set[str] = set()
    seen: set[int] = set()
    waiting = [root]
    while waiting and len(seen) < MAX_NODES:
        value = waiting.pop()
        if isinstance(value, Call):
            found.add(value.name)
            value = value.arguments
        if isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            waiting += value.values() if isinstance(value, dict) else value
    return found
