"""Builtins, modules and methods from outside a program, by what a call of them does."""

import sys

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
        "bool bytes bytearray classmethod complex dict enumerate float frozenset getattr hasattr int "
        "len list max memoryview min object pow property range repr reversed round set slice sorted "
        "staticmethod str sum super tuple type zip"
    ).split()
)
VALUE_MODULES = frozenset(
    ("abc collections dataclasses enum itertools math operator string typing types").split()
)
# Functions of other modules that do.
VALUE_FUNCTIONS = {
    "contextlib": frozenset(("ExitStack closing nullcontext suppress").split()),
    "datetime": frozenset(("date", "datetime", "time", "timedelta", "timezone")),
    "functools": frozenset(("cmp_to_key partial partialmethod").split()),
    "logging": frozenset(("getLogger",)),
    "numba": frozenset(("int32 int64 float64 typeof uint8 uint32 uint64").split()),
    "numpy": frozenset(
        "arange array asarray bool_ cumprod diff dtype empty eye finfo float32 float64 "
        "frombuffer full iinfo int16 int32 int64 int8 linspace log2 ones sqrt uint16 uint32 uint64 "
        "uint8 zeros".split()
    ),
    "os": frozenset(
        "environ.get getenv path.abspath path.basename path.dirname path.exists path.join".split()
    ),
    "pathlib": frozenset(("Path PurePath PurePosixPath").split()),
    "re": frozenset(("compile escape").split()),
    "struct": frozenset(("Struct calcsize pack unpack").split()),
    "threading": frozenset(("Condition Event Lock RLock local").split()),
    "time": frozenset(("monotonic perf_counter time").split()),
    "torch": frozenset(
        "Size arange device eye finfo full iinfo linspace ones tensor zeros".split()
    ),
}
# Decorators that only give back a value made of what they decorate, and tell nobody of it.
DECORATORS = frozenset(
    "classmethod property staticmethod abc.abstractmethod contextlib.asynccontextmanager "
    "contextlib.contextmanager dataclasses.dataclass enum.unique functools.cache "
    "functools.cached_property functools.lru_cache functools.total_ordering functools.wraps "
    "numba.guvectorize numba.jit numba.njit numba.vectorize torch._dynamo.disable torch.compile "
    "torch.compiler.disable torch.enable_grad torch.inference_mode torch.no_grad triton.Config "
    "triton.autotune triton.heuristics triton.jit typing.final typing.no_type_check typing.overload "
    "typing.runtime_checkable".split()
)
# Modules whose classes do not act on being inherited from.
BASE_MODULES = frozenset(
    "abc argparse ast collections collections.abc contextlib ctypes dataclasses enum json logging "
    "numbers string threading torch torch.autograd torch.nn torch.optim torch.overrides "
    "torch.utils.data types typing".split()
)
# Functions that decorate and may do anything else, but do not look at annotations or docstrings.
BLIND = frozenset(
    "atexit.register torch.cuda.amp.custom_bwd torch.cuda.amp.custom_fwd "
    "torch.autograd.function.once_differentiable torch.amp.custom_bwd torch.amp.custom_fwd".split()
)
# Modules from outside that look at annotations and docstrings only of what they are handed.
BLIND_MODULES = frozenset(
    "brotli datasets flash_attn flash_attn_interface huggingface_hub numba numpy psutil requests "
    "safetensors scipy sentencepiece tiktoken tokenizers torch tqdm transformers triton "
    "zstandard".split()
) | (
    sys.stdlib_module_names
    - set("cmd code doctest idlelib inspect pdb pydoc trace unittest wsgiref xmlrpc".split())
)
# Modules of the standard library that do something when they are imported.
ACTING_MODULES = frozenset(("antigravity", "readline", "rlcompleter", "site", "this"))
# What torch's modules have, and may call of those derived from them.
MODULE_METHODS = frozenset(
    (
        "_apply _call_impl _get_name _load_from_state_dict _named_members _register_state_dict_hook "
        "_replicate_for_data_parallel _save_to_state_dict _slow_forward add_module apply bfloat16 "
        "buffers children compile cpu cuda double eval extra_repr float forward get_buffer "
        "get_extra_state get_parameter get_submodule half ipu load_state_dict modules mtia "
        "named_buffers named_children named_modules named_parameters parameters register_buffer "
        "register_module register_parameter requires_grad_ reset_parameters set_extra_state "
        "set_submodule share_memory state_dict to to_empty train type xpu zero_grad"
    ).split()
)
