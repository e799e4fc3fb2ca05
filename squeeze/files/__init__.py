"""Reading and writing whole files, the safe way. A leaf beside `squeeze.errors`."""

from squeeze.files.outputs import (
    cache_beside,
    check_output_folder,
    check_outputs,
    check_outside,
    check_replaceable,
    kind_of,
    output_beside,
)
from squeeze.files.reading import (
    MAX_FILE,
    Remembering,
    file_sha256,
    hash_of,
    of_file,
    parse_json,
    read_file,
    read_json,
    sha256,
)
from squeeze.files.writing import (
    atomic_writer,
    held,
    make_folder,
    remove_files,
    scratch_folder,
    write_atomic,
)

__all__ = [
    "MAX_FILE",
    "Remembering",
    "atomic_writer",
    "cache_beside",
    "check_output_folder",
    "check_outputs",
    "check_outside",
    "check_replaceable",
    "file_sha256",
    "hash_of",
    "held",
    "kind_of",
    "make_folder",
    "of_file",
    "output_beside",
    "parse_json",
    "read_file",
    "read_json",
    "remove_files",
    "scratch_folder",
    "sha256",
    "write_atomic",
]
