"""Builtins, modules and methods from outside a program, by what a call of them does."""

# Builtins that have no effects, whenever they are called.
BUILTINS = frozenset(
    (
        "abs all any bool bytes complex dict divmod enumerate float frozenset hasattr int "
        "isinstance issubclass len list max min pow range repr reversed round set slice sorted "
        "str sum tuple type zip"
    ).split()
)
MODULES = frozenset(("math", "operator", "posixpath"))
# Functions without effects, of modules that also have others.
FUNCTIONS_OF = {
    "numpy": frozenset(
        "all any arange argmax array_equal diff dtype iinfo finfo isfinite isnan max min prod sort "
        "unique".split()
    ),
    "torch": frozenset("isfinite isnan is_tensor is_grad_enabled finfo iinfo".split()),
    "os": frozenset(("path",)),
    "dataclasses": frozenset(("fields", "asdict", "is_dataclass")),
}
# Methods that have no effects whatever outside object they are of.
METHODS = frozenset(
    (
        "all any astype bit_length count dim encode endswith exists find flatten get hex index "
        "is_dir is_file isascii isdigit isfinite isidentifier item items join keys lower max min "
        "numel partition ravel removeprefix reshape rpartition size split startswith strip sum "
        "tolist upper values"
    ).split()
)
# What these go through could be an iterator, whose next value is another one after that.
CONSUMERS = frozenset(("all any bytes dict frozenset list max min set sorted sum tuple").split())
LAZY = frozenset(("enumerate", "reversed", "zip"))
VIEWS = frozenset(("items", "keys", "partition", "rpartition", "split", "tolist", "values"))

# Builtins, and modules whose functions, only make a value when a module is run: such a definition
# goes when its name is not read.
VALUE_BUILTINS = frozenset(
    (
        "bool bytes bytearray classmethod complex dict enumerate float frozenset int len list max "
        "memoryview min object pow property range repr reversed round set slice sorted "
        "staticmethod str sum super tuple type zip"
    ).split()
)
VALUE_MODULES = frozenset(
    (
        "abc collections contextlib dataclasses enum functools itertools logging math numba numpy "
        "operator pathlib re struct torch types typing"
    ).split()
)
# Functions of those modules that have effects all the same.
ACTING = frozenset(("seed", "manual_seed", "seterr", "basicConfig", "register"))
