"""The pickle inside a torch file, read as a description: a stack machine that calls nothing.

Only the opcodes that data needs exist here. A name that the file refers to stays a name; calling it
makes a description of the call. `pickle.Unpickler` would not do: its memo can be told to grow to
billions of entries, and a bytearray is allocated before its bytes are there.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from squeeze.errors import BadCheckpoint, CorruptData

MAX_SIZE = 16 << 20  # bytes of a pickle; a state dict needs about 150 a tensor
MAX_STEPS = 1 << 21  # opcodes: about 30 for each of the tensors an artifact may hold
MAX_NODES = 1 << 20  # values looked at when tensors are collected
MAX_DEPTH = 32
MAX_NUMBER = 1 << 48  # of a shape, a stride or an offset


@dataclass(frozen=True, slots=True)
class Name:
    """A global the pickle refers to; never imported."""

    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """An object the pickle would make by calling `name`: inert, with the arguments of that call.

    state: what it would be given afterwards, such as the attributes of a module
    """

    name: str
    arguments: Any
    state: list[Any] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Storage:
    """Numbers in another entry of the file: its key, the torch storage's name, how many elements."""

    key: str
    kind: str
    elements: int


@dataclass(frozen=True, slots=True)
class TensorView:
    """A tensor: a view of a storage, offset and strides in elements.

    dtype: torch's name of what an untyped storage holds, such as "float8_e4m3fn"; else "".
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str = ""


_MARK = object()
_TENSORS = ("torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_tensor")
_DICTIONARIES = ("collections OrderedDict", "collections defaultdict", "collections Counter")
_TYPED_TENSOR = "torch._utils _rebuild_tensor_v3"
# A set is described as a list: hashing its members could compare without end.
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_SET": list, "EMPTY_TUPLE": tuple}
_VALUES = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
    "BYTEARRAY8", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
}  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")
_GETS = ("GET", "BINGET", "LONG_BINGET")


def describe(data: bytes | memoryview, what: str) -> Any:
    """Return the object a pickle stands for, of plain containers, Name, Call, Storage and TensorView.

    Nothing in it is compared, hashed or printed but text and small numbers, so it may nest without end.
    Raises CorruptData (truncated, too long, stack empty), BadCheckpoint (an opcode or a tensor that
    no torch file has).
    """
    if len(data) > MAX_SIZE:
        raise CorruptData(f"{what}: pickle too long", expected=f"≤ {MAX_SIZE}", found=len(data))
    return describe_at(data, 0, what)[0]


def describe_at(data: bytes | memoryview, start: int, what: str) -> tuple[Any, int]:
    """Return what `describe` does of the pickle that begins at `start`, and where it ends."""
    machine, stream = _Machine(what), io.BytesIO(data[start : start + MAX_SIZE])
    try:
        for steps, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if steps > MAX_STEPS:
                raise CorruptData(f"{what}: pickle too long", expected=f"≤ {MAX_STEPS} opcodes")
            machine.step(opcode.name, argument)
        return machine.result, start + stream.tell()
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise CorruptData(
            f"{what}: damaged pickle", found=f"{type(error).__name__}: {error}"[:80]
        ) from None


class _Machine:
    def __init__(self, what: str) -> None:
        self.what = what
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.result: Any = None

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _VALUES:
            if isinstance(argument, str) and not argument.isascii():
                # half a surrogate pair cannot be printed
                argument = argument.encode("utf-8", "replace").decode()
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name == "MARK":
            stack.append(_MARK)
        elif name in _PUTS:
            if argument >= MAX_NUMBER:
                raise ValueError("a place in the memo that no pickle has")
            self.memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in _GETS:
            stack.append(self.memo[argument])
        elif count := _TUPLES.get(name):
            self._replace(count, tuple(stack[-count:]))
        elif name in ("TUPLE", "LIST", "FROZENSET", "DICT"):
            items = self._marked()
            if name == "DICT":
                stack.append({})
                self._into(stack[-1], items)
            else:
                stack.append(items if name == "LIST" else tuple(items))
        elif name in ("SETITEM", "SETITEMS"):
            items = [stack.pop(-2), stack.pop()] if name == "SETITEM" else self._marked()
            self._into(stack[-1], items)
        elif name in ("APPEND", "APPENDS", "ADDITEMS"):
            items = [stack.pop()] if name == "APPEND" else self._marked()
            if isinstance(stack[-1], list):
                stack[-1].extend(items)
        elif name == "GLOBAL":
            stack.append(Name(argument))
        elif name == "STACK_GLOBAL":
            second, first = stack.pop(), stack.pop()
            if not (isinstance(first, str) and isinstance(second, str)):
                raise TypeError("a global that is not named by text")
            stack.append(Name(f"{first[:150]} {second[:150]}"))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, callee = stack.pop(), stack.pop()
            stack.append(self._called(callee, arguments))
        elif name == "BUILD":
            state = stack.pop()
            if isinstance(stack[-1], Call):
                stack[-1].state.append(state)
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
        if name in _DICTIONARIES and isinstance(arguments, tuple):
            dictionary: dict[Any, Any] = {}
            for pairs in arguments:
                for pair in pairs if isinstance(pairs, list) else ():
                    self._into(dictionary, list(pair))
            return dictionary
        if name in _TENSORS or name == _TYPED_TENSOR:
            return self._tensor(arguments, name == _TYPED_TENSOR)
        if name == "torch._utils _rebuild_parameter" and isinstance(arguments, tuple):
            return arguments[0]
        return Call(name, arguments)

    def _storage(self, identity: Any) -> Storage | Name:
        match identity:
            case ("module", Name() as made, *_):
                return made  # old files carry the source of its class beside it
            case ("storage", Name(text=kind), str(key), _, int(count), *part):
                # `part`, of old files, is of another storage
                if 0 <= count < MAX_NUMBER and not any(part):
                    return Storage(key, kind.removeprefix("torch "), count)
        raise BadCheckpoint(f"{self.what}: a persistent id that is no storage")

    def _tensor(self, arguments: Any, typed: bool) -> TensorView:
        match arguments:
            case (Storage() as storage, int(offset), tuple(shape), tuple(strides), *rest):
                plain = (offset, *shape, *strides)
                if (
                    all(type(n) is int and 0 <= n < MAX_NUMBER for n in plain)
                    and len(shape) == len(strides) <= 16
                ):
                    dtype = rest[2] if typed and len(rest) > 2 else None
                    kind = dtype.text.removeprefix("torch ") if isinstance(dtype, Name) else ""
                    return TensorView(storage, offset, shape, strides, kind)
        raise BadCheckpoint(f"{self.what}: a tensor with odd arguments")


def _key(value: Any) -> Any:
    """Return a dictionary's key as it is when it is text or a small number, else a stand-in for it."""
    if isinstance(value, str) or value is None:
        return value
    if isinstance(value, int) and abs(value) < MAX_NUMBER:  # larger ones can all have one hash
        return value
    return _Odd()


class _Odd:
    """A key that is neither text nor a small number, equal to no other."""

    def __str__(self) -> str:
        return "?"


def tensors(root: Any, what: str) -> Iterator[tuple[tuple[str, ...], TensorView]]:
    """Yield each tensor below an object with the keys that lead to it, in the object's order."""
    visited: set[int] = set()
    nodes = 0
    waiting: list[Iterator[tuple[tuple[str, ...], Any]]] = [iter([((), root)])]
    while waiting:
        reached = next(waiting[-1], None)
        if reached is None:
            waiting.pop()
            continue
        path, value = reached
        nodes += 1
        if nodes > MAX_NODES:
            raise CorruptData(f"{what}: too many objects", expected=f"≤ {MAX_NODES}")
        if isinstance(value, TensorView):
            yield path, value
        for inner in [*value.state, value.arguments] if isinstance(value, Call) else [value]:
            if isinstance(inner, dict | list | tuple) and id(inner) not in visited:
                visited.add(id(inner))  # a structure that holds itself ends here
                if len(path) < MAX_DEPTH:
                    waiting.append(_inside(path, inner))


def _inside(
    path: tuple[str, ...], value: dict[Any, Any] | list[Any] | tuple[Any, ...]
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the values of a container with their paths; one at a time, for there may be a million."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*path, str(key)[:200]), inner


def calls(root: Any) -> set[str]:
    """Return the names of everything the pickle would call, other than tensors."""
    names: set[str] = set()
    visited: set[int] = set()
    waiting = [root]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Call) and id(value) not in visited:
            visited.add(id(value))
            names.add(value.name)
            waiting += value.state
            value = value.arguments
        if isinstance(value, dict | list | tuple) and id(value) not in visited:
            visited.add(id(value))
            waiting += value.values() if isinstance(value, dict) else value
    return names
